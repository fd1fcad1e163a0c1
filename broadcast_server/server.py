"""The server: all rooms behind one address. It listens, keeps time, and leaves well."""

from __future__ import annotations

import asyncio
import importlib
import logging
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, cast

from .arrival import Arrival
from .connection import Connection, Socket, Times, Visitor
from .door import Guests, NoPlace
from .entry import Entry
from .gate import Gate, Limits, Refusal
from .history import BYTES, MESSAGES, Log, LogFileError
from .listener import Listener, allow_files, most_clients
from .logline import word
from .memoryroom import MemoryRoom
from .metrics import Metrics, Now, exposition
from .openroom import Line
from .porch import Porch
from .protocol import MAX_MESSAGE_BYTES, CloseCode, Error
from .proxies import Trusted
from .room import STOPPING, Peer
from .signals import on_signals
from .web import page

if TYPE_CHECKING:
    from .eventstream import Listen  # which comes with h11, see _serve
    from .logfile import LogFile  # which loads SQLite: only who asks for it waits for that
    from .post import Post, Said, TooFew
    from .tap import Tap
    from .tls import Certificate

    Seat = Socket | Tap

log = logging.getLogger("broadcast_server")

NOT_RECORDING = Error("not_recording", "what is said is not recorded, ask who runs the server")
RECORDING = Error("recording", "what is said is recorded again")

LISTENER = "a listener"

EMPTY_ROOMS = 256
EMPTY_BYTES = 2**26
"""So many rooms that nobody is in, and so much text in them, are kept for those who come back;
then the longest empty one is forgotten, or has to be read from the file again."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What `start` can be told. Times are in seconds."""

    host: str = "127.0.0.1"
    port: int = 8765
    unix: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    max_message_bytes: int = MAX_MESSAGE_BYTES
    log_messages: int = MESSAGES
    log_bytes: int = BYTES
    log: Path | None = None
    log_sync: bool = False
    origins: frozenset[str] = frozenset()
    token: str | None = field(default=None, repr=False)
    trusted: Trusted = field(default_factory=Trusted)
    limits: Limits = field(default_factory=Limits)
    times: Times = field(default_factory=Times)
    head: float = 25.0
    grace: float = 5.0


class Server:
    """All rooms behind one address: the house of every connection."""

    def __init__(
        self,
        settings: Settings,
        program: bytes | None = None,
        file: LogFile | None = None,
        certificate: Certificate | None = None,
        files: int | None = None,
    ) -> None:
        self.settings = settings
        self.program = program
        self.accepting = True
        self._metrics = Metrics()
        self._file = file
        self._secret = secrets.token_bytes(16) if file is None else file.secret
        self.times = settings.times
        self.origins = settings.origins
        self.trusted = settings.trusted
        self.rate = settings.limits.rate
        self._gate = Gate(settings.token, settings.limits)
        self.max_message_bytes = settings.max_message_bytes
        self._waiting: set[Visitor] = set()  # for the gate
        self._rooms: dict[str, MemoryRoom] = {}
        self._idle: dict[str, MemoryRoom] = {}  # those that nobody is in, longest empty first
        self._seats: dict[Seat, tuple[MemoryRoom, Peer]] = {}
        self._open: set[Connection] = set()
        limits = settings.limits
        porch = Porch(limits.clients, limits.clients_per_address, files)
        self._guests = Guests(porch, settings.trusted)
        self.listener = Listener(
            *(settings.host, settings.port, settings.unix, certificate),
            *(settings.times.handshake, self._guests),
        )
        self._beat: asyncio.TimerHandle | None = None
        self._emptied = asyncio.Event()

    # -- listening and leaving --

    async def listen(self) -> None:
        """Begin to listen; `url` says where. Raises OSError, `NoPlace`."""
        await self.listener.open(lambda: Arrival(self))
        loop = asyncio.get_running_loop()
        self._beat = loop.call_later(self.settings.head, self._heads)

    @property
    def url(self) -> str:
        """The socket's address, with the port that it really has."""
        return self.listener.urls[0]

    def figures(self) -> str:
        """Write what was counted, for Prometheus."""
        behind = sum(room.behind for room in self._rooms.values())
        streams = sum(room.listeners for room in self._rooms.values())
        return exposition(self._metrics, Now(len(self._seats), len(self._rooms), behind, streams))

    async def stop(self) -> None:
        """Finish the turn, bring up to date who is behind, tell everyone, and close.

        All of it within the grace, of which those who are behind have half. What is said
        from now on is not taken: without an echo it is said again to whoever comes next.
        """
        self.accepting = False  # and still listening, to say so at /healthz
        if self._beat is not None:
            self._beat.cancel()
        loop = asyncio.get_running_loop()
        end = loop.time() + self.settings.grace
        rooms = tuple(self._rooms.values())
        for room in rooms:
            room.flush()
        behind = [asyncio.ensure_future(room.caught_up()) for room in rooms]
        if behind:
            _, late = await asyncio.wait(behind, timeout=self.settings.grace / 2)
            for each in late:
                each.cancel()
        for room in tuple(self._rooms.values()):
            room.stop()
        for connection in tuple(self._open):
            connection.shut()
        if self._open:
            self._emptied.clear()
            timer = loop.call_at(end, self._emptied.set)
            await self._emptied.wait()
            timer.cancel()
        self.listener.close()
        self.abort()

    def abort(self) -> None:
        """Cut every connection that is still there."""
        for connection in tuple(self._open):
            connection.abort()

    def _heads(self) -> None:
        for room in self._rooms.values():
            room.head()
        self._beat = asyncio.get_running_loop().call_later(self.settings.head, self._heads)

    # -- what a connection needs --

    def opened(self, connection: Connection) -> None:
        """Remember a connection, until it is lost."""
        self._open.add(connection)

    def lost(self, connection: Connection) -> None:
        """Forget a connection."""
        self._open.discard(connection)
        if connection.code is not None:
            self._metrics.closed(connection.code)
        if not self._open:
            self._emptied.set()

    def knock(
        self, visitor: Visitor, entry: Entry, token: str | None, come: Callable[[], None]
    ) -> None:
        """Let *visitor* `come` or refuse it, now or when it has waited as the gate wants."""
        answer = self._gate.knock(visitor.client, token, asyncio.get_running_loop().time())
        if answer.wait:
            self._waiting.add(visitor)
            visitor.hold(answer.wait, lambda: self._answer(visitor, entry, answer.refusal, come))
        else:
            self._answer(visitor, entry, answer.refusal, come)

    def _answer(
        self, visitor: Visitor, entry: Entry, refusal: Refusal | None, come: Callable[[], None]
    ) -> None:
        self.waits_no_more(visitor)
        if not self.accepting:
            refusal = Refusal(CloseCode.STOPPING, STOPPING)
        if refusal is None:
            room = self._rooms.get(entry.room)
            again = room is not None and room.room.holds(entry.session)
            refusal = self._gate.enter(
                visitor.client, len(self._rooms), new=room is None, again=again
            )
        if refusal is None:
            come()
        else:
            visitor.refuse(refusal)

    def waits_no_more(self, visitor: Visitor) -> None:
        """Note that *visitor* does not wait, or is gone."""
        if visitor in self._waiting:
            self._waiting.discard(visitor)
            self._gate.waited(visitor.client)

    def passed(self, visitor: Visitor) -> None:
        """Note that *visitor*, who was let in, does not stay."""
        self._gate.leave(visitor.client)

    def enter(self, socket: Socket, entry: Entry) -> None:
        """Let *socket* into the room that it asked for."""
        room, peer = self._seated(socket, entry)
        room.enter(peer, socket)
        self._arrived(socket, peer, room)

    def hear(self, tap: Tap, what: Listen) -> None:
        """Put *tap* on the stream of the room that it asked for."""
        room, peer = self._seated(tap, what.entry)
        room.listen(peer, tap, poll=what.poll)
        self._arrived(tap, peer, room)

    def _seated(self, seat: Seat, entry: Entry) -> tuple[MemoryRoom, Peer]:
        room = self._room(entry.room)
        peer = Peer(entry, entry.session or _source())
        self._seats[seat] = room, peer
        self._guests.enter(seat.file)
        self._metrics.joins += 1
        return room, peer

    def _arrived(self, seat: Seat, peer: Peer, room: MemoryRoom) -> None:
        if self._file is not None and not self._file.recording:
            room.tell(peer, NOT_RECORDING)
        self._report(peer, "joined", room, f"from {seat.address}")

    def _room(self, name: str) -> MemoryRoom:
        """Return a room, which is made if need be; who does not come in has to `_tidy` it."""
        room = self._rooms.get(name) or self._idle.pop(name, None)
        if room is None:
            settings = self.settings
            log = Log(settings.log_messages, settings.log_bytes, self._epoch(name))
            if self._file is not None:
                self._file.fill(name, log)
            room = MemoryRoom(
                *(name, log, settings.max_message_bytes, self._closed),
                *(self._metrics, self._file, self._keep),
            )
        self._rooms[name] = room
        return room

    def say(self, visitor: Visitor, post: Post, then: Callable[[Said | TooFew], None]) -> None:
        """Say what *visitor* posted, and do *then* with that when everyone was told; or refuse."""
        late = self._gate.say(visitor.client, asyncio.get_running_loop().time())
        if late is not None:
            visitor.refuse(late)
            return
        room = self._room(post.entry.room)
        self._metrics.received += len(post.text.encode())
        what = room.say(post, post.entry.session or _source())
        room.next_turn(lambda: then(what))  # when it is in the file, if there is one
        self._tidy(room)

    def receive(self, socket: Socket, frame: str) -> None:
        """Take what *socket* sent."""
        if socket in self._seats and self.accepting:
            room, peer = self._seats[socket]
            self._metrics.received += len(frame) if frame.isascii() else len(frame.encode())
            before = peer.name
            room.receive(peer, frame)
            if peer.name != before and socket in self._seats:
                self._report(peer, "renamed in", room, f"was {word(before)}")

    def next_turn(self, socket: Socket, then: Callable[[], None]) -> None:
        """Do *then* when the turn of *socket*'s room is over."""
        if socket in self._seats:
            self._seats[socket][0].next_turn(then)
        else:
            asyncio.get_running_loop().call_soon(then)

    def flow(self, seat: Seat) -> None:
        """Note that *seat* was paused or resumed."""
        if seat in self._seats:
            room, peer = self._seats[seat]
            room.flow(peer)

    def expel(self, socket: Socket, code: CloseCode, fault: str, text: str) -> None:
        """Close *socket* for a fault of its own."""
        if socket in self._seats:
            room, peer = self._seats[socket]
            room.expel(peer, code, fault, text)

    def leave(self, seat: Seat) -> None:
        """Take *seat*, whose connection is gone, out of its room, if it is in one."""
        if isinstance(seat, Socket):
            self.waits_no_more(seat)
        if seat in self._seats:
            room, peer = self._seats.pop(seat)
            self._gate.leave(seat.client)
            room.leave(peer)
            self._report(peer, "left", room)
            self._tidy(room)

    def _closed(self, line: Line, code: CloseCode) -> None:
        """Note that a room closed someone."""
        seat = cast("Seat", line)
        room, peer = self._seats.pop(seat)
        self._gate.leave(seat.client)
        self._report(peer, "left", room, f"closed with {code.value} {code.name.lower()}")
        self._tidy(room)

    def _tidy(self, room: MemoryRoom) -> None:
        """Put a room that nobody is in aside with its log, for those who come back."""
        if room.clients:
            return
        self._rooms.pop(room.room.name, None)
        if room.log.head:
            self._idle[room.room.name] = room
        while len(self._idle) > EMPTY_ROOMS or self._idle_bytes() > EMPTY_BYTES:
            del self._idle[next(iter(self._idle))]
            if self._file is None:  # its numbers begin anew: its epoch must not
                self._secret = secrets.token_bytes(16)

    def _epoch(self, room: str) -> str:
        """Return the epoch of a room in which nothing was said yet.

        The same each time, so that nobody has to remember rooms that were empty when
        their last member came back and was told, truly, that it missed nothing.
        """
        digest = blake2b(room.encode(), key=self._secret, digest_size=9).digest()
        return urlsafe_b64encode(digest).decode()

    def _keep(self) -> None:
        """Have the file keep what was said in this turn, and tell if it cannot."""
        change = None if self._file is None else self._file.keep()
        if self._file is None or change is None:
            return
        log.warning("%s", change)
        for room in self._rooms.values():
            room.tell(None, RECORDING if self._file.recording else NOT_RECORDING)

    def _idle_bytes(self) -> int:
        return sum(room.log.bytes for room in self._idle.values())

    def _report(self, peer: Peer, did: str, room: MemoryRoom, how: str = "") -> None:
        here, everywhere = len(room.room), len(self._seats)
        clients = "1 client" if everywhere == 1 else f"{everywhere} clients"
        tail = f", {how}" if how else ""
        name = word(peer.name) if peer.name else LISTENER
        fields = {
            "event": did.partition(" ")[0],
            "name": peer.name,
            "room": room.room.name,
            "how": how,
            "here": here,
            "clients": everywhere,
        }
        log.info(
            *("%s %s %s%s (%d here, %s)", name, did, room.room.name, tail, here, clients),
            extra={"fields": fields},
        )


def _source() -> str:
    """Return where ids count of who has no session."""
    return "#" + secrets.token_hex(8)


def program_file() -> bytes | None:
    """Read the single file that this code runs from, None for an installation.

    Once, as it is now: it may be overwritten while it runs, by the very download
    that it is handed out for.
    """
    archive = getattr(__spec__.loader, "archive", None)
    return None if archive is None else Path(archive).read_bytes()


async def serve(settings: Settings, announce: Callable[[Sequence[str]], None]) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises OSError or `NoPlace` for where it is to listen, `LogFileError` for the file.
    """
    files = allow_files()
    most = most_clients(files)
    fitting = min(settings.limits.clients, most)
    warning = f"at most {most} clients fit, as few files may be open (raise ulimit -n)"
    if fitting < settings.limits.clients:
        settings = replace(settings, limits=settings.limits._replace(clients=fitting))
    else:
        warning = ""
    certificate = None
    if settings.tls_cert is not None:
        from .tls import BadCertificate, Certificate

        try:
            certificate = Certificate(settings.tls_cert, settings.tls_key)
        except BadCertificate as error:
            raise NoPlace(str(error)) from None
    file = None
    if settings.log is not None:
        try:
            from .logfile import LogFile
        except ImportError:
            raise LogFileError("this Python has no SQLite, which --log needs") from None
        file = LogFile(settings.log, sync=settings.log_sync)
    try:
        server = Server(settings, program_file(), file, certificate, files)
        await _serve(server, announce, certificate, warning)
    finally:
        if file is not None:
            file.close()


async def _serve(
    server: Server,
    announce: Callable[[Sequence[str]], None],
    certificate: Certificate | None,
    warning: str,
) -> None:
    stopping = asyncio.Event()

    def stop() -> None:
        if stopping.is_set():  # asked for twice: who waits at a keyboard means now
            server.abort()
        stopping.set()

    await server.listen()
    reload = None if certificate is None else partial(_renew, certificate)
    with on_signals(stop, reload):
        announce(server.listener.urls)
        for text in filter(None, (warning, _risks(server))):
            log.warning("%s", text)
        # Not before, for they take as long as a fifth of the start; and not when they are
        # first needed, for the single file may have been replaced by then.
        importlib.import_module("broadcast_server.exchange")
        page()
        await stopping.wait()
        log.info("stopping")
        await server.stop()


def _renew(certificate: Certificate) -> None:
    from .tls import BadCertificate

    try:
        certificate.reload()
    except BadCertificate as error:
        log.warning("%s (the old one stays)", error)
    else:
        log.info("certificate renewed")


def _risks(server: Server) -> str:
    """Say what everyone can do who reaches a server that is not for this machine alone."""
    settings, listener = server.settings, server.listener
    if not listener.exposed:
        return ""
    risks = []
    if settings.token is None:
        risks.append("come in (see --token-file)")
    # Behind a proxy it is the proxy that has the certificate.
    if not listener.encrypted and not settings.trusted:
        risks.append("read along (see --tls-cert)")
    return f"whoever reaches this port can {' and '.join(risks)}" if risks else ""
