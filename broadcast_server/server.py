"""The server: rooms on asyncio. It listens, ends the turns, and leaves well.

An `OpenRoom` carries out what a `Room` decides: it numbers what is published in
the room's `Log` and hands it back at once, with no task, queue or await in
between, and it flushes the room's `Fanout` once a turn of the event loop.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from .connection import Door, Socket, Times, frame_of
from .entry import Entry
from .fanout import Fanout
from .history import BYTES, MESSAGES, Log
from .protocol import MAX_MESSAGE_BYTES, CloseCode, Format, Head
from .room import Action, Close, Enter, Peer, Publish, Room, Send
from .signals import on_signals

if TYPE_CHECKING:
    from .exchange import Exchange

log = logging.getLogger("broadcast_server")

EVENTS = 4096
"""A turn with so many events for everyone is flushed early: what is not written yet is bounded."""

CHUNK = 512
"""So many messages a turn are read from the log for a member that is behind."""

FILES = 2**17
"""So many files may be open, if the system lets us."""

EMPTY_ROOMS = 256
"""So many rooms that nobody is in keep their log; then the longest empty one is forgotten."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What `start` can be told. Times are in seconds."""

    host: str = "127.0.0.1"
    port: int = 8765
    max_message_bytes: int = MAX_MESSAGE_BYTES
    log_messages: int = MESSAGES
    log_bytes: int = BYTES
    origins: frozenset[str] = frozenset()
    times: Times = field(default_factory=Times)
    head: float = 25.0
    grace: float = 5.0


class OpenRoom:
    """One room with its log, its fan-out, and the sockets of its members."""

    def __init__(
        self, name: str, settings: Settings, closed: Callable[[Socket, CloseCode], None]
    ) -> None:
        self._closed = closed
        self.log = Log(settings.log_messages, settings.log_bytes)
        self.room = Room(name, self.log, settings.max_message_bytes)
        self._fanout = Fanout()
        self._sockets: dict[Peer, Socket] = {}
        self._flowing: dict[Peer, Socket] = {}  # paused or resumed since the last turn
        self._due = False
        self._now = ""

    def enter(self, peer: Peer, socket: Socket) -> None:
        """Let *peer* in."""
        self._sockets[peer] = socket
        self._do(self.room.connect(peer))

    def receive(self, peer: Peer, frame: str) -> None:
        """Take what *peer* sent."""
        self._do(self.room.receive(peer, frame))

    def leave(self, peer: Peer) -> None:
        """Take *peer* out, whose connection is gone."""
        if self._sockets.pop(peer, None) is not None:
            self._fanout.leave(peer)
            self._do(self.room.disconnect(peer))

    def expel(self, peer: Peer, code: CloseCode, fault: str, text: str) -> None:
        """Close *peer*."""
        self._do(self.room.expel(peer, code, fault, text))

    def flow(self, peer: Peer) -> None:
        """Note that the socket of *peer* was paused or resumed."""
        if peer in self._sockets:
            self._flowing[peer] = self._sockets[peer]
            self._schedule()

    def head(self) -> None:
        """Show the JSON clients that the room is alive."""
        if self._sockets:
            self._do([Send(None, Head(self.log.head))])

    def stop(self) -> None:
        """Close everyone."""
        self.flush()  # the rest of the turn, encoded once for all
        self._do(self.room.stop())

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Publish(peer=peer, text=text, id=id):
                    seq = self.log.seq_of(peer.source, id)
                    if seq is not None and id is not None:
                        self._do(self.room.repeated(peer, id, seq))
                        continue
                    if not self._now:
                        now = datetime.now(timezone.utc)
                        self._now = now.isoformat(timespec="milliseconds")[:-6] + "Z"
                    message = self.log.append(peer.name, text, self._now, id, peer.source)
                    self._do(self.room.deliver(message))
                case Send(to=None, event=event):
                    self._fanout.everyone(event)
                    if len(self._fanout) >= EVENTS:
                        self.flush()
                case Send(to=Peer() as peer, event=event):
                    self._fanout.only(peer, event)
                case Enter(peer=peer, after=after, welcome=welcome):
                    self._fanout.enter(peer, after, welcome)
                case Close(peer=peer, code=code, reason=reason):
                    socket = self._sockets.pop(peer)
                    socket.write(map(frame_of, self._fanout.leave(peer)))
                    socket.close(code, reason)
                    self._closed(socket, code)
        if actions:
            self._schedule()

    def _schedule(self) -> None:
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """End the turn: write to everyone what it owes them."""
        self._due = False
        self._now = ""
        turn = self._fanout.turn()
        if turn:
            frames: dict[Format, list[bytes]] = {}
            for peer, socket in self._sockets.items():
                if peer in turn.own:
                    continue
                format = peer.entry.format
                if format not in frames:
                    frames[format] = [frame_of(payload) for payload in turn.common(format)]
                socket.write(frames[format])
        for peer, payloads in turn.own.items():
            self._sockets[peer].write(map(frame_of, payloads))
        self._settle_flow()
        slow = self._feed() + self._fanout.overdue()
        for peer in slow:
            self.expel(peer, CloseCode.TOO_SLOW, "too_slow", "you read too slowly")
        if self._fanout.hungry():
            self._schedule()

    def _settle_flow(self) -> None:
        """Tell the fan-out whose socket was paused or resumed."""
        while self._flowing:
            peer, socket = self._flowing.popitem()
            if peer in self._sockets:
                (self._fanout.stall if socket.paused else self._fanout.ready)(peer)

    def _feed(self) -> list[Peer]:
        """Let those read on in the log who are behind, and return whom it left behind."""
        lost: list[Peer] = []
        for peer, seq in self._fanout.hungry():
            if seq + 1 < self.log.first:
                lost.append(peer)
            else:
                payloads = self._fanout.feed(peer, self.log.after(seq, CHUNK))
                self._sockets[peer].write(map(frame_of, payloads))
        self._settle_flow()
        return lost


class Server:
    """All rooms behind one address: the house of every connection."""

    def __init__(self, settings: Settings, program: Path | None = None) -> None:
        self.settings = settings
        self.program = program
        self.times = settings.times
        self.origins = settings.origins
        self._rooms: dict[str, OpenRoom] = {}
        self._idle: dict[str, OpenRoom] = {}  # those that nobody is in, longest empty first
        self._seats: dict[Socket, tuple[OpenRoom, Peer]] = {}
        self._open: set[Door | Socket | Exchange] = set()
        self._listener: asyncio.Server | None = None
        self._beat: asyncio.TimerHandle | None = None
        self._emptied = asyncio.Event()

    # -- listening and leaving --

    async def listen(self) -> None:
        """Open the port; `url` says where. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: Door(self), self.settings.host, self.settings.port, backlog=1024
        )
        self._beat = loop.call_later(self.settings.head, self._heads)

    @property
    def url(self) -> str:
        """The socket's address, with the port that it really has."""
        if self._listener is None:
            raise RuntimeError("it does not listen yet")
        host, port = self._listener.sockets[0].getsockname()[:2]
        return f"ws://[{host}]:{port}/" if ":" in host else f"ws://{host}:{port}/"

    async def stop(self) -> None:
        """Tell everyone, flush what they are owed, and close within the grace."""
        if self._listener is not None:
            self._listener.close()
        if self._beat is not None:
            self._beat.cancel()
        for room in tuple(self._rooms.values()):
            room.stop()
        for protocol in tuple(self._open):
            protocol.shut()
        if self._open:
            self._emptied.clear()
            loop = asyncio.get_running_loop()
            timer = loop.call_later(self.settings.grace, self._emptied.set)
            await self._emptied.wait()
            timer.cancel()
        self.abort()

    def abort(self) -> None:
        """Cut every connection that is still there."""
        for protocol in tuple(self._open):
            protocol.abort()

    def _heads(self) -> None:
        for room in self._rooms.values():
            room.head()
        self._beat = asyncio.get_running_loop().call_later(self.settings.head, self._heads)

    # -- what a connection needs --

    def opened(self, protocol: Door | Socket | Exchange) -> None:
        """Remember a connection, until it is lost."""
        self._open.add(protocol)

    def lost(self, protocol: Door | Socket | Exchange) -> None:
        """Forget a connection."""
        self._open.discard(protocol)
        if not self._open:
            self._emptied.set()

    def enter(self, socket: Socket, entry: Entry) -> None:
        """Let *socket* into the room that it asked for, which is made for it if need be."""
        room = self._rooms.get(entry.room) or self._idle.pop(entry.room, None)
        if room is None:
            room = OpenRoom(entry.room, self.settings, self._closed)
        self._rooms[entry.room] = room
        peer = Peer(entry, entry.session or "#" + secrets.token_hex(8))
        self._seats[socket] = room, peer
        room.enter(peer, socket)
        self._report(peer, "joined", room, f"from {socket.address}")

    def receive(self, socket: Socket, frame: str) -> None:
        """Take what *socket* sent."""
        if socket in self._seats:
            room, peer = self._seats[socket]
            room.receive(peer, frame)

    def flow(self, socket: Socket) -> None:
        """Note that *socket* was paused or resumed."""
        if socket in self._seats:
            room, peer = self._seats[socket]
            room.flow(peer)

    def expel(self, socket: Socket, code: CloseCode, fault: str, text: str) -> None:
        """Close *socket* for a fault of its own."""
        if socket in self._seats:
            room, peer = self._seats[socket]
            room.expel(peer, code, fault, text)

    def leave(self, socket: Socket) -> None:
        """Take *socket*, whose connection is gone, out of its room, if it is in one."""
        if socket in self._seats:
            room, peer = self._seats.pop(socket)
            room.leave(peer)
            self._report(peer, "left", room)
            self._tidy(room)

    def _closed(self, socket: Socket, code: CloseCode) -> None:
        """Note that a room closed *socket*."""
        room, peer = self._seats.pop(socket)
        self._report(peer, "left", room, f"closed with {code.value} {code.name.lower()}")
        self._tidy(room)

    def _tidy(self, room: OpenRoom) -> None:
        """Put a room that nobody is in aside with its log, for those who come back."""
        if len(room.room):
            return
        self._rooms.pop(room.room.name, None)
        if room.log.head:
            self._idle[room.room.name] = room
        while len(self._idle) > EMPTY_ROOMS:
            del self._idle[next(iter(self._idle))]

    def _report(self, peer: Peer, did: str, room: OpenRoom, how: str = "") -> None:
        here, everywhere = len(room.room), len(self._seats)
        clients = "1 client" if everywhere == 1 else f"{everywhere} clients"
        tail = f", {how}" if how else ""
        log.info("%s %s %s%s (%d here, %s)", peer.name, did, room.room.name, tail, here, clients)


def program_file() -> Path | None:
    """Return the single file that this code runs from, None for an installation."""
    archive = getattr(__spec__.loader, "archive", None)
    return None if archive is None else Path(archive).resolve()


def allow_files() -> None:
    """Let this process open as many files as it may: each client is one.

    The usual limit is 1024, so that programs that use select() do not come to grief;
    asyncio does not where there are such limits.
    """
    try:
        import resource
    except ImportError:  # Windows, which has none
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):  # macOS has a lower one that it does not tell
            log.warning("at most %d files may be open, each client is one", soft)


async def serve(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM. Raises OSError if the port cannot be had."""
    allow_files()
    server = Server(settings, program_file())
    stopping = asyncio.Event()

    def stop() -> None:
        if stopping.is_set():  # asked for twice: who waits at a keyboard means now
            server.abort()
        stopping.set()

    await server.listen()
    with on_signals(stop):
        announce(server.url)
        # Not before, for it takes as long as a fifth of the start; and not when it is
        # first needed, for the single file may have been replaced by then.
        importlib.import_module("broadcast_server.exchange")
        await stopping.wait()
        log.info("stopping")
        await server.stop()
