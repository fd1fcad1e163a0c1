"""The send command: publishes one message, and prints how many connections it went to."""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from time import monotonic

from broadcast_server.client.fitting_publisher import FittingPublisher
from broadcast_server.client.oversize import CUT
from broadcast_server.client.publish_result import Accepted
from broadcast_server.client.publisher import HTTPPublisher, PublishFailed
from broadcast_server.client.target import Target
from broadcast_server.console.argument import argument_text
from broadcast_server.console.os_error import describe_os_error
from broadcast_server.console.streams import note, print_result
from broadcast_server.pipe.shown_line import shown_line
from broadcast_server.protocol.sanitize import escape_control, strip_control

MAX_TEXT_BYTES = 2**24
"""Bytes of a text, which may become several messages; as many as a room keeps."""

MAX_CUT_BYTES = 2**17
"""Bytes of a text of which only the beginning is sent; more than any server accepts."""


def send(options: argparse.Namespace, target: Target) -> int:
    """Run `send` with its *options*, and return the exit code."""
    end = monotonic() + options.timeout
    try:
        text = _read_text(options.oversize) if options.text == "-" else argument_text(options.text)
    except OSError as error:
        note(f"could not read standard input: {describe_os_error(error)}")
        return 1
    if text is None:
        too_long = f"text is over {MAX_TEXT_BYTES} bytes, more than a room keeps"
        note(str(PublishFailed(f"{too_long} (--oversize cut sends its beginning)")))
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
    accepted: list[Accepted] = []
    failure = ""
    try:
        accepted.extend(_publish_all(publisher, text, options))
    except PublishFailed as error:
        failure = str(error)
    requested = options.name or target.query.get("name")
    # Output that fails is no failure: a script would publish the message again.
    if options.json:
        for each in accepted:
            print_result(escape_control(each.line), "utf-8")  # RFC 8259, section 8.1
    elif accepted and not failure:
        print_result(sent_text(accepted[-1], requested, len(accepted)))
    if failure:
        note(failure)
    return 1 if failure else 0


def sent_text(accepted: Accepted, requested_name: str | None, count: int = 1) -> str:
    """Return to how many connections a text went, and its name if it is not the requested.

    *count* is how many messages it became, of which the last one was *accepted*.
    """
    name = "" if requested_name in (None, accepted.name) else f" as {accepted.name}"
    parts = f", in {count} messages" if count > 1 else ""
    return strip_control(f"sent to {accepted.receivers} in {accepted.room}{name}{parts}")


def _read_text(oversize: str) -> str | None:
    """Read standard input to its end; return None if it is too long. Raises OSError."""
    if sys.stdin is None:
        return ""
    limit = MAX_CUT_BYTES if oversize == CUT else MAX_TEXT_BYTES
    data = sys.stdin.buffer.read(limit + 4)
    if len(data) <= limit or oversize == CUT:
        return data.decode(errors="replace")
    return None


def _publish_all(
    publisher: HTTPPublisher, text: str, options: argparse.Namespace
) -> Iterator[Accepted]:
    """Publish *text*, and yield the result of each message it becomes. Raises PublishFailed.

    Each message has the time that *options* give.
    """
    results: SimpleQueue[Accepted | PublishFailed | None] = SimpleQueue()

    def publish() -> None:
        try:
            for accepted in FittingPublisher(publisher, options.oversize).publish(text):
                publisher.deadline = monotonic() + options.timeout
                results.put(accepted)
            results.put(None)
        except PublishFailed as error:
            results.put(error)

    # A thread, because a DNS lookup can block for half a minute; it is abandoned then.
    threading.Thread(target=publish, daemon=True).start()
    count = 0
    while True:
        try:
            result = results.get(timeout=max(0.0, publisher.deadline - monotonic()) + 0.2)
        except Empty:
            failed = PublishFailed("no answer in time", sure=not publisher.maybe_published)
            raise (failed.after(count) if count else failed) from None
        if isinstance(result, PublishFailed):
            raise result
        if result is None:
            return
        count += 1
        yield result
