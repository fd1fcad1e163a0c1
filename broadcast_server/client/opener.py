"""The opener: opens the WebSocket connections of a client, one after another."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidURI
from websockets.typing import Subprotocol

from broadcast_server import __version__
from broadcast_server.console.threads import run_abandonable
from broadcast_server.protocol.messages import SUBPROTOCOL

from .address import DEFAULT_PORTS, with_port
from .connect_errors import ConnectFailure
from .handshake_errors import NO_SUBPROTOCOL, describe_handshake_error
from .session import ClientSession

MAX_FRAME_BYTES = 4 * 2**20
"""Bytes; frames of our server are far smaller, but the client may be used with another one."""


class OpenError(Exception):
    """A connection could not be opened."""

    def __init__(self, failure: ConnectFailure, *, unseen: bool) -> None:
        super().__init__(failure.text)
        self.failure = failure
        self.unseen = unseen
        """Whether the attempt may yet succeed at the server."""


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
        url = f"{self.url}?{query}"
        try:
            connection = await self._connect(url, session, timeout, close_timeout)
        except (
            OSError,
            InvalidHandshake,
            InvalidURI,
            ValueError,
            asyncio.TimeoutError,
        ) as error:
            failure = describe_handshake_error(error, plain=self._is_plain, url=self.url)
            unseen = not isinstance(error, ConnectionRefusedError)
            raise OpenError(failure, unseen=unseen) from None
        if connection.subprotocol != SUBPROTOCOL:
            await connection.close()
            raise OpenError(NO_SUBPROTOCOL, unseen=False)
        return connection

    async def _connect(
        self, url: str, session: ClientSession, timeout: float, close_timeout: float
    ) -> ClientConnection:
        options: dict[str, Any] = {"open_timeout": timeout, "close_timeout": close_timeout}
        options["additional_headers"] = self._headers(session)
        if self.unix is not None:
            return await self._handshake(url, options, unix=True, path=self.unix)
        parts = urlsplit(self.url)
        port = parts.port or DEFAULT_PORTS[parts.scheme]
        failure: Exception = OSError("the host has no address")
        # asyncio's own look-up cannot be cancelled: without a network, the program would take half
        # a minute to end.
        for host in await _look_up(parts.hostname or "", port, timeout):
            try:
                return await self._handshake(url, options, host=host, port=port)
            except (OSError, asyncio.TimeoutError) as error:
                failure = error
        raise failure

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
            **options,
            **endpoint,
        )

    def _headers(self, session: ClientSession) -> dict[str, str]:
        """Return the headers of a handshake. They have the secrets, which no address has."""
        token = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        return {**session.headers, **token}

    @property
    def _is_plain(self) -> bool:
        """Whether this is a TCP connection without TLS."""
        return self.unix is None and urlsplit(self.url).scheme == "ws"


async def _look_up(host: str, port: int, timeout: float) -> list[str]:
    """Return the addresses of *host*, without duplicates, the best first.

    Raises OSError, also if there is no answer within *timeout* seconds.
    """
    addresses = await run_abandonable(
        lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), timeout
    )
    return list(dict.fromkeys(str(address[0]) for *_, address in addresses))
