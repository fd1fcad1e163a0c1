"""The talk: what somebody does who sits at a client, from room to room.

It carries out what was typed and follows where we are. How it is typed, and what shows
it, is its door's matter: a `Terminal`, or the `Plain` one.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod

from .client import Client, Failed
from .commands import Command, help_lines, parse
from .conversation import Conversation, left_early
from .protocol import Event, Joined, Left, Members, Welcome, Who
from .safe import safe_text
from .screen import Line, mentioned, quiet
from .signals import on_signals
from .status import Status
from .streams import note

PARTING = 1.0
"""Seconds that what was said last has to come back, when the user leaves a room."""

ROOMS = 50
"""So many rooms that were left are remembered."""

QUIET = 2.0
"""Seconds after a bell without another."""


class Talk(ABC):
    """A client's door behind which a person is."""

    def __init__(self, client: Client, *, bell: bool) -> None:
        self.client = client
        """Of the room that what is typed goes to."""
        self.interrupted = False
        self._inside = client  # of the room that we are in, which may be about to be left
        self._left: dict[str, Conversation] = {}  # by room, the last that was left at the end
        self._origin: str | None = None  # the room that we came from
        self._parting: set[asyncio.Future[None]] = set()
        self._bell = bell
        self._silent = 0.0  # until then, by the loop's clock
        self._welcomed = False  # to this room
        self._greeted = False  # to any
        self._down = True  # as far as the user knows
        self._live = False  # as of the last event
        self._wants_who = False
        self._looks_back = 0
        self._count = 0

    # -- what a door fills in --

    @abstractmethod
    def _lines(self, event: Event, me: str, *, again: bool) -> list[Line]:
        """Return what *event* looks like."""

    @abstractmethod
    def _print(self, found: list[Line]) -> None:
        """Print whole lines."""

    @abstractmethod
    def tell(self, text: str) -> None:
        """Print a line of the program's own."""

    @abstractmethod
    async def _ask(self) -> None:
        """Hand what is typed to `entered`, until the user has enough or nobody is there."""

    @abstractmethod
    def _finish(self) -> None:
        """End `_ask`."""

    @abstractmethod
    def _greeting(self) -> list[Line]:
        """Return what is said after the first welcome."""

    @abstractmethod
    def _clear(self) -> None:
        """Clear the screen, if there is one."""

    @abstractmethod
    def _ring(self) -> None:
        """Ring the bell."""

    @abstractmethod
    def _changed(self) -> None:
        """Show the status anew, if it is shown."""

    def _follow(self, event: Event) -> None:
        """Keep what the status says."""
        match event:
            case Welcome(count=count) | Members(count=count):
                self._count = count
            case Joined(count=count) | Left(count=count):
                self._count = count

    # -- the door --

    def show(self, events: list[Event]) -> None:
        """Print events."""
        me = self._inside.conversation.name
        found: list[Line] = []
        for event in events:
            self._follow(event)
            found += self._seen(event, me)
        self._print(found)
        if self._bell and self._live and any(mentioned(event, me) for event in events):
            self._ring_once()
        if self._live is not self._inside.conversation.live:
            self._live = self._inside.conversation.live
            self._changed()
        self._ask_who()

    def note(self, text: str) -> None:
        """Print a line about the connection."""
        self._down, self._live = True, False
        waiting = len(self._inside.conversation)
        kept = f"; {waiting} to be sent then" if waiting else ""
        self.tell(f"{safe_text(text)}{kept}")

    async def drain(self) -> None:
        """Let keys be heard between two prints."""
        await asyncio.sleep(0)

    @property
    def status(self) -> Status:
        """Where we are now."""
        talk = self.client.conversation
        connected = talk.welcomed and self.client is self._inside
        return Status(safe_text(talk.room), safe_text(talk.name), self._count, connected, len(talk))

    def _seen(self, event: Event, me: str) -> list[Line]:
        if not isinstance(event, Welcome):
            return self._lines(event, me, again=False)
        self._down = False
        if self._looks_back and event.recovered:
            self.tell(f"the last {self._looks_back} messages")
            self._looks_back = 0
            return []
        found = self._lines(event, me, again=self._welcomed)
        self._looks_back, self._welcomed = 0, True
        if not self._greeted:
            self._greeted = True
            found += self._greeting()
        return found

    def _ring_once(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._silent:
            self._silent = now + QUIET
            self._ring()

    # -- the run --

    async def run(self) -> int:
        """Take part until the user leaves, and return the exit code."""
        asking = asyncio.ensure_future(self._ask_all())
        failure = ""
        with on_signals(self.interrupt):
            try:
                self.tell("connecting")
                await self._stay()
            except Failed as failed:
                failure = str(failed)
            except OSError:  # the terminal went away
                pass
            for task in (asking, *self._parting):
                task.cancel()
            await asyncio.wait({asking, *self._parting})
        unheard = sum(map(len, {self.client.conversation, *self._left.values()}))
        if not failure and unheard:
            failure = left_early(unheard)
        if failure:
            note(failure)
        return 1 if failure or (self.interrupted and not self._greeted) else 0

    async def _stay(self) -> None:
        """Be in one room after another, until one is left for none."""
        while True:
            client = self._inside = self.client
            self._welcomed = False
            try:
                await client.run(self)
            except Failed as failed:
                if client is self.client:
                    if self._welcomed or self._origin is None:
                        raise
                    self.tell(f"no way into {client.conversation.room}: {safe_text(str(failed))}")
                    self._go(self._origin, at_once=True)
                    self._origin = None  # if there is no way back either, that is the end
            if client is self.client:
                return

    async def _ask_all(self) -> None:
        await self._ask()
        if not (self.interrupted or self._down):
            await _hear_out(self.client)
        self.leave()

    def leave(self) -> None:
        """End `run`."""
        self.client.leave()
        self._inside.leave()

    def interrupt(self) -> None:
        """End it at once."""
        self.interrupted = True
        self.leave()

    # -- what is typed --

    def entered(self, text: str) -> None:
        """Do what *text* says."""
        try:
            command = parse(text)
        except ValueError as error:
            self.tell(safe_text(str(error)))
            return
        match command:
            case Command("say", said):
                self._say(said)
            case Command("quit" | "exit"):
                self._finish()
            case Command("who"):
                self._wants_who = True
                self._ask_who()
                self._tell_if_down("asked")
            case Command("name", name):
                self.client.rename(name)
                self._tell_if_down("asked for")
            case Command("room", room):
                self._go(room)
            case Command("history", count):
                self._looks_back = int(count)
                self.client.look_back(int(count))
                self._tell_if_down("shown")
            case Command("clear"):
                self._clear()
            case Command("help"):
                self._print([quiet(f"   {line}") for line in help_lines()])

    def _say(self, text: str) -> None:
        talk = self.client.conversation
        if talk.full:
            self.tell(f"not kept: {len(talk)} messages wait to be sent already")
            return
        self.client.say(text)
        self._tell_if_down("kept, and sent")

    def _tell_if_down(self, what: str) -> None:
        if self._down:
            self.tell(f"not connected: {what} when we are")

    def _ask_who(self) -> None:
        """Ask who is here, as soon as that can be asked."""
        if self._wants_who and self.client.conversation.live:
            self._wants_who = False
            self.client.ask(Who())

    def _go(self, room: str, *, at_once: bool = False) -> None:
        """Leave this room for another. What was not said here is said here, when we are back."""
        old = self.client
        here = old.conversation
        if room == here.room:
            self.tell(f"you are in {room}")
            return
        there = self._left.pop(room, None)
        if there is None:
            there = here.elsewhere(room)
        there.be(here)
        self._left[here.room] = here
        for each in [each for each, talk in self._left.items() if not len(talk)][:-ROOMS]:
            del self._left[each]
        self.client, self._origin = old.elsewhere(there), here.room
        self._looks_back, self._wants_who = 0, False
        parting = asyncio.ensure_future(self._part(old, at_once))
        self._parting.add(parting)
        parting.add_done_callback(self._parting.discard)

    async def _part(self, old: Client, at_once: bool) -> None:
        if not at_once:
            await _hear_out(old)
        old.leave()
        if len(old.conversation):
            unsaid = f"{len(old.conversation)} not said in {old.conversation.room}"
            self.tell(f"{unsaid}, to be said when you are there again")

    @property
    def rooms(self) -> list[str]:
        """The rooms that were left."""
        return [*self._left]


async def _hear_out(client: Client) -> None:
    """Wait for what was said last to come back, but not for long."""
    if len(client.conversation):
        heard = asyncio.ensure_future(client.all_heard())
        await asyncio.wait({heard}, timeout=PARTING)
        heard.cancel()
