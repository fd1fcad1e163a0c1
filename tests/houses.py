"""Houses: everything that a transcript can be played against, behind one interface.

`bare` is the room alone, without sockets, processes or fan-out; the others are
servers that a real client dials. Wherever two of them answer differently, one
of them is wrong.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from broadcast_server.entry import Entry, parse_entry
from broadcast_server.history import Log
from broadcast_server.logfile import LogFile
from broadcast_server.protocol import SUBPROTOCOL, CloseCode, Event, Format, json_line, text_line
from broadcast_server.room import Action, Close, Enter, Peer, Publish, Room, Send
from broadcast_server.server import Server, Settings

PATIENCE = 10.0  # seconds after which a house is taken not to answer


class Visitor(ABC):
    """One client of a house, that sees lines."""

    @abstractmethod
    async def send(self, frame: str | bytes, *, text: bool = True) -> None:
        """Send a frame, a text frame unless *text* is false."""

    @abstractmethod
    async def line(self) -> str:
        """Return the next line. Raises EOFError with the close code at the end."""

    @abstractmethod
    async def close(self) -> None:
        """Leave as a client should."""

    @abstractmethod
    async def vanish(self) -> None:
        """Cut the connection, without a close."""


class House(ABC):
    """A place with rooms."""

    @abstractmethod
    async def open(self, target: str, *, as_json: bool) -> Visitor:
        """Let a client come in at *target*, ``/?name=bob``."""

    async def emptied(self, room: str) -> None:  # noqa: B027  # one process knows at once
        """Wait until all processes know that the last client has left *room*."""


# -- the bare room ------------------------------------------------------------


class BareVisitor(Visitor):
    """A client of the bare room: a queue of lines."""

    def __init__(self, house: BareHouse, room: str) -> None:
        self.house = house
        self.room = room
        self.lines: deque[str] = deque()
        self.code: int | None = None
        self.peer: Peer | None = None
        self.on_stream = False

    async def send(self, frame: str | bytes, *, text: bool = True) -> None:
        assert isinstance(frame, str) and self.peer is not None
        self.house.do(self.room, self.house.rooms[self.room].receive(self.peer, frame))

    async def line(self) -> str:
        if self.lines:
            return self.lines.popleft()
        if self.code is not None:
            raise EOFError(self.code)
        raise TimeoutError("no line")

    async def close(self) -> None:
        await self.vanish()

    async def vanish(self) -> None:
        assert self.peer is not None
        if self.house.visitors.pop(self.peer, None):
            self.house.do(self.room, self.house.rooms[self.room].disconnect(self.peer))
        self.code = self.code or 1005

    def hear(self, event: Event) -> None:
        """Take one event, as lines."""
        assert self.peer is not None
        as_json = self.peer.entry.format is Format.JSON
        line = json_line(event) if as_json else text_line(event)
        if line is not None:
            self.lines.extend(line.split("\n"))


class BareHouse(House):
    """Rooms and logs, and what they decide carried out line by line."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.rooms: dict[str, Room] = {}
        self.logs: dict[str, Log] = {}
        self.visitors: dict[Peer, BareVisitor] = {}

    async def open(self, target: str, *, as_json: bool) -> Visitor:
        entry = parse_entry(urlsplit(target).query, Format.JSON if as_json else Format.TEXT)
        if not isinstance(entry, Entry):
            visitor = BareVisitor(self, "")
            visitor.peer = Peer(Entry(format=Format.JSON if as_json else Format.TEXT), "")
            visitor.hear(entry)
            visitor.code = CloseCode.REFUSED
            return visitor
        if entry.room not in self.rooms:
            log = self.logs[entry.room] = Log(self.settings.log_messages, self.settings.log_bytes)
            self.rooms[entry.room] = Room(entry.room, log, self.settings.max_message_bytes)
        visitor = BareVisitor(self, entry.room)
        visitor.peer = Peer(entry, entry.session or secrets.token_hex(8))
        self.visitors[visitor.peer] = visitor
        self.do(entry.room, self.rooms[entry.room].connect(visitor.peer))
        return visitor

    def do(self, name: str, actions: Sequence[Action]) -> None:
        """Carry actions out, each at once."""
        room, log = self.rooms[name], self.logs[name]
        for action in actions:
            match action:
                case Enter(peer=peer, after=after, welcome=welcome):
                    self.visitors[peer].on_stream = True
                    self.visitors[peer].hear(welcome)
                    for message in log.after(after, log.head):
                        self.visitors[peer].hear(message)
                case Publish(peer=peer, text=text, id=id, name=who):
                    seq = log.seq_of(peer.source, id)
                    if seq is not None and id is not None:
                        self.do(name, room.repeated(peer, id, seq))
                    else:
                        message = log.append(who, text, "2026-11-25T09:00:00.000Z", id, peer.source)
                        self.do(name, room.deliver(message))
                case Send(to=None, event=event):
                    for visitor in self.visitors.values():
                        if visitor.room == name and visitor.on_stream:
                            visitor.hear(event)
                case Send(to=Peer() as peer, event=event):
                    self.visitors[peer].hear(event)
                case Close(peer=peer, code=code):
                    self.visitors.pop(peer).code = code


# -- servers ------------------------------------------------------------------


class SocketVisitor(Visitor):
    """A client over a WebSocket."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self._lines: deque[str] = deque()

    async def send(self, frame: str | bytes, *, text: bool = True) -> None:
        await self.socket.send(frame, text=text)

    async def line(self) -> str:
        while not self._lines:
            try:
                frame = await asyncio.wait_for(self.socket.recv(), PATIENCE)
            except ConnectionClosed as closed:
                raise EOFError(closed.rcvd.code if closed.rcvd else 1006) from None
            assert isinstance(frame, str) and frame, "a frame holds at least one line"
            self._lines.extend(frame.split("\n"))
        return self._lines.popleft()

    async def close(self) -> None:
        await self.socket.close()

    async def vanish(self) -> None:
        self.socket.transport.abort()

    async def heard_nothing(self, count: int) -> None:
        """Find by asking that nothing came, and that *count* are here; it speaks text."""
        await self.send("/who")
        line = await self.line()
        assert line.startswith(f"* {count} here: "), line


class ServedHouse(House):
    """A server somewhere."""

    def __init__(self, url: str, *others: str) -> None:
        self.url = url
        # Of a house of several processes, each visitor comes to the next.
        self._processes = [url, *others]
        self._urls = itertools.cycle(self._processes)
        self._visitors: list[SocketVisitor] = []

    def somewhere(self) -> str:
        """Return the address of the next of its processes."""
        return next(self._urls)

    async def open(self, target: str, *, as_json: bool) -> SocketVisitor:
        socket = await connect(
            self.somewhere().rstrip("/") + target,
            subprotocols=[Subprotocol(SUBPROTOCOL)] if as_json else None,
            compression=None,
            proxy=None,
            max_queue=None,  # who does not listen must still see the close
        )
        assert socket.subprotocol == (SUBPROTOCOL if as_json else None)
        visitor = SocketVisitor(socket)
        self._visitors.append(visitor)
        return visitor

    async def emptied(self, room: str) -> None:
        # One process has to know by itself, so it is given no time here. Another one learns it
        # from the database, which may be later than the client sees its close answered.
        if len(self._processes) > 1:
            end = time.monotonic() + PATIENCE
            while await asyncio.to_thread(self._count, room):
                assert time.monotonic() < end, f"{room} does not empty"

    def _count(self, room: str) -> int:
        url = self.url.replace("ws:", "http:").rstrip("/") + f"/stream?room={room}&poll=1"
        with urlopen(url, timeout=PATIENCE) as answer:
            count: int = json.loads(answer.readline())["count"]
        return count

    async def close(self) -> None:
        """Close all clients that are still there."""
        for visitor in self._visitors:
            await visitor.close()


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Server]:
    """Run a server in this very loop."""
    file = None if settings.log is None else LogFile(settings.log)
    server = Server(settings, file=file)
    await server.listen()
    try:
        yield server
    finally:
        await server.stop()
        if file is not None:
            file.close()


INSTALLED = (sys.executable, "-W", "error", "-m", "broadcast_server")


def zipped(path: Path) -> tuple[str, ...]:
    """Return the command that runs the single file."""
    return (sys.executable, "-W", "error", str(path))
