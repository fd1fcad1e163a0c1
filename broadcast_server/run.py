"""A run of a command of which a room is told: when it begins, and how it ends.

The command is what matters. It begins at once, has our streams and what else is open, is
passed the signals that we get, and its exit code is ours. The room is told meanwhile, by a
thread, and a room that cannot be told is worth one line.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING

from .ending import command_words, ended_words, lasted_words
from .streams import note, reason
from .target import Target

if TYPE_CHECKING:
    from .courier import Courier

NOT_FOUND, NOT_RUN, KILLED = 127, 126, 128
"""Exit codes, as a shell has them; to the last is added the signal's number."""

TYPED = ("SIGINT", "SIGQUIT")
"""Signals of keys, which reach all that runs at the terminal."""

PASSED_ON = (*TYPED, "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")


def run(options: argparse.Namespace, target: Target) -> int:
    """Run the command of the *options* of `run`, and return its exit code."""
    command, teller = Command(options.exec), Teller(lambda: _courier(options, target))
    label = " ".join((options.label or "").split()) or command_words(options.exec)
    with command.signals(teller.give_up):
        began = monotonic()
        try:
            process = command.start()
        except OSError as error:
            code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_RUN
            why = "command not found" if code == NOT_FOUND else reason(error)
            note(f"broadcast-server run: {options.exec[0]}: {why}")
            how = f"did not start: {why}"
        else:
            if not options.only_failures:
                teller.tell(f"started: {label}")
            code = command.wait(process)
            how = f"{ended_words(code)} after {lasted_words(monotonic() - began)}"
        if code or not options.only_failures:
            teller.tell(f"{label} {how}")
        if problem := teller.end(options.timeout):
            note(f"* the room was not told: {problem}")
    return KILLED - code if code < 0 else code


def _courier(options: argparse.Namespace, target: Target) -> Courier:
    from .courier import Courier

    return Courier(target, options.name, options.room)


class Command:
    """A command that runs as if we were not there."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []  # signals that came before there was anyone to get them
        self._ended = False

    @contextmanager
    def signals(self, afterwards: Callable[[], None]) -> Iterator[None]:
        """Pass signals on to the command, while this lasts; when it has ended call *afterwards*."""

        def pass_on(number: int, _: FrameType | None) -> None:
            if self._ended:
                afterwards()
            elif self._process is None:
                self._early.append(number)
            elif number not in typed or not _is_typed_to_all():
                self._process.send_signal(number)

        known = [getattr(signal, name) for name in PASSED_ON if hasattr(signal, name)]
        typed = {getattr(signal, name) for name in TYPED if hasattr(signal, name)}
        # What is ignored, under nohup or in the background, is so for the command as well.
        before = {
            number: handler
            for number in known
            if (handler := signal.getsignal(number)) is not signal.SIG_IGN
        }
        for number in before:
            signal.signal(number, pass_on)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler or signal.SIG_DFL)

    def start(self) -> subprocess.Popen[bytes]:
        """Start it. Raises OSError."""
        # What is open for us, like the pipe of a make's jobs, is so for the command.
        self._process = subprocess.Popen(self._words, close_fds=False)
        for number in self._early:
            self._process.send_signal(number)
        return self._process

    def wait(self, process: subprocess.Popen[bytes]) -> int:
        """Return how it ended: its exit code, or the number of a signal below zero."""
        code = process.wait()
        self._ended = True
        return code


def _is_typed_to_all() -> bool:
    """Tell whether a key's signal came to the command by itself: all this runs at a terminal."""
    if sys.platform == "win32":
        return True
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


class Teller:
    """Tells a room what there is to tell, in a thread of its own."""

    def __init__(self, courier: Callable[[], Courier]) -> None:
        self._make = courier
        self._courier: Courier | None = None
        self._texts: SimpleQueue[str | None] = SimpleQueue()
        self._problem = ""
        self._done = threading.Event()
        self._gave_up = False

    def tell(self, text: str) -> None:
        """Tell *text* as soon as that is possible."""
        self._texts.put(text)
        if self._courier is None:  # only now, when the command runs
            self._courier = self._make()
            threading.Thread(target=self._run, args=(self._courier,), daemon=True).start()

    def end(self, seconds: float) -> str:
        """Wait so long at the most until all is told; return why it was not."""
        if self._courier is None:
            return ""
        self._texts.put(None)
        self._courier.hurry(seconds)
        done = self._done.wait(seconds + 0.2)
        if self._gave_up:
            return "interrupted"
        return self._problem if done else self._problem or "no answer in time"

    def give_up(self) -> None:
        """Wait no longer: somebody wants to leave."""
        self._gave_up = True
        self._done.set()

    def _run(self, courier: Courier) -> None:
        from .courier import NotSaid

        while (text := self._texts.get()) is not None:
            try:
                courier.bring(text)
            except NotSaid as error:
                self._problem = self._problem or error.why
        self._done.set()
