"""The courier: brings messages to a room by POST, and comes again until it is known how it went.

Each message has an id and all have one session, so that to come again says nothing twice.
It blocks, and so has a thread for itself: nobody waits for it longer than they want to.
"""

from __future__ import annotations

import http.client
import os
import random
import secrets
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from math import inf
from time import monotonic
from urllib.parse import quote, urlencode, urlsplit

from . import __version__
from .reply import Later, Refused, Reply, Taken, reply_of
from .target import Target

ANSWER = 10.0
"""Seconds that a server has for a sign of life, if we wait so long at all."""

FIRST, LONGEST = 0.2, 2.0
"""Seconds between two attempts: at the first, and at the most."""

MOST = 2**16
"""Bytes of an answer that are read; ours has a hundred."""


class NotSaid(Exception):
    """A message was not said, or it is not known whether it was; the text says so, and why."""

    def __init__(self, why: str, *, sure: bool = True) -> None:
        super().__init__(f"not said: {why}" if sure else f"perhaps not said: {why}")
        self.why = why


class Courier:
    """Brings messages to one room, until `deadline` by the monotonic clock.

    `note` is told once why something is tried again.
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
        self.unsure = False
        """Whether the message that is on its way may have been said."""
        self._target = target
        asked = {"name": name, "room": room, "require": str(require) if require else None}
        self._asked = {key: value for key, value in asked.items() if value is not None}
        self._asked["session"] = secrets.token_urlsafe(24)
        self._note = note
        self._hurry = threading.Event()

    def hurry(self, seconds: float) -> None:
        """Have an end in so many seconds, and try again at once if that is waited for."""
        self.deadline = monotonic() + seconds
        self._hurry.set()

    def bring(self, text: str) -> Taken:
        """Say *text*. Raises `NotSaid`."""
        query = urlencode({**self._asked, "id": secrets.token_urlsafe(9)})
        others = urlencode(self._target.query)  # behind, as the first of two counts
        path = quote(urlsplit(self._target.url).path, safe="/%:@!$&'()*+,;=~")
        path = f"{path}?{query}{'&' if others else ''}{others}"
        self.unsure, attempt = False, 0
        while True:
            unsure = self.unsure
            reply = self._try(path, text.encode(errors="replace"))
            match reply:
                case Taken():
                    return reply
                case Refused(why=why):
                    raise NotSaid(why)
            self.unsure = unsure or not reply.sure
            pause = random.uniform(0.5, 1) * min(LONGEST, FIRST * 2 ** min(attempt, 30))
            pause, attempt = max(reply.wait, pause), attempt + 1
            if monotonic() + pause >= self.deadline:
                raise NotSaid(reply.why, sure=not self.unsure)
            if attempt == 1:
                self._note(reply.why)
            if self._hurry.wait(pause):
                self._hurry.clear()

    def _try(self, path: str, body: bytes) -> Reply:
        connection, sure = None, True
        try:
            connection = self._connection()
            connection.connect()
            self.unsure, sure = True, False
            # A server that has its answer already reads no further.
            with suppress(ConnectionError):
                connection.request("POST", path, body, self._headers())
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return reply_of(response.status, headers, response.read(MOST))
        except (OSError, ValueError, http.client.HTTPException) as error:
            why, final = _reason(error)
            words = f"Could not connect to server at {self._target.where} ({why})"
            if final:
                return Refused(words)
            return Later(words if sure else why, sure=sure)
        finally:
            if connection is not None:
                connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        left = min(ANSWER, max(0.1, self.deadline - monotonic()))
        if self._target.unix is not None:
            return _ToFile(self._target.unix, left)
        parts = urlsplit(self._target.url)
        host = parts.hostname or ""
        if parts.scheme == "wss":
            context = self._target.trusted or ssl.create_default_context()
            return http.client.HTTPSConnection(host, parts.port, timeout=left, context=context)
        return http.client.HTTPConnection(host, parts.port, timeout=left)

    def _headers(self) -> dict[str, str]:
        headers = {
            "Content-Type": "text/plain; charset=utf-8",
            "User-Agent": f"broadcast-server/{__version__}",
        }
        if self._target.token is not None:
            headers["Authorization"] = f"Bearer {self._target.token}"
        return headers


class _ToFile(http.client.HTTPConnection):
    """A connection to a socket file."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _reason(error: Exception) -> tuple[str, bool]:
    """Say why there was no answer, and whether there will be none the next time either."""
    match error:
        case TimeoutError():
            return "no answer in time", False
        case ConnectionRefusedError():
            return "connection refused, is it running?", False
        case socket.gaierror():
            return "unknown host", error.errno != socket.EAI_AGAIN
        case UnicodeError():
            return "unknown host", True
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {error.verify_message}", True
        case ssl.SSLError():
            return f"TLS failed: {(error.reason or str(error)).replace('_', ' ').lower()}", True
        case http.client.HTTPException() if not isinstance(error, ConnectionError):
            return "no web server is there", True
        case ConnectionError():  # http.client's own is one too, and has no number
            return "connection lost", False
        case OSError(errno=int() as number):
            return os.strerror(number).lower(), False
    return str(error), True
