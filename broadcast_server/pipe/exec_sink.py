"""The exec sink: runs a command for each message, one after the other (`connect --exec`).

The command finds the message in its environment, where a shell can read it, and the whole event
as a line of JSON on its standard input. Its output goes where the client's output would go.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Sequence

from broadcast_server.client.oversize import CUT_MARK
from broadcast_server.client.report_texts import missed_text
from broadcast_server.client.session import ClientSession
from broadcast_server.console.child_environment import child_environment
from broadcast_server.console.os_error import describe_os_error
from broadcast_server.console.streams import note
from broadcast_server.console.threads import run_abandonable
from broadcast_server.console.work_queue import WorkQueue
from broadcast_server.protocol.codec import encode_json
from broadcast_server.protocol.messages import Cursor, Event, Message, Welcome
from broadcast_server.protocol.sanitize import escape_control, strip_control

from .process_text import exit_text

MAX_VARIABLE_BYTES = 131_071
"""Bytes of a variable with its name and `=`: Linux allows 128 KiB, with a zero byte at the end."""

VARIABLE_PREFIX = "BROADCAST_EVENT_"
"""Prefix of the variables. Our own options use other names, so a message cannot set an option."""

EXIT_TIMEOUT_S = 5.0
"""Seconds that a running command has to finish when the client leaves; then it gets SIGTERM."""

KILL_AFTER_S = 1.0
"""Seconds between SIGTERM and SIGKILL."""


def event_variables(message: Message, room: str, epoch: str) -> dict[str, str]:
    """Return the environment variables that describe *message* to a command.

    Control characters are removed, because an `echo` would send them to a terminal. A text that is
    too long for a variable is cut off.
    """
    values = {
        "ROOM": room,
        "EPOCH": epoch,
        "SEQ": str(message.seq),
        "AT": message.at,
        "NAME": message.name,
        "TEXT": message.text,
    }
    names = {VARIABLE_PREFIX + name: value for name, value in values.items()}
    return {
        name: _safe_value(value, MAX_VARIABLE_BYTES - len(name) - 1)
        for name, value in names.items()
    }


def _safe_value(value: str, max_bytes: int) -> str:
    data = "\n".join(strip_control(line) for line in value.splitlines()).encode()
    if len(data) > max_bytes:
        mark = CUT_MARK.encode()
        data = data[: max_bytes - len(mark)].decode(errors="ignore").encode() + mark
    return os.fsdecode(data)  # the variable holds UTF-8 in every locale


class ExecSink(WorkQueue[tuple[Message, str, str]]):
    """Runs *command* for each message that others publish in the room of *session*.

    After each run, `save_cursor` is called with the position of the message in the log.
    """

    def __init__(
        self,
        command: Sequence[str],
        session: ClientSession,
        save_cursor: Callable[[Cursor], None] | None = None,
    ) -> None:
        super().__init__()  # items: a message, its room, and its epoch; at most those of a frame
        self._command = command
        self._session = session
        self._save_cursor = save_cursor
        self._process: subprocess.Popen[bytes] | None = None

    def handle(self, events: list[Event]) -> None:
        """Queue the messages of others among *events*, and report missed messages."""
        room, cursor = self._session.room, self._session.cursor
        for event in events:
            match event:
                case Message(name=name) if name != self._session.name and cursor is not None:
                    self._put((event, room, cursor.epoch))
                case Welcome(recovered=False, missed=missed):
                    note(f"* {missed_text(missed).strip('- ')}")

    def finish(self) -> None:
        """Run the command for no further message; end it if it runs for too long."""
        self._stop()
        asyncio.get_running_loop().call_later(EXIT_TIMEOUT_S, self._terminate)

    async def run(self) -> None:
        """Run the command for each message until `finish`. Raises what `save_cursor` raises."""
        try:
            while await self._wait_for_items():
                await self._handle_message(*self._items.popleft())
        finally:
            self.close()
            self._terminate()

    async def _handle_message(self, message: Message, room: str, epoch: str) -> None:
        status = await run_abandonable(lambda: self._run_command(message, room, epoch))
        self._process = None
        if isinstance(status, str):
            note(f"* {self._command[0]} could not be run for message {message.seq}: {status}")
        elif status and self.open:
            note(f"* {self._command[0]} {exit_text(status)} for message {message.seq}")
        # A command that failed while we leave may have been terminated by us: the next run of
        # the client runs it again for this message.
        if self._save_cursor is not None and (self.open or status == 0):
            self._save_cursor(Cursor(epoch, message.seq))

    def _run_command(self, message: Message, room: str, epoch: str) -> int | str:
        """Run the command, and return its exit code, or why it could not be run.

        A negative exit code is the number of the signal that killed the command.
        """
        environment = {**child_environment(), **event_variables(message, room, epoch)}
        try:
            self._process = process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, env=environment
            )
        except OSError as error:
            return describe_os_error(error)
        process.communicate(f"{escape_control(encode_json(message))}\n".encode())
        return process.returncode

    def _terminate(self) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        asyncio.get_running_loop().call_later(KILL_AFTER_S, process.kill)
