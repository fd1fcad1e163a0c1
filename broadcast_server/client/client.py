"""The client: connects, carries a `ClientSession`, and reconnects after a break.

What it receives goes to its `EventSink`, a terminal or a pipe. It waits for the sink before it
reads on, so a slow sink makes a slow reader, which the server is prepared for.
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.typing import Subprotocol

from broadcast_server import __version__
from broadcast_server.console.threads import run_abandonable
from broadcast_server.protocol.messages import (
    ABNORMAL_CLOSURE,
    SUBPROTOCOL,
    CloseCode,
    Error,
    Event,
    Request,
)

from .address import DEFAULT_PORTS, with_port
from .handshake_errors import describe_handshake_error
from .session import ClientSession, GapError

MAX_FRAME_BYTES = 4 * 2**20
"""Bytes; frames of our server are far smaller, but the client may be used with another one."""


@dataclass(frozen=True, slots=True)
class ClientTimeouts:
    """How long a client waits, in seconds."""

    first_delay: float = 1.0
    """Upper limit of the delay before the first attempt to reconnect."""
    max_delay: float = 15.0
    """Upper limit of the delay before any attempt."""
    handshake: float = 10.0
    close: float = 1.0
    """For the server to answer a closing handshake."""

    def delay(self, attempt: int) -> float:
        """Return the delay before an attempt, counted from 0: exponential, with full jitter."""
        return random.uniform(0, min(self.max_delay, self.first_delay * 2 ** min(attempt, 30)))


class ClientError(Exception):
    """The client gives up; the text is the reason, for the user."""


class EventSink(Protocol):
    """Where a client shows what it receives."""

    def show(self, events: list[Event]) -> None:
        """Show events of the room."""

    def note(self, text: str) -> None:
        """Show a notice about the connection."""

    async def drain(self) -> None:
        """Wait until the sink can take more events."""


class ReconnectingClient:
    """One client of one room.

    Args:
        url: The WebSocket's URL, without a query.
        query: Additional query parameters.
        session: The client's part in the room, which outlives each connection.
        timeouts: How long to wait.
        token: Token to send with each handshake.
        unix: Path of a Unix socket to connect to, instead of the URL's host and port.
        authorities: The trusted certificate authorities; None means those of the system.
    """

    def __init__(
        self,
        url: str,
        query: dict[str, str],
        session: ClientSession,
        *,
        timeouts: ClientTimeouts = ClientTimeouts(),
        token: str | None = None,
        unix: str | None = None,
        authorities: ssl.SSLContext | None = None,
    ) -> None:
        self.session = session
        self.has_been_live = False
        """Whether we have been in the room. If not, a failed attempt to connect ends the client."""
        self._url = url
        self._unix = unix
        self._authorities = authorities
        self._query = query
        self._timeouts = timeouts
        self._token = token
        self._wake = asyncio.Event()  # there may be something to send
        self._news = asyncio.Event()  # something was received, or the connection was lost
        self._leave = asyncio.Event()
        self._replace = asyncio.Event()  # a new connection is to take over the session
        self._attempt = 0  # attempts to reconnect since the last success
        self._unseen_attempts = 0  # attempts that failed here but may yet succeed at the server

    # -- called by the user interface --

    def send(self, text: str) -> None:
        """Publish *text*, now or as soon as possible."""
        self.session.send(text)
        self._wake.set()

    def request(self, request: Request) -> None:
        """Send *request*, if there is a connection."""
        self.session.request(request)
        self._wake.set()

    def rename(self, name: str) -> None:
        """Ask for another name, now or as soon as possible."""
        self.session.rename(name)
        self._wake.set()

    def show_again(self, count: int) -> None:
        """Show the last *count* messages again, now or as soon as possible."""
        self.session.show_again(count)
        if self.session.live:
            self._replace.set()

    def in_room(self, session: ClientSession) -> ReconnectingClient:
        """Return a client of the same server that carries *session*."""
        other = ReconnectingClient(
            self._url,
            self._query,
            session,
            timeouts=self._timeouts,
            token=self._token,
            unix=self._unix,
            authorities=self._authorities,
        )
        other.has_been_live = self.has_been_live
        return other

    def leave(self) -> None:
        """Make `run` return."""
        self._leave.set()

    async def wait_for_window(self) -> None:
        """Wait until another message may be sent without too many lacking their echo."""
        while self.session.full:
            await self._wait_for_news()

    async def wait_confirmed(self) -> None:
        """Wait until every message has its echo."""
        while not self.has_been_live or len(self.session):
            await self._wait_for_news()

    async def _wait_for_news(self) -> None:
        self._news.clear()
        await self._news.wait()

    # -- the connection --

    async def run(self, sink: EventSink) -> None:
        """Stay in the room until `leave`. Raises ClientError."""
        staying = asyncio.ensure_future(self._keep_connected(sink))
        leaving = asyncio.ensure_future(self._leave.wait())
        try:
            await asyncio.wait({staying, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (staying, leaving):
                task.cancel()
            # Cancelling the task closes the connection properly, which takes a moment.
            await asyncio.wait({staying, leaving})
        if not staying.cancelled():
            staying.result()

    async def _keep_connected(self, sink: EventSink) -> None:
        previous: ClientConnection | None = None  # its session is taken over by the next one
        while True:
            try:
                outcome = await self._connect_or_explain()
            finally:
                if previous is not None:
                    await previous.close()
            reason: str | None
            if isinstance(outcome, str):
                previous, reason = None, outcome
            else:
                previous, reason = outcome, await self._use(outcome, sink)
            if reason is None:
                continue
            previous = None
            delay = self._timeouts.delay(self._attempt)
            self._attempt += 1
            sink.note(f"{reason}, trying again in {delay:.1f} s")
            await asyncio.sleep(delay)

    async def _connect_or_explain(self) -> ClientConnection | str:
        """Connect, or return the reason why that failed this time. Raises ClientError."""
        try:
            return await self._connect()
        except (
            OSError,
            InvalidHandshake,
            InvalidURI,
            ValueError,
            asyncio.TimeoutError,
        ) as error:
            failure = describe_handshake_error(error, plain=self._is_plain)
            if not isinstance(error, ConnectionRefusedError):
                self._unseen_attempts += 1
            if self.has_been_live:
                return failure.reason
            raise ClientError(failure.message(self._description)) from None

    async def _use(self, connection: ClientConnection, sink: EventSink) -> str | None:
        """Use *connection* until it ends, and return why it ended.

        Returns None, and leaves the connection open, if `show_again` wants a new one in its place.
        """
        self._replace.clear()
        receiving = asyncio.ensure_future(self._receive_all(connection, sink))
        replacing = asyncio.ensure_future(self._replace.wait())
        has_ended = True
        try:
            await asyncio.wait({receiving, replacing}, return_when=asyncio.FIRST_COMPLETED)
            has_ended = receiving.done()
        finally:
            for task in (receiving, replacing):
                task.cancel()
            await asyncio.wait({receiving, replacing})
            if has_ended:
                await connection.close()
            if not self.session.is_welcomed:
                self._unseen_attempts += 1
            self.session.connection_lost()
            self._news.set()
        return receiving.result() if has_ended else None

    async def _connect(self) -> ClientConnection:
        # Our parameters come first: of a repeated parameter, the server uses the first value.
        query = "&".join(filter(None, (self.session.query(), urlencode(self._query))))
        url = f"{self._url}?{query}"
        if self._unix is not None:
            return await self._open(url, unix=True, path=self._unix)
        parts = urlsplit(self._url)
        port = parts.port or DEFAULT_PORTS[parts.scheme]
        failure: Exception = OSError("the host has no address")
        # asyncio's own look-up cannot be cancelled: without a network, the program would take half
        # a minute to end.
        for host in await _look_up(parts.hostname or "", port, self._timeouts.handshake):
            try:
                return await self._open(url, host=host, port=port)
            except (OSError, asyncio.TimeoutError) as error:
                failure = error
        raise failure

    async def _open(self, url: str, **endpoint: Any) -> ClientConnection:
        if self._authorities is not None:
            endpoint["ssl"] = self._authorities
        return await connect(
            url,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            additional_headers=self._headers(),  # they stay here: a redirect elsewhere fails
            proxy=None,  # by default, websockets uses the system's proxy, for loopback too
            user_agent_header=f"broadcast-server/{__version__}",
            max_size=MAX_FRAME_BYTES,
            open_timeout=self._timeouts.handshake,
            close_timeout=self._timeouts.close,
            **endpoint,
        )

    def _headers(self) -> dict[str, str]:
        """Return the headers of a handshake. They have the secrets, which no address has."""
        token = {} if self._token is None else {"Authorization": f"Bearer {self._token}"}
        return {**self.session.headers, **token}

    @property
    def _is_plain(self) -> bool:
        """Whether this is a TCP connection without TLS."""
        return self._unix is None and urlsplit(self._url).scheme == "ws"

    @property
    def _description(self) -> str:
        return with_port(self._url) if self._unix is None else f"unix:{self._unix}"

    async def _receive_all(self, connection: ClientConnection, sink: EventSink) -> str:
        """Show what is received until the connection ends, and return why it ended."""
        if connection.subprotocol != SUBPROTOCOL:
            raise ClientError(
                f"Could not connect to server at {self._description} (no broadcast server is there)"
            )
        sending = asyncio.ensure_future(self._send_all(connection))
        held_back: list[Event] = []  # an error that may be the reason for closing
        try:
            while True:
                try:
                    events = held_back + self._parse(await connection.recv())
                except ConnectionClosed as closed:
                    return self._close_reason(closed, held_back)
                except GapError:
                    return "a message did not arrive"
                # An error without an id is about the connection, and the server closes it next. The
                # error is reported as the reason then, so it is not shown as an event as well.
                held_back = [events.pop()] if events and _is_about_connection(events[-1]) else []
                if self.session.live:
                    self.has_been_live, self._attempt = True, 0
                self._wake.set()
                self._news.set()
                sink.show(events)
                await sink.drain()
        finally:
            sending.cancel()
            await asyncio.wait({sending})

    def _parse(self, frame: str | bytes) -> list[Event]:
        try:
            if isinstance(frame, str):
                return self.session.receive(frame)
        except ValueError:
            pass
        raise ClientError(
            f"{self._description} sent an invalid event, it is not a broadcast server"
        )

    def _close_reason(self, closed: ConnectionClosed, held_back: list[Event]) -> str:
        """Return why the connection was closed. Raises ClientError if the close code is final."""
        code = ABNORMAL_CLOSURE if closed.rcvd is None else closed.rcvd.code
        reasons = [event.text for event in held_back if isinstance(event, Error)]
        if closed.rcvd is not None:
            reasons.append(closed.rcvd.reason)
        reason = next(filter(None, reasons), "connection lost")
        if CloseCode.is_final(code) and not self._is_replaced_by_own_attempt(code):
            raise ClientError(reason)
        return reason

    def _is_replaced_by_own_attempt(self, code: int) -> bool:
        """Tell whether an earlier attempt of our own has taken over the session.

        Nobody else has our session. But an attempt that we gave up may still be on its way to the
        server, which then replaces the current connection by it, although nobody uses it any more.
        """
        if code != CloseCode.REPLACED or not self._unseen_attempts:
            return False
        self._unseen_attempts -= 1
        return True

    async def _send_all(self, connection: ClientConnection) -> None:
        while True:
            self._wake.clear()
            frame = self.session.outgoing()
            if frame is None:
                await self._wake.wait()
                continue
            try:
                await connection.send(frame)
            except ConnectionClosed:  # `_receive_all` gets the same exception, with the reason
                return


async def _look_up(host: str, port: int, timeout: float) -> list[str]:
    """Return the addresses of *host*, without duplicates, the best first.

    Raises OSError, also if there is no answer within *timeout* seconds.
    """
    addresses = await run_abandonable(
        lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), timeout
    )
    return list(dict.fromkeys(str(address[0]) for *_, address in addresses))


def _is_about_connection(event: Event) -> bool:
    return isinstance(event, Error) and event.id is None
