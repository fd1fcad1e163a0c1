"""The opener: opens the WebSocket connections of a client, one after another."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any
from urllib.parse import urlencode, urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidURI
from websockets.typing import Subprotocol

from broadcast_server import __version__
from broadcast_server.console.threads import run_abandonable
from broadcast_server.console.time_limit import run_to_end, run_within
from broadcast_server.protocol.messages import SUBPROTOCOL
from broadcast_server.protocol.operators import OPERATOR_HEADER

from .address import DEFAULT_PORTS, with_port, without_zone
from .connect_errors import TOO_MANY_REDIRECTS, ConnectFailure
from .dial import Dialed, SocketAddress, dial
from .handshake_errors import (
    NO_SUBPROTOCOL,
    describe_handshake_error,
    redirect_of,
)
from .http_status import MAX_REDIRECTS
from .proxy import Proxy, ProxyError
from .response_head import ResponseHead
from .session import ClientSession

MAX_FRAME_BYTES = 4 * 2**20
"""Bytes; frames of our server are far smaller, but the client may be used with another one."""


MAX_GIVE_UP_S = 0.25
"""Seconds that a handshake may go on after the client was told to leave."""


class OpenError(Exception):
    """A connection could not be opened."""

    def __init__(self, failure: ConnectFailure, *, unseen: bool) -> None:
        super().__init__(failure.text)
        self.failure = failure
        self.unseen = unseen
        """Whether the attempt may yet succeed at the server."""


class _Connection(ClientConnection):
    """A connection that ends even if the peer leaves it open after our closing handshake.

    websockets bounds that wait when its user closes a connection, and not when it fails the
    connection itself, for instance because of an invalid frame.

    *head* gets what the server sends first, before websockets does.
    """

    def __init__(self, head: ResponseHead, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        head.begin()
        self._head = head

    def data_received(self, data: bytes) -> None:
        super().data_received(self._head.feed(data))
        if self.protocol.close_expected() and self.close_timeout is not None:
            self.loop.call_later(self.close_timeout, self.transport.abort)


@dataclass(frozen=True, slots=True)
class Opener:
    """A server, and how a client connects to it."""

    url: str
    """The WebSocket's URL, without a query."""
    query: dict[str, str]
    """Additional query parameters."""
    token: str | None = None
    """Token to send with each handshake."""
    unix: str | None = None
    """Path of a Unix socket to connect to, instead of the URL's host and port."""
    authorities: ssl.SSLContext | None = None
    """The trusted certificate authorities; None means those of the system."""
    proxy: Proxy | None = None
    """The HTTP proxy to go through; None for a direct connection."""
    operator_key: str | None = None
    """Key to be an operator with, shown in each handshake."""

    @property
    def description(self) -> str:
        """The address, as messages to the user show it."""
        return with_port(self.url) if self.unix is None else f"unix:{self.unix}"

    async def open(
        self, session: ClientSession, timeout: float, close_timeout: float
    ) -> ClientConnection:
        """Open a connection for *session*. Raises OpenError.

        Args:
            session: The session, which says what it joins.
            timeout: Seconds until the connection has to be open.
            close_timeout: Seconds that the server has to answer its closing handshake.

        """
        # Our parameters come first: of a repeated parameter, the server uses the first value.
        query = "&".join(filter(None, (session.query(), urlencode(self.query))))
        deadline = monotonic() + timeout
        url, base = f"{self.url}?{query}", self.url
        options: dict[str, Any] = {
            "additional_headers": self._headers(session),
            "close_timeout": close_timeout,
        }
        for _ in range(MAX_REDIRECTS + 1):
            head = ResponseHead()
            options["create_connection"] = partial(_Connection, head)
            try:
                connection = await self._connect(url, options, deadline)
                break
            except (
                OSError,
                InvalidHandshake,
                InvalidURI,
                ValueError,
                asyncio.TimeoutError,
            ) as error:
                failure = describe_handshake_error(error, plain=self._is_plain, url=base, head=head)
                unseen = not isinstance(error, ConnectionRefusedError | ProxyError)
                base = redirect_of(error, base) or ""
                if not base:
                    raise OpenError(failure, unseen=unseen) from None
                url = f"{base}?{query}"
        else:
            raise OpenError(TOO_MANY_REDIRECTS, unseen=False)
        if connection.subprotocol != SUBPROTOCOL:
            await close_connection(connection)
            raise OpenError(NO_SUBPROTOCOL, unseen=False)
        return connection

    async def _connect(
        self, url: str, options: dict[str, Any], deadline: float
    ) -> ClientConnection:
        """Connect to one address of the host after the other, until one answers the handshake."""
        if self.unix is not None:
            opening = self._handshake(url, options, unix=True, path=self.unix)
            return await _open_within(opening, deadline - monotonic())
        parts = urlsplit(self.url)
        host, port = parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme]
        silent: set[SocketAddress] = set()  # they take a connection, and answer no handshake
        while True:
            left = deadline - monotonic()
            # In a thread, as a look-up cannot be cancelled: without a network, the program would
            # take half a minute to end.
            dialed = await run_abandonable(
                lambda: dial(host, port, deadline, proxy=self.proxy, last=silent),
                left,
                discard=lambda late: late.sock.close(),
            )
            # An address that does not answer leaves some time for the others.
            is_last = not dialed.untried or dialed.address in silent
            share = (deadline - monotonic()) / (1 if is_last else 1 + dialed.untried)
            try:
                return await self._handshake_on(dialed, without_zone(url), options, share)
            except (OSError, asyncio.TimeoutError):
                if is_last:
                    raise
                silent.add(dialed.address)

    async def _handshake_on(
        self, dialed: Dialed, url: str, options: dict[str, Any], seconds: float
    ) -> ClientConnection:
        """Make the handshake on a new connection, which is closed if that fails."""
        has_begun = False

        async def handshake() -> ClientConnection:
            nonlocal has_begun
            has_begun = True
            dialed.sock.setblocking(False)
            return await self._handshake(url, options, sock=dialed.sock)

        try:
            return await _open_within(handshake(), seconds)
        except (InvalidURI, UnicodeError):  # websockets has not taken the socket
            dialed.sock.close()
            raise
        finally:
            if not has_begun:
                dialed.sock.close()

    async def _handshake(
        self, url: str, options: dict[str, Any], **endpoint: Any
    ) -> ClientConnection:
        if self.authorities is not None:
            endpoint["ssl"] = self.authorities
        return await connect(
            url,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            proxy=None,  # by default, websockets uses the system's proxy, for loopback too
            user_agent_header=f"broadcast-server/{__version__}",
            max_size=MAX_FRAME_BYTES,
            open_timeout=None,
            **options,
            **endpoint,
        )

    def _headers(self, session: ClientSession) -> dict[str, str]:
        """Return the headers of a handshake. They have the secrets, which no address has."""
        token = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        key = {} if self.operator_key is None else {OPERATOR_HEADER: self.operator_key}
        return {**session.headers, **token, **key}

    @property
    def _is_plain(self) -> bool:
        """Whether this is a TCP connection without TLS."""
        return self.unix is None and urlsplit(self.url).scheme == "ws"


async def _open_within(
    opening: Coroutine[Any, Any, ClientConnection], seconds: float
) -> ClientConnection:
    """Open a connection. Raises asyncio.TimeoutError after *seconds*.

    If this is cancelled, the connection is opened and closed properly, if that is possible within
    `MAX_GIVE_UP_S`. The server may have the request by then, and the client may be a member. If its
    connection was cut, the server would keep its name for it for a while.
    """
    task = asyncio.ensure_future(opening)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            raise asyncio.TimeoutError
    except asyncio.CancelledError:
        await run_to_end(_give_up(task))
        raise
    finally:
        if not task.done():
            with suppress(Exception):  # asyncio.TimeoutError, as expected, or why it failed
                _abort(await run_within(task, 0, discard=_abort))
    return task.result()


async def _give_up(task: asyncio.Task[ClientConnection]) -> None:
    await asyncio.wait({task}, timeout=MAX_GIVE_UP_S)
    if _has_opened(task):
        await close_connection(task.result())


async def close_connection(connection: ClientConnection) -> None:
    """Close *connection* properly, or cut it if that is cancelled or takes too long.

    The time limit of websockets begins when the close frame was written. If the other side reads
    nothing, that is never.
    """
    try:
        with suppress(asyncio.TimeoutError):
            await run_within(connection.close(), connection.close_timeout)
    finally:
        connection.transport.abort()  # does nothing if it is closed


def _has_opened(task: asyncio.Task[ClientConnection]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _abort(connection: ClientConnection) -> None:
    connection.transport.abort()
