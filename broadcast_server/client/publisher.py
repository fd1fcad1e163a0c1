"""The publisher: sends messages to a room by HTTP POST, and retries until the outcome is known.

All messages of a publisher have one session and each has an id, so that a retry does not publish a
message twice. The publisher blocks: its callers run it in a thread that they can abandon.
"""

from __future__ import annotations

import http.client
import io
import random
import secrets
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from math import inf
from time import monotonic
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from broadcast_server import __version__
from broadcast_server.protocol.operators import OPERATOR_HEADER
from broadcast_server.protocol.session_key import SESSION_HEADER

from .address import DEFAULT_PORTS, without_zone
from .connect_errors import (
    CLOSED_IN_TLS_HANDSHAKE,
    CLOSED_WITHOUT_RESPONSE,
    CLOSED_WITHOUT_TLS,
    INVALID_HTTP,
    NOT_HTTP,
    TOO_MANY_REDIRECTS,
    ConnectFailure,
    describe_connect_error,
)
from .dial import SocketAddress, dial
from .http_status import MAX_REDIRECTS
from .publish_result import Accepted, PublishResult, Rejected, Retry, parse_publish_response
from .response_head import INTERIM_STATUS_LINE, MAX_INTERIM_BYTES, begins_as_http
from .target import Target

RESPONSE_TIMEOUT_S = 10.0
"""Seconds to wait for the server in each step of a request, unless the deadline is earlier."""

FIRST_RETRY_S, MAX_RETRY_S = 0.2, 2.0
"""Seconds between two attempts, at most: 0.2 after the first, doubling up to 2."""

PATH_CHARACTERS = "/%:@!$&'()*+,;=~"
"""Characters that a path may have as they are (RFC 3986, section 3.3)."""

MAX_RESPONSE_BYTES = 2**16
"""Bytes of a response that are read; ours has about a hundred."""


class PublishFailed(Exception):
    """A message was not published, or perhaps not if not *sure*; the text says which, and why."""

    def __init__(self, why: str, *, sure: bool = True) -> None:
        super().__init__(f"not sent: {why}" if sure else f"perhaps not sent: {why}")
        self.why = why
        self.sure = sure

    def after(self, count: int) -> PublishFailed:
        """Return the failure of a text whose first *count* messages were published."""
        parts = "the first part was" if count == 1 else f"the first {count} parts were"
        return PublishFailed(f"{self.why} ({parts} sent)", sure=self.sure)


class HTTPPublisher:
    """Publishes messages to one room of the server *target*.

    Args:
        target: The server.
        name: Name to publish under; None leaves it to the address's query, or to the server.
        room: Room to publish to; None leaves it to the address's query, or to the server.
        require: Number of connections that must receive a message for it to be published.
        note: Called with the reason before the first retry of each message.
    """

    def __init__(
        self,
        target: Target,
        name: str | None,
        room: str | None,
        *,
        require: int = 0,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.deadline = inf
        """When to give up, in seconds of the monotonic clock."""
        self.maybe_published = False
        """Whether the server may have received the current message."""
        self._target = target
        given = {"name": name, "room": room, "require": str(require) if require else None}
        self._parameters = {key: value for key, value in given.items() if value is not None}
        self._session = secrets.token_urlsafe(24)
        self._note = note
        self._retry_now = threading.Event()
        self._has_been_answered = False
        self._silent: set[SocketAddress] = set()  # addresses that took a request and did not answer

    def finish_within(self, seconds: float) -> None:
        """Set the deadline to *seconds* from now, and end a pause between two attempts."""
        self.deadline = monotonic() + seconds
        self._retry_now.set()

    def publish(self, text: str) -> Accepted:
        """Publish *text*, with retries until the deadline. Raises PublishFailed."""
        query = urlencode({**self._parameters, "id": secrets.token_urlsafe(9)})
        others = urlencode(self._target.query)  # last: of a repeated parameter the first counts
        query = f"{query}{'&' if others else ''}{others}"
        self.maybe_published, attempt, redirects = False, 0, 0
        url = self._target.url
        while True:
            maybe_published_before = self.maybe_published
            result = self._post(url, query, text.encode(errors="replace"))
            match result:
                case Accepted():
                    return result
                case Rejected(redirect=redirect) if redirect:
                    url, redirects = redirect, redirects + 1
                    self.maybe_published = maybe_published_before
                    if redirects > MAX_REDIRECTS:
                        why = TOO_MANY_REDIRECTS.message(self._target.description)
                        raise PublishFailed(why, sure=not maybe_published_before)
                    continue
                case Rejected(why=why):
                    raise PublishFailed(why, sure=result.sure and not maybe_published_before)
            self.maybe_published = maybe_published_before or not result.sure
            pause = random.uniform(0.5, 1) * min(MAX_RETRY_S, FIRST_RETRY_S * 2 ** min(attempt, 30))
            pause, attempt = max(result.wait, pause), attempt + 1
            if monotonic() + pause >= self.deadline:
                why = f"{result.why}, {result.hint}" if result.hint else result.why
                raise PublishFailed(why, sure=not self.maybe_published)
            if attempt == 1:
                self._note(result.why)
            if self._retry_now.wait(pause):
                self._retry_now.clear()

    def _post(self, url: str, query: str, body: bytes) -> PublishResult:
        """Make one attempt on a new connection."""
        path = f"{quote(urlsplit(url).path, safe=PATH_CHARACTERS)}?{query}"
        connection, sure = None, True  # sure: whether the message cannot have been published
        try:
            connection = self._connection()
            connection.connect()
            self.maybe_published, sure = True, False
            # A server may respond and close before it has read the body: read the response then.
            with suppress(ConnectionError):
                connection.request("POST", path, body, self._headers())
            # Closing the connection does not close a response that ends with the connection.
            with connection.getresponse() as response:
                self._has_been_answered = True
                headers = {name.lower(): value for name, value in response.getheaders()}
                body = response.read(MAX_RESPONSE_BYTES)
                # A body that is shorter than its Content-Length is no error for `read(n)`.
                if response.length and len(body) < MAX_RESPONSE_BYTES:
                    raise http.client.IncompleteRead(body, response.length)
            if not 100 <= response.status < 600:
                raise http.client.BadStatusLine(str(response.status))
            return parse_publish_response(response.status, headers, body, url)
        except (OSError, ValueError, http.client.HTTPException) as error:
            failure = self._describe_failure(error, is_connected=not sure)
            sure = sure or isinstance(error, ValueError | _NotHTTP)  # ValueError: of our request
            text = failure.message(self._target.description) if sure else failure.reason
            if failure.final:
                return Rejected(text, sure=sure)
            return Retry(text, sure=sure, hint="" if sure else failure.hint)
        finally:
            if connection is not None:
                connection.close()

    def _describe_failure(self, error: Exception, *, is_connected: bool) -> ConnectFailure:
        """Describe why a request got no response. A connection *is_connected* after TLS."""
        is_tls = self._target.unix is None and urlsplit(self._target.url).scheme == "wss"
        match error:
            case http.client.IncompleteRead():
                return CLOSED_WITHOUT_RESPONSE
            case http.client.HTTPException() if not isinstance(error, ConnectionError):
                return NOT_HTTP if isinstance(error, _NotHTTP) else INVALID_HTTP
            case ConnectionRefusedError():
                return describe_connect_error(error)
            # `http.client.RemoteDisconnected` is a ConnectionError without an error number.
            case ConnectionError() | ssl.SSLEOFError() if is_connected:
                may_use_tls = not (is_tls or self._target.unix or self._has_been_answered)
                return CLOSED_WITHOUT_TLS if may_use_tls else CLOSED_WITHOUT_RESPONSE
            case ConnectionError() if is_tls:
                return CLOSED_IN_TLS_HANDSHAKE
        return describe_connect_error(error)

    def _connection(self) -> http.client.HTTPConnection:
        timeout = min(RESPONSE_TIMEOUT_S, max(0.1, self.deadline - monotonic()))
        if self._target.unix is not None:
            connection: http.client.HTTPConnection = _UnixHTTPConnection(self._target.unix, timeout)
        else:
            connection = _DialedHTTPConnection(self._target, timeout, self._silent)
        connection.response_class = _WholeResponse
        return connection

    def _headers(self) -> dict[str, str]:
        headers = {
            "Host": _host_header(self._target),
            "Content-Type": "text/plain; charset=utf-8",
            "User-Agent": f"broadcast-server/{__version__}",
            SESSION_HEADER: self._session,
        }
        if self._target.token is not None:
            headers["Authorization"] = f"Bearer {self._target.token}"
        if self._target.operator_key is not None:
            headers[OPERATOR_HEADER] = self._target.operator_key
        return headers


class _NotHTTP(http.client.HTTPException):
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

    Raises `IncompleteRead` for a line that is cut off or missing, and `_NotHTTP` for a first line
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
            raise _NotHTTP
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


def _host_header(target: Target) -> str:
    """Return the value of the Host header, in ASCII."""
    if target.unix is not None:
        return "localhost"
    netloc = urlsplit(without_zone(target.url)).netloc.removesuffix(":")
    return netloc if netloc.isascii() else netloc.encode("idna").decode()


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
