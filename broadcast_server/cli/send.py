"""The send command: publishes one message, and prints how many connections it went to."""

from __future__ import annotations

import argparse
import sys
import threading
from queue import Empty, SimpleQueue
from time import monotonic

from broadcast_server.client.publish_result import Accepted
from broadcast_server.client.publisher import HTTPPublisher, PublishFailed
from broadcast_server.client.target import Target
from broadcast_server.console.argument import argument_text
from broadcast_server.console.os_error import describe_os_error
from broadcast_server.console.streams import note, print_result
from broadcast_server.pipe.shown_line import shown_line
from broadcast_server.protocol.sanitize import escape_control, strip_control

MAX_TEXT_BYTES = 2**17
"""Bytes of a message; more than any server accepts."""


def send(options: argparse.Namespace, target: Target) -> int:
    """Run `send` with its *options*, and return the exit code."""
    end = monotonic() + options.timeout
    try:
        text = _read_text() if options.text == "-" else argument_text(options.text)
    except OSError as error:
        note(f"could not read standard input: {describe_os_error(error)}")
        return 1
    if text is None:
        too_long = f"message is over {MAX_TEXT_BYTES} bytes, more than any server accepts"
        note(str(PublishFailed(too_long)))
        return 1
    text = "\n".join(map(shown_line, text.split("\n")))  # of a progress bar, what is left
    publisher = HTTPPublisher(
        target,
        options.name,
        options.room,
        require=options.require,
        note=lambda why: note(f"* {why}, trying for {options.timeout} s"),
    )
    publisher.deadline = end
    try:
        accepted = _publish_until(publisher, text, end)
    except PublishFailed as error:
        note(str(error))
        return 1
    requested = options.name or target.query.get("name")
    # From here on nothing is a failure: a script would publish the message again.
    if options.json:
        print_result(escape_control(accepted.line), "utf-8")  # RFC 8259, section 8.1
    else:
        print_result(sent_text(accepted, requested))
    return 0


def sent_text(accepted: Accepted, requested_name: str | None) -> str:
    """Return to how many connections a message went, and its name if it is not the requested."""
    name = "" if requested_name in (None, accepted.name) else f" as {accepted.name}"
    return strip_control(f"sent to {accepted.receivers} in {accepted.room}{name}")


def _read_text() -> str | None:
    """Read standard input to its end; return None if it is too long. Raises OSError."""
    if sys.stdin is None:
        return ""
    data = sys.stdin.buffer.read(MAX_TEXT_BYTES + 1)
    return data.decode(errors="replace") if len(data) <= MAX_TEXT_BYTES else None


def _publish_until(publisher: HTTPPublisher, text: str, end: float) -> Accepted:
    """Publish *text*, at the latest at *end* by the monotonic clock. Raises PublishFailed."""
    results: SimpleQueue[Accepted | PublishFailed] = SimpleQueue()

    def publish() -> None:
        try:
            results.put(publisher.publish(text))
        except PublishFailed as error:
            results.put(error)

    # A thread, because a DNS lookup can block for half a minute; it is abandoned then.
    threading.Thread(target=publish, daemon=True).start()
    try:
        result = results.get(timeout=max(0.0, end - monotonic()) + 0.2)
    except Empty:
        raise PublishFailed("no answer in time", sure=not publisher.maybe_published) from None
    if isinstance(result, PublishFailed):
        raise result
    return result
