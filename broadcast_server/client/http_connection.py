"""An HTTP connection of a client: to the first address that answers, with whole responses only."""

from __future__ import annotations

import http.client
import io
import socket
import ssl
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from .address import DEFAULT_PORTS, without_zone
from .connect_errors import (
    CLOSED_IN_TLS_HANDSHAKE,
    CLOSED_WITHOUT_RESPONSE,
    CLOSED_WITHOUT_TLS,
    INVALID_HTTP,
    NOT_HTTP,
    ConnectFailure,
    describe_connect_error,
)
from .dial import SocketAddress, dial
from .response_head import INTERIM_STATUS_LINE, MAX_INTERIM_BYTES, begins_as_http
from .target import Target


def http_connection(
    target: Target, timeout: float, silent: set[SocketAddress]
) -> http.client.HTTPConnection:
    """Return a connection to *target* that is not open yet.

    Args:
        target: The server.
        timeout: Seconds to connect in, over all addresses, and then for each step of a request.
        silent: The addresses that did not answer a request; they are tried last.

    """
    if target.unix is not None:
        connection: http.client.HTTPConnection = _UnixHTTPConnection(target.unix, timeout)
    else:
        connection = _DialedHTTPConnection(target, timeout, silent)
    connection.response_class = _WholeResponse
    return connection


def host_header(target: Target) -> str:
    """Return the value of the Host header, in ASCII."""
    if target.unix is not None:
        return "localhost"
    netloc = urlsplit(without_zone(target.url)).netloc.removesuffix(":")
    return netloc if netloc.isascii() else netloc.encode("idna").decode()


def describe_http_failure(
    error: Exception, target: Target, *, is_connected: bool, has_answered: bool = False
) -> ConnectFailure:
    """Describe why a request got no response. A connection *is_connected* after TLS.

    *has_answered* is whether the server has responded to another request.
    """
    is_tls = target.unix is None and urlsplit(target.url).scheme == "wss"
    match error:
        case http.client.IncompleteRead():
            return CLOSED_WITHOUT_RESPONSE
        case http.client.HTTPException() if not isinstance(error, ConnectionError):
            return NOT_HTTP if isinstance(error, NotHTTP) else INVALID_HTTP
        case ConnectionRefusedError():
            return describe_connect_error(error)
        # `http.client.RemoteDisconnected` is a ConnectionError without an error number.
        case ConnectionError() | ssl.SSLEOFError() if is_connected:
            may_use_tls = not (is_tls or target.unix or has_answered)
            return CLOSED_WITHOUT_TLS if may_use_tls else CLOSED_WITHOUT_RESPONSE
        case ConnectionError() if is_tls:
            return CLOSED_IN_TLS_HANDSHAKE
    return describe_connect_error(error)


class NotHTTP(http.client.HTTPException):
    """The first bytes of the response are not those of an HTTP response."""


class _WholeResponse(http.client.HTTPResponse):
    """A response whose head and chunks have to be complete.

    `http.client` takes the end of the connection for the end of the head, or of the trailer.
    """

    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp = _WholeLines(self.fp.detach())


class _WholeLines(io.BufferedReader):
    """Reads the lines of the final HTTP response.

    Raises `IncompleteRead` for a line that is cut off or missing, and `NotHTTP` for a first line
    that does not begin as HTTP does.
    """

    _is_first = True

    def readline(self, size: int | None = -1, /) -> bytes:
        """Read a line, of at most *size* bytes."""
        line = super().readline(size)
        is_first, self._is_first = self._is_first, False
        if is_first and not line:
            return line  # no response at all: `RemoteDisconnected`
        if is_first and not begins_as_http(line):
            raise NotHTTP
        left = MAX_INTERIM_BYTES
        while is_first and INTERIM_STATUS_LINE.match(line):
            while line.strip():  # to the end of its head
                left -= len(line)
                if left < 0:
                    raise http.client.HTTPException("too many interim responses")
                line = super().readline(size)
            if line:
                line = super().readline(size)
        if not line.endswith(b"\n") and len(line) != size:
            raise http.client.IncompleteRead(line)
        return line


class _DialedHTTPConnection(http.client.HTTPConnection):
    """An HTTP connection to the first address of a server that answers, with TLS for wss://.

    Args:
        target: The server.
        timeout: Seconds to connect in, over all addresses, and then for each step of a request.
        silent: The addresses that did not answer a request. Ours is among them until it has.

    """

    def __init__(self, target: Target, timeout: float, silent: set[SocketAddress]) -> None:
        parts = urlsplit(target.url)
        super().__init__("localhost", timeout=timeout)  # each request has its own Host header
        self._server = parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme]
        self._seconds = timeout
        self._target = target
        self._silent = silent

    def connect(self) -> None:
        """Connect, and make the TLS handshake."""
        deadline = monotonic() + self._seconds
        host, port = self._server
        dialed = dial(host, port, deadline, proxy=self._target.proxy, last=self._silent)
        self.sock = dialed.sock
        self._silent.add(dialed.address)
        # An address that does not answer leaves some time for the others.
        self.sock.settimeout(max(0.1, (deadline - monotonic()) / (1 + dialed.untried)))
        if urlsplit(self._target.url).scheme == "wss":
            context = self._target.authorities or ssl.create_default_context()
            self.sock = context.wrap_socket(self.sock, server_hostname=host.partition("%")[0])

    def getresponse(self) -> http.client.HTTPResponse:
        """Get the response: this address is not silent."""
        response = super().getresponse()
        self._silent.clear()
        return response


class _UnixHTTPConnection(http.client.HTTPConnection):
    """An HTTP connection over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket file."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
