"""The sending of one message: what `send` does."""

from __future__ import annotations

import argparse
import os
import sys
import threading
from queue import Empty, SimpleQueue
from time import monotonic

from .courier import Courier, NotSaid
from .reply import Taken
from .safe import safe_json, safe_text
from .streams import no_output, note, reason
from .target import Target

LONGEST = 2**17
"""Bytes; more than any server takes."""


def send(options: argparse.Namespace, target: Target) -> int:
    """Say what the *options* of `send` say, and return the exit code."""
    end = monotonic() + options.timeout
    try:
        text = (
            _input() if options.text == "-" else os.fsencode(options.text).decode(errors="replace")
        )
    except OSError as error:
        note(f"could not read standard input: {reason(error)}")
        return 1
    if text is None:
        note(f"not said: it is over {LONGEST} bytes, which no server takes")
        return 1
    courier = Courier(
        target,
        options.name,
        options.room,
        require=options.require,
        note=lambda why: note(f"* {why}, trying for {options.timeout} s"),
    )
    courier.deadline = end
    try:
        taken = _brought(courier, text, end)
    except NotSaid as error:
        note(str(error))
        return 1
    asked = options.name or target.query.get("name")
    return _print(safe_json(taken.line) if options.json else said_words(taken, asked))


def said_words(taken: Taken, asked: str | None) -> str:
    """Say to how many a message went, and under which name if another was *asked* for."""
    name = "" if asked in (None, taken.name) else f" as {taken.name}"
    return safe_text(f"said to {taken.count} in {taken.room}{name}")


def _input() -> str | None:
    """Return what standard input has, None if that is too much. Raises OSError."""
    if sys.stdin is None:
        return ""
    data = sys.stdin.buffer.read(LONGEST + 1)
    return data.decode(errors="replace") if len(data) <= LONGEST else None


def _brought(courier: Courier, text: str, end: float) -> Taken:
    """Have *text* brought, and wait until *end*, whatever holds it up. Raises `NotSaid`."""
    fate: SimpleQueue[Taken | NotSaid] = SimpleQueue()

    def bring() -> None:
        try:
            fate.put(courier.bring(text))
        except NotSaid as error:
            fate.put(error)

    # It may hang in a look-up of the host for half a minute, and is left behind then.
    threading.Thread(target=bring, daemon=True).start()
    try:
        found = fate.get(timeout=max(0.0, end - monotonic()) + 0.2)
    except Empty:
        raise NotSaid("no answer in time", sure=not courier.unsure) from None
    if isinstance(found, NotSaid):
        raise found
    return found


def _print(line: str) -> int:
    if sys.stdout is None:
        return 0
    try:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        return 0
    except OSError as error:
        note(no_output(error))
        return 1
    return 0
