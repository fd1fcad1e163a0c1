"""Daphne's limits: the bytes and the time of a request before the application gets it.

Daphne stores a body of any length, in a temporary file from 100,000 bytes on, before the
application hears of the request, and has no limit on its time. So the classes of Daphne and Twisted
that read requests are extended here. This was verified with Daphne 4.2.2 and Twisted 24.7, and with
Daphne 4.2.3 and Twisted 26.10.
"""

from __future__ import annotations

import io
import logging
from dataclasses import replace
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import daphne.server
from daphne.http_protocol import HTTPFactory, WebRequest
from django.conf import settings
from twisted.protocols.basic import LineReceiver
from twisted.web.http import HTTPChannel

from broadcast_server.http.cors import cors_headers
from broadcast_server.http.invalid_request import invalid_request_text
from broadcast_server.http.post import (
    BODY_TIMEOUT_S,
    busy_response,
    long_body_response,
    timeout_response,
    too_long_response,
)
from broadcast_server.http.responses import SECURITY_HEADERS, Response, plain_response
from broadcast_server.http.upload_budget import UploadBudget

from .prefix import prefix
from .request_body import max_request_body, publishes

logger = logging.getLogger(__name__)

IDLE_TIMEOUT_S = 60.0
"""How long a connection may stay open without a request, in seconds. It is Daphne's own timeout."""

REQUEST_TIMEOUT_S = BODY_TIMEOUT_S
"""How long a request may take to arrive, from its first to its last byte, in seconds."""

LINGER_S = 2.0
"""How long what follows is dropped after a request is rejected. Closing the connection at once
would reset it, and the client could lose the response."""

EXTENDED = (
    (daphne.server, ("HTTPFactory",)),
    (WebRequest, ("gotLength", "handleContentChunk", "finish", "connectionLost")),
    (HTTPChannel, ("allContentReceived", "requestDone", "rawDataReceived", "timeoutConnection")),
    (HTTPChannel, ("lineLengthExceeded", "lineReceived", "MAX_LENGTH", "totalHeadersSize")),
    (HTTPChannel, ("_receivedHeaderSize",)),
)
"""What this module replaces or overrides. Without one of them, nothing is limited."""


class LimitedChannel(HTTPChannel):
    """A connection. It gives each request a time in which it has to arrive."""

    transport: Any
    receiving = False
    rejected = False
    _handling = False
    _request_line = b""

    def dataReceived(self, data: bytes) -> None:  # noqa: N802  # Twisted's name
        """Process bytes. Unlike in Twisted, they do not restart the timer."""
        if self.rejected:
            return
        if not self.receiving and not self._handling:
            self.receiving = True
            self.setTimeout(REQUEST_TIMEOUT_S)
        LineReceiver.dataReceived(self, data)

    def lineReceived(self, line: bytes) -> None:  # noqa: N802  # Twisted's name
        """Process a line of the head of a request. All of them together have a limit as well."""
        if self.rejected:
            return
        if self._receivedHeaderSize + len(line) > self.totalHeadersSize:
            self.reject(long_head_response(self.totalHeadersSize))
            return
        self._request_line = self._request_line or line
        super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:  # noqa: N802  # Twisted's name
        """Reject a request that has too long a line. Twisted would cut it without an answer."""
        if not self.rejected:
            self.reject(long_head_response(self.MAX_LENGTH))

    def _respondToBadRequestAndDisconnect(self) -> None:  # noqa: N802  # Twisted's name
        """Say what is wrong with a request. Twisted would send nothing but the status."""
        if self._receivedHeaderCount > self.maxHeaders:
            self.reject(plain_response(431, f"head has more than {self.maxHeaders} headers"))
            return
        self.reject(plain_response(400, invalid_request_text(self._request_line)))

    def rawDataReceived(self, data: bytes) -> None:  # noqa: N802  # Twisted's name
        """Process bytes of a body."""
        if not self.rejected:
            super().rawDataReceived(data)

    def allContentReceived(self) -> None:  # noqa: N802  # Twisted's name
        """Begin to respond to a request that is complete."""
        if not self.rejected:
            self.receiving, self._handling, self._request_line = False, True, b""
            super().allContentReceived()

    def requestDone(self, request: Any) -> None:  # noqa: N802  # Twisted's name
        """Wait for the next request, or read it from what has arrived with the last one."""
        self._handling = False
        super().requestDone(request)
        if not self.receiving and not self._handling and self.persistent:
            self.setTimeout(IDLE_TIMEOUT_S)

    def timeoutConnection(self) -> None:  # noqa: N802  # Twisted's name
        """End the connection: nothing came, or not the whole of a request."""
        if self.rejected:
            self.transport.abortConnection()
        elif self.receiving:
            self.reject(timeout_response(REQUEST_TIMEOUT_S))
        else:
            super().timeoutConnection()

    def reject(self, response: Response) -> None:
        """Send *response* instead of waiting for the rest of the request, and close."""
        self.rejected = True
        headers = (
            ("Content-Type", response.type),
            ("Content-Length", str(response.length)),
            *SECURITY_HEADERS,
            ("Connection", "close"),
            *response.headers,
        )
        lines = [f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers]
        head = "\r\n".join((*lines, "", ""))
        self.transport.write(head.encode() + b"".join(response.body))
        self.setTimeout(LINGER_S)
        if self.isSecure():  # TLS cannot be half closed
            self.loseConnection()
        else:
            self.transport.loseWriteConnection()


class LimitedRequest(WebRequest):  # type: ignore[misc]  # it has no types
    """A request, whose body is in memory and no longer than it may be."""

    _max_bytes = 0
    _publishes = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Twisted would parse a form before Django does, and cut the connection if that fails. It
        # has a parameter for this, which not every version has.
        self._parsePOSTFormSubmission = False

    def gotLength(self, length: int | None) -> None:  # noqa: N802  # Twisted's name
        """Prepare for a body of *length* bytes, None if it comes in chunks."""
        self.content = io.BytesIO()
        if length == 0:
            return
        method, target = self.channel._command.decode("latin-1"), self.channel._path
        path = unquote(target.partition(b"?")[0].decode("latin-1"))
        root_path = prefix(self.channel.factory.server.root_path)
        self._publishes = publishes(method, path, root_path)
        if not self.requestHeaders.hasHeader(b"Upgrade"):  # a handshake has no body
            self._max_bytes = max_request_body(method, path, root_path)
        if length is not None and length > self._max_bytes:
            self._reject_body(f"{length if length < 10**19 else 'too many'} bytes")

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802  # Twisted's name
        """Keep a part of the body."""
        if self.channel.rejected:
            return
        if self.content.tell() + len(data) > self._max_bytes:
            self._reject_body(f"more than {self._max_bytes} bytes")
            return
        self.content.write(data)
        for oldest in self.channel.factory.uploads.add(self, len(data)):
            oldest.cut()

    def cut(self) -> None:
        """End the connection for the sake of newer uploads."""
        if self.channel is not None and self.channel.receiving:
            self._reject(busy_response())
        elif self.channel is not None:
            self.channel.transport.abortConnection()

    def _reject_body(self, size: str) -> None:
        if self._publishes:
            self._reject(too_long_response(size, settings.BROADCAST_MAX_MESSAGE_BYTES))
        else:
            self._reject(long_body_response(size, self._max_bytes))

    def _reject(self, response: Response) -> None:
        headers = {
            name.decode("latin-1").lower(): b",".join(values).decode("latin-1")
            for name, values in self.requestHeaders.getAllRawHeaders()
        }
        cors = cors_headers(headers, settings.BROADCAST_ALLOW_ORIGIN)
        self.requestHeaders.removeHeader(b"Expect")  # else Twisted would tell it to continue
        self.content = io.BytesIO()
        self.channel.factory.uploads.remove(self)
        self.channel.reject(replace(response, headers=(*response.headers, *cors)))

    def finish(self) -> None:
        """End the response."""
        self.channel.factory.uploads.remove(self)
        super().finish()

    def connectionLost(self, reason: Any) -> None:  # noqa: N802  # Twisted's name
        """Forget the request: its client is gone."""
        self.channel.factory.uploads.remove(self)
        super().connectionLost(reason)


class LimitedFactory(HTTPFactory):  # type: ignore[misc]  # it has no types
    """Makes a `LimitedChannel` of each connection."""

    protocol = LimitedChannel

    def __init__(self, server: Any) -> None:
        super().__init__(server)
        self.timeOut = IDLE_TIMEOUT_S
        self.uploads: UploadBudget[LimitedRequest] = UploadBudget()

    def buildProtocol(self, addr: Any) -> Any:  # noqa: N802  # Twisted's name
        """Return the protocol of a new connection."""
        channel = super().buildProtocol(addr)
        channel.requestFactory = LimitedRequest
        return channel

    def acceptableProtocols(self) -> list[bytes]:  # noqa: N802  # Twisted's name
        """Return what TLS may negotiate: HTTP/2 has channels of its own, without limits."""
        return [b"http/1.1"]


def long_head_response(limit: int) -> Response:
    """Return the response to a request whose head is longer than *limit* bytes."""
    return plain_response(431, f"head is more than {limit} bytes")


def limit_requests() -> None:
    """Make Daphne, which is about to start, use the classes above, or log that it cannot."""
    missing = [name for owner, names in EXTENDED for name in names if not hasattr(owner, name)]
    if missing:
        logger.warning(
            "this version of Daphne takes requests of any size (%s is missing): let a proxy limit"
            " them, see docs/deploy.md",
            ", ".join(missing),
        )
    else:
        daphne.server.HTTPFactory = LimitedFactory
