"""The publisher: sends messages to a room by HTTP POST, and retries until the outcome is known.

All messages of a publisher have one session and each has an id, so that a retry does not publish a
message twice. The publisher blocks: its callers run it in a thread that they can abandon.
"""

from __future__ import annotations

import http.client
import random
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from math import inf
from time import monotonic
from urllib.parse import quote, urlencode, urlsplit

from broadcast_server import __version__
from broadcast_server.protocol.operators import OPERATOR_HEADER
from broadcast_server.protocol.session_key import SESSION_HEADER

from .connect_errors import TOO_MANY_REDIRECTS
from .dial import SocketAddress
from .http_connection import NotHTTP, describe_http_failure, host_header, http_connection
from .http_status import MAX_REDIRECTS
from .publish_result import Accepted, PublishResult, Rejected, Retry, parse_publish_response
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
            failure = describe_http_failure(
                error, self._target, is_connected=not sure, has_answered=self._has_been_answered
            )
            sure = sure or isinstance(error, ValueError | NotHTTP)  # ValueError: of our request
            text = failure.message(self._target.description) if sure else failure.reason
            if failure.final:
                return Rejected(text, sure=sure)
            return Retry(text, sure=sure, hint="" if sure else failure.hint)
        finally:
            if connection is not None:
                connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        timeout = min(RESPONSE_TIMEOUT_S, max(0.1, self.deadline - monotonic()))
        return http_connection(self._target, timeout, self._silent)

    def _headers(self) -> dict[str, str]:
        headers = {
            "Host": host_header(self._target),
            "Content-Type": "text/plain; charset=utf-8",
            "User-Agent": f"broadcast-server/{__version__}",
            SESSION_HEADER: self._session,
        }
        if self._target.token is not None:
            headers["Authorization"] = f"Bearer {self._target.token}"
        if self._target.operator_key is not None:
            headers[OPERATOR_HEADER] = self._target.operator_key
        return headers
