"""The client: dials, carries a `Conversation`, and comes back after a break.

What it hears it hands to its `Door`, a terminal or a pipe, which it waits for:
a slow door makes a slow reader, and the server copes with those.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import ssl
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidStatus,
    InvalidURI,
)
from websockets.typing import Subprotocol

from . import __version__
from .conversation import Conversation, Gap
from .protocol import SUBPROTOCOL, CloseCode, Error, Event, Request
from .thread import in_thread

MAX_FRAME = 4 * 2**20  # bytes; a server's frames are far smaller, but it may be another's


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a client waits for what, in seconds."""

    first: float = 1.0  # at the most, before the first attempt to come back
    longest: float = 15.0  # at the most, before any
    answer: float = 10.0  # for a handshake
    goodbye: float = 1.0  # for the other side to close, too

    def delay(self, attempt: int) -> float:
        """Return how long to wait before that attempt: exponential, with full jitter."""
        return random.uniform(0, min(self.longest, self.first * 2 ** min(attempt, 30)))


class Failed(Exception):
    """The client gives up; the text says why, in words for people."""


class Door(Protocol):
    """Where a client shows what it hears."""

    def show(self, events: list[Event]) -> None:
        """Show events of the room."""

    def note(self, text: str) -> None:
        """Show something about the connection."""

    async def drain(self) -> None:
        """Wait until more may be shown."""


class Client:
    """One client of one room."""

    def __init__(
        self,
        url: str,
        query: dict[str, str],
        conversation: Conversation,
        pace: Pace = Pace(),
        token: str | None = None,
        unix: str | None = None,
        trusted: ssl.SSLContext | None = None,
    ) -> None:
        self.conversation = conversation
        self.been_live = False
        """Whether we have been in the room, and so come back to it."""
        self._url = url
        self._unix = unix  # a socket file, where we dial instead
        self._trusted = trusted  # whom, if not the system's authorities
        self._query = query
        self._pace = pace
        self._headers = {"Authorization": f"Bearer {token}"} if token is not None else None
        self._wake = asyncio.Event()  # there may be something to send
        self._news = asyncio.Event()  # something came, or the connection went
        self._leave = asyncio.Event()
        self._again = asyncio.Event()  # another connection is to take the place of this one
        self._attempt = 0
        self._unseen = 0  # attempts that came to nothing here, and perhaps to something there

    # -- for the door --

    def say(self, text: str) -> None:
        """Say *text*, now or when that is possible."""
        self.conversation.say(text)
        self._wake.set()

    def ask(self, request: Request) -> None:
        """Send *request*, if there is a connection."""
        self.conversation.ask(request)
        self._wake.set()

    def rename(self, name: str) -> None:
        """Ask for another name, now or when that is possible."""
        self.conversation.rename(name)
        self._wake.set()

    def look_back(self, count: int) -> None:
        """Hear the last *count* messages again, now or when that is possible."""
        self.conversation.look_back(count)
        if self.conversation.live:
            self._again.set()

    def elsewhere(self, conversation: Conversation) -> Client:
        """Return a client of the same server that carries *conversation*."""
        other = Client(
            *(self._url, self._query, conversation, self._pace),
            *(None, self._unix, self._trusted),
        )
        other._headers = self._headers
        other.been_live = self.been_live
        return other

    def leave(self) -> None:
        """End `run`."""
        self._leave.set()

    async def room_to_say(self) -> None:
        """Wait until fewer messages are without their echo than the window allows."""
        while self.conversation.full:
            await self._changed()

    async def all_heard(self) -> None:
        """Wait until every message has come back."""
        while not self.been_live or len(self.conversation):
            await self._changed()

    async def _changed(self) -> None:
        self._news.clear()
        await self._news.wait()

    # -- the connection --

    async def run(self, door: Door) -> None:
        """Stay in the room until `leave`. Raises `Failed`."""
        staying = asyncio.ensure_future(self._stay(door))
        leaving = asyncio.ensure_future(self._leave.wait())
        try:
            await asyncio.wait({staying, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (staying, leaving):
                task.cancel()
            # A connection is closed properly on its way out of a cancelled task.
            await asyncio.wait({staying, leaving})
        if not staying.cancelled():
            staying.result()

    async def _stay(self, door: Door) -> None:
        old: ClientConnection | None = None  # whose place the next one takes
        while True:
            try:
                found = await self._reach()
            finally:
                if old is not None:
                    await old.close()
            reason: str | None
            if isinstance(found, str):
                old, reason = None, found
            else:
                old, reason = found, await self._once(found, door)
            if reason is None:
                continue
            old = None
            wait = self._pace.delay(self._attempt)
            self._attempt += 1
            door.note(f"{reason}, trying again in {wait:.1f} s")
            await asyncio.sleep(wait)

    async def _reach(self) -> ClientConnection | str:
        """Connect, or return why that cannot be done just now."""
        try:
            return await self._dial()
        except (
            OSError,
            InvalidHandshake,
            InvalidURI,
            ValueError,
            asyncio.TimeoutError,
        ) as error:
            why = _reason(error)
            if not isinstance(error, ConnectionRefusedError):
                self._unseen += 1
            if self.been_live:
                return why
            if isinstance(error, ConnectionRefusedError):
                why += ", is it running?"
            raise Failed(f"Could not connect to server at {self._where} ({why})") from None

    async def _once(self, connection: ClientConnection, door: Door) -> str | None:
        """Stay for as long as it lasts. Return why it ended, None if another is to follow it."""
        self._again.clear()
        conversing = asyncio.ensure_future(self._converse(connection, door))
        again = asyncio.ensure_future(self._again.wait())
        ends = True
        try:
            await asyncio.wait({conversing, again}, return_when=asyncio.FIRST_COMPLETED)
            ends = conversing.done()
        finally:
            for task in (conversing, again):
                task.cancel()
            await asyncio.wait({conversing, again})
            if ends:
                await connection.close()
            if not self.conversation.welcomed:
                self._unseen += 1
            self.conversation.lost()
            self._news.set()
        return conversing.result() if ends else None

    async def _dial(self) -> ClientConnection:
        # Ours first, since of a parameter that is given twice the first counts.
        query = urlencode(self._query)
        url = f"{self._url}?{self.conversation.query()}{'&' if query else ''}{query}"
        if self._unix is not None:
            return await self._connect(url, unix=True, path=self._unix)
        parts = urlsplit(self._url)
        port = parts.port or (443 if parts.scheme == "wss" else 80)
        failure: Exception = OSError("the host has no address")
        # Looked up by ourselves, because asyncio waits for its own look-up even
        # when we are to end: half a minute, where there is no network.
        for host in await asyncio.wait_for(_look_up(parts.hostname or "", port), self._pace.answer):
            try:
                return await self._connect(url, host=host, port=port)
            except (OSError, asyncio.TimeoutError) as error:
                failure = error
        raise failure

    async def _connect(self, url: str, **where: Any) -> ClientConnection:
        if self._trusted is not None:
            where["ssl"] = self._trusted
        return await connect(
            url,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            additional_headers=self._headers,  # which follow no redirection elsewhere
            proxy=None,  # else websockets obeys the system's, for loopback too
            user_agent_header=f"broadcast-server/{__version__}",
            max_size=MAX_FRAME,
            open_timeout=self._pace.answer,
            close_timeout=self._pace.goodbye,
            **where,
        )

    @property
    def _where(self) -> str:
        return self._url if self._unix is None else f"unix:{self._unix}"

    async def _converse(self, connection: ClientConnection, door: Door) -> str:
        if connection.subprotocol != SUBPROTOCOL:
            raise Failed(
                f"Could not connect to server at {self._where} (no broadcast server is there)"
            )
        sending = asyncio.ensure_future(self._send(connection))
        held: list[Event] = []
        try:
            while True:
                try:
                    events = held + self._heard(await connection.recv())
                except ConnectionClosed as closed:
                    return self._ended(closed, held)
                except Gap:
                    return "a message did not arrive"
                # An error that is about nothing we said is followed by the end,
                # whose reason it is, and so is not shown twice.
                held = [events.pop()] if events and _is_reason(events[-1]) else []
                if self.conversation.live:
                    self.been_live, self._attempt = True, 0
                self._wake.set()
                self._news.set()
                door.show(events)
                await door.drain()
        finally:
            sending.cancel()
            await asyncio.wait({sending})

    def _heard(self, frame: str | bytes) -> list[Event]:
        try:
            if isinstance(frame, str):
                return self.conversation.received(frame)
        except ValueError:
            pass
        raise Failed(f"{self._where} sent what no broadcast server sends")

    def _ended(self, closed: ConnectionClosed, held: list[Event]) -> str:
        code = 1006 if closed.rcvd is None else closed.rcvd.code
        reasons = [each.text for each in held if isinstance(each, Error)]
        if closed.rcvd is not None:
            reasons.append(closed.rcvd.reason)
        reason = next(filter(None, reasons), "connection lost")
        if CloseCode.final(code) and not self._overtaken(code):
            raise Failed(reason)
        return reason

    def _overtaken(self, code: int) -> bool:
        """Whether what replaced us was an attempt of our own, which came through late.

        Nobody else has our session; but of an attempt that we gave up we cannot know
        whether it waits somewhere on its way, with no one behind it any more.
        """
        if code != CloseCode.REPLACED or not self._unseen:
            return False
        self._unseen -= 1
        return True

    async def _send(self, connection: ClientConnection) -> None:
        while True:
            self._wake.clear()
            frame = self.conversation.outgoing()
            if frame is None:
                await self._wake.wait()
                continue
            try:
                await connection.send(frame)
            except ConnectionClosed:  # who receives is told as well
                return


async def _look_up(host: str, port: int) -> list[str]:
    """Return the addresses of *host*, each once, the best first. Raises OSError."""
    found = await in_thread(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _is_reason(event: Event) -> bool:
    return isinstance(event, Error) and event.id is None


def _reason(error: Exception) -> str:
    """Say in a few words why a connection could not be made."""
    match error:
        case InvalidStatus(response=response):
            body = bytes(response.body or b"").decode(errors="replace").strip()
            if response.status_code in (401, 403) and body:
                return body.splitlines()[0]
            return f"no broadcast server is there: HTTP status {response.status_code}"
        case InvalidHandshake():
            return "no WebSocket server is there"
        case UnicodeError() | socket.gaierror():
            return "unknown host"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {error.verify_message}"
        case InvalidURI() | ValueError():  # the latter for a redirection to elsewhere
            return "not the address of a WebSocket"
        case asyncio.TimeoutError() | TimeoutError():
            return "no answer in time"
        case ConnectionRefusedError():
            return "connection refused"
        case ssl.SSLError():
            return f"TLS failed: {(error.reason or str(error)).replace('_', ' ').lower()}"
        case OSError(errno=int() as number):
            return os.strerror(number).lower()
    return str(error)
