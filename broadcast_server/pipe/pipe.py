"""The pipe: `connect` without a terminal.

Each line of standard input is a message, as a terminal would show it at its end. What happens in
the room goes to a `Sink`: standard output (`Printer`), or a command that is run for each message
(`ExecSink`). Notices about the connection go to standard error. At the end of the input the pipe
waits until every message is confirmed by its echo, and then leaves.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any, Protocol

from broadcast_server.client.client import ClientError, ReconnectingClient
from broadcast_server.client.oversize import CUT, SPLIT
from broadcast_server.client.report_texts import left_early_text
from broadcast_server.console.os_error import describe_os_error
from broadcast_server.console.signals import handle_signals
from broadcast_server.console.stdio import read_stdin
from broadcast_server.console.streams import note, stdout_error
from broadcast_server.protocol.messages import Cursor, Error, Event, Welcome

from .cursor_file import CursorFileError
from .line_splitter import LineSplitter
from .message_filter import MessageFilter
from .progress import (
    REFRESH_INTERVAL_S,
    ProgressGate,
    ProgressLine,
    input_size,
    is_progress_wanted,
    progress_text,
)

TIMEOUT_EXIT = 124
"""Exit code when the time was over, as that of timeout(1)."""


class Sink(Protocol):
    """Where a pipe sends the events of the room. Both sinks are a `WorkQueue`.

    The pipe starts `run` as a task, and waits for `wait_idle` before it takes more events.
    """

    open: bool
    """Whether events are still accepted: False once the reader is gone, or `run` has failed."""

    @property
    def is_idle(self) -> bool:
        """Whether every event is handled, or the sink is closed."""

    def handle(self, events: list[Event]) -> None:
        """Queue *events*."""

    async def wait_idle(self) -> None:
        """Wait until every event is handled, or the sink is closed."""

    def finish(self) -> None:
        """Prepare to leave: end soon, even if the reader or the command does not respond."""

    async def run(self) -> None:
        """Handle events until the sink is closed."""


class Pipe:
    """The event sink of a client: publishes standard input, and forwards events to *sink*.

    Args:
        client: The client that takes part in the room.
        sink: Where events go.
        listen: Whether to stay in the room after the end of the input.
        save_cursor: Called with the position in the log each time the sink has handled all events.
        wanted: Selects the events that go to the sink. When it is done, the pipe reads no more
            input, waits until what it has sent is confirmed, and leaves.
        timeout: Seconds after which the pipe leaves; None: it stays.
        oversize: What to do with a line over the server's limit: one of `OVERSIZE`.
    """

    def __init__(
        self,
        client: ReconnectingClient,
        sink: Sink,
        *,
        listen: bool,
        save_cursor: Callable[[Cursor], None] | None = None,
        wanted: MessageFilter | None = None,
        timeout: float | None = None,
        oversize: str = SPLIT,
    ) -> None:
        self._client = client
        self._oversize = client.session.outbox.oversize = oversize
        self._sink = sink
        self._listen = listen
        self._save_cursor = save_cursor
        self._wanted = wanted or MessageFilter()
        self._got_all = asyncio.Event()  # `_wanted` is done
        self._timeout = timeout
        self._timed_out = False
        self._read_bytes = 0
        self._progress = ProgressLine()
        self._failed = False  # part of the input was not sent
        self._interrupted = False
        self._has_joined = False
        self._is_away = False  # and a line on standard error says so

    # -- called by the client --

    def show(self, events: list[Event]) -> None:
        """Forward *events* to the sink, and report errors on standard error."""
        for event in events:
            if isinstance(event, Error):
                self._say(event.text)
            elif isinstance(event, Welcome):
                if self._is_away:
                    self._say("connected again" if self._has_joined else "connected")
                self._has_joined, self._is_away = True, False
        self._progress.clear()
        session = self._client.session
        epoch = session.cursor.epoch if session.cursor else ""
        self._sink.handle(self._wanted.select(events, session.name, epoch))
        if self._wanted.done:
            self._got_all.set()

    def note(self, text: str) -> None:
        """Write to standard error that there is no connection, and why."""
        self._is_away = True
        self._say(text)

    def _say(self, text: str) -> None:
        """Write a notice to standard error."""
        self._progress.clear()
        note(f"* {text}")

    async def drain(self) -> None:
        """Wait until the sink has handled all events, and save the position in the log.

        Raises CursorFileError.
        """
        await self._sink.wait_idle()
        cursor = self._wanted.limit(self._client.session.cursor)
        if self._save_cursor is not None and self._sink.open and cursor is not None:
            self._save_cursor(cursor)

    # -- the run --

    async def run(self) -> int:
        """Take part in the room until the input has ended, and return the exit code."""
        client, sink = self._client, self._sink
        size = input_size()  # before anything is read: it is what is left of the file
        got_all = asyncio.ensure_future(self._got_all.wait())
        sending = asyncio.ensure_future(self._send_until_done(got_all))
        handling = asyncio.ensure_future(sink.run())
        progress = asyncio.ensure_future(self._show_progress(size))

        def one_ended(_: asyncio.Future[Any]) -> None:
            # If the reader is gone, as after `| head -1`, the rest of the input is still sent. A
            # pipe that has sent its input stays only to listen, and only while there is a reader.
            stays = self._listen and sink.open and not self._wanted.done
            is_finished = sending.done() and not stays
            if is_finished or _could_not_save(handling):
                client.leave()

        sending.add_done_callback(one_ended)
        handling.add_done_callback(one_ended)
        got_all.add_done_callback(one_ended)
        failure = ""
        timer = None
        if self._timeout is not None:
            timer = asyncio.get_running_loop().call_later(self._timeout, self._time_out)
        with handle_signals(self._interrupt):
            try:
                await client.run(self)
            except (ClientError, CursorFileError) as error:
                failure = str(error)
            finally:
                if timer is not None:
                    timer.cancel()
                progress.cancel()
                self._progress.clear()
            try:
                await self.drain()
            except CursorFileError as error:
                failure = failure or str(error)
            finally:
                tasks = {sending, handling, got_all}
                for task in tasks:
                    task.cancel()
                await asyncio.wait({*tasks, progress})
        if not sending.cancelled():
            sending.result()
        failure = failure or _sink_failure(handling)
        if not failure and len(client.session):
            failure = left_early_text(len(client.session))
        if failure:
            note(failure)
        never_joined = self._interrupted and not self._has_joined
        if failure or never_joined or self._failed or client.session.rejected:
            return 1
        return TIMEOUT_EXIT if self._timed_out else 0

    def _interrupt(self) -> None:
        self._interrupted = True
        self._client.leave()
        self._sink.finish()

    def _time_out(self) -> None:
        if not self._wanted.done:
            self._timed_out = True
            self._say(f"left after {self._timeout:g} s{self._wanted.progress()}")
        self._client.leave()
        self._sink.finish()

    async def _send_until_done(self, got_all: asyncio.Future[Any]) -> None:
        """Publish the input until *got_all*, and wait until what was sent is confirmed."""
        reading = asyncio.ensure_future(self._send_input())
        try:
            await asyncio.wait({reading, got_all}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
        finally:
            reading.cancel()
        await self._client.wait_confirmed()

    async def _send_input(self) -> None:
        """Publish the input."""
        lines = LineSplitter(rendered=True, cut=self._oversize == CUT)
        # With --listen, a terminal's keyboard is not read: nobody is asked to type.
        ended = self._listen and sys.stdin is not None and sys.stdin.isatty()
        while not ended:
            try:
                data = await read_stdin()
            except OSError as error:
                self._failed = True
                self._say(f"could not read standard input: {describe_os_error(error)}")
                data = b""
            ended = not data
            self._read_bytes += len(data)
            for line in lines.end() if ended else lines.feed(data):
                outbox = self._client.session.outbox
                if not outbox.limit.fits(line):
                    await self._client.wait_joined()  # only then is the limit known
                for part in outbox.limit.fit(line, self._oversize):
                    await self._client.wait_for_window()
                    self._client.send(part)

    async def _show_progress(self, size: int | None) -> None:
        """Update the progress line until cancelled, if standard error is a terminal."""
        if not is_progress_wanted():
            return
        gate, loop, session = ProgressGate(), asyncio.get_running_loop(), self._client.session
        is_stdout_terminal = sys.stdout is not None and sys.stdout.isatty()
        while True:
            await asyncio.sleep(REFRESH_INTERVAL_S)
            sent, confirmed = session.outbox.added, session.outbox.added - len(session)
            if not gate.shows(sent, confirmed, loop.time()):
                self._progress.clear()
            # On a terminal that also shows standard output, it must not split a line of output.
            elif not is_stdout_terminal or self._sink.is_idle:
                self._progress.show(
                    progress_text(
                        sent=sent,
                        confirmed=confirmed,
                        read_bytes=self._read_bytes,
                        input_bytes=size,
                    )
                )


def _could_not_save(handling: asyncio.Future[None]) -> bool:
    """Tell whether a sink has ended because the cursor file could not be written."""
    if not handling.done() or handling.cancelled():
        return False
    return isinstance(handling.exception(), CursorFileError)


def _sink_failure(handling: asyncio.Future[None]) -> str:
    """Return why a sink has failed, "" if it has not."""
    match None if handling.cancelled() else handling.exception():
        case CursorFileError() as error:
            return str(error)
        case OSError() as error:
            return stdout_error(error)
    return ""
