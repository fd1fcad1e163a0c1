"""The handler: a command of the user's that is run for each message, one after the other.

It gets the message in its environment, where a shell finds it, and whole on its standard
input. Its output is its own. What it is for is not known here.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections import deque
from collections.abc import Callable, Sequence

from .conversation import Conversation, missed_words
from .ending import ended_words
from .protocol import Cursor, Event, Message, Welcome, json_line
from .safe import safe_json, safe_text
from .streams import note, reason
from .thread import in_thread

VARIABLE = "BROADCAST_EVENT_"
"""How the variables begin; those of our own options do not, so that nothing passes for one."""

PATIENCE = 5.0
"""Seconds that a running command has when we leave, before it is ended."""

MERCY = 1.0
"""Seconds that it has to end itself in then."""


def variables(message: Message, room: str, epoch: str) -> dict[str, str]:
    """Return what a command finds about *message* in its environment.

    The text is as it may reach a terminal, since that is where an `echo` sends it.
    """
    found = {
        "ROOM": room,
        "EPOCH": epoch,
        "SEQ": str(message.seq),
        "AT": message.at,
        "NAME": message.name,
        "TEXT": message.text,
    }
    return {VARIABLE + name: _shown(value) for name, value in found.items()}


def _shown(value: str) -> str:
    text = "\n".join(safe_text(line) for line in value.splitlines())
    return os.fsdecode(text.encode())  # UTF-8, whatever the locale


class Handler:
    """Runs *command* for what others say in *conversation*; `keep` is told how far it is."""

    def __init__(
        self,
        command: Sequence[str],
        conversation: Conversation,
        keep: Callable[[Cursor], None] | None = None,
    ) -> None:
        self.open = True
        self._command = command
        self._conversation = conversation
        self._keep = keep
        self._waiting: deque[tuple[Message, str, str]] = deque()  # at most what a frame held
        self._more = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._process: subprocess.Popen[bytes] | None = None

    def take(self, events: list[Event]) -> None:
        """Take what happened in the room. What we said ourselves is nothing to run for."""
        room, cursor = self._conversation.room, self._conversation.cursor
        for event in events:
            match event:
                case Message(name=name) if name != self._conversation.name and cursor is not None:
                    self._waiting.append((event, room, cursor.epoch))
                case Welcome(recovered=False, missed=missed):
                    note(f"* {missed_words(missed).strip('- ')}")
        if self._waiting and self.open:
            self._idle.clear()
            self._more.set()

    @property
    def resting(self) -> bool:
        """Whether the command was run for all that was taken, or never will be."""
        return self._idle.is_set()

    async def idle(self) -> None:
        """Wait until it is resting."""
        await self._idle.wait()

    def part(self) -> None:
        """Run it for nothing more, and end the one that runs if it takes too long."""
        self.open = False
        self._more.set()
        asyncio.get_running_loop().call_later(PATIENCE, self._end)

    async def run(self) -> None:
        """Run the command for each message until `part`. Raises what `keep` raises."""
        try:
            while self.open:
                self._more.clear()
                while self._waiting and self.open:
                    await self._handle(*self._waiting.popleft())
                self._idle.set()
                if self.open:
                    await self._more.wait()
        finally:
            self.open = False
            self._idle.set()
            self._end()

    async def _handle(self, message: Message, room: str, epoch: str) -> None:
        code = await in_thread(lambda: self._run(message, room, epoch))
        self._process = None
        if isinstance(code, str):
            note(f"* {self._command[0]} could not be run for message {message.seq}: {code}")
        elif code and self.open:
            note(f"* {self._command[0]} {ended_words(code)} for message {message.seq}")
        # One that was ended with us is run again, by who comes back.
        if self._keep is not None and (self.open or code == 0):
            self._keep(Cursor(epoch, message.seq))

    def _run(self, message: Message, room: str, epoch: str) -> int | str:
        """Run the command, and return its exit code, or why there is none."""
        environment = {**os.environ, **variables(message, room, epoch)}
        try:
            self._process = process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, env=environment
            )
        except OSError as error:
            return reason(error)
        process.communicate(f"{safe_json(json_line(message))}\n".encode())
        return process.returncode

    def _end(self) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        asyncio.get_running_loop().call_later(MERCY, process.kill)
