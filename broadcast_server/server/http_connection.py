"""The HTTP connection: one request and its response, with the Sans-I/O protocol of h11.

It limits the bytes and the time of a request, and writes a response only as fast as the client
reads it. The modules of `http` decide what to respond: `site` to GET requests, and `post` to
published messages. An event stream is handed over to a `StreamConnection`.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.utils import formatdate
from http import HTTPStatus
from typing import cast

import h11

from broadcast_server.admission.admission import ClientPlace
from broadcast_server.admission.allowances import Allowance
from broadcast_server.admission.token import find_credentials
from broadcast_server.http.allowed_hosts import check_host
from broadcast_server.http.cors import cors_headers, preflight_response
from broadcast_server.http.invalid_request import invalid_request_text
from broadcast_server.http.own_page import check_page
from broadcast_server.http.post import (
    BODY_TIMEOUT_S,
    busy_response,
    check_head,
    check_length,
    is_post,
    max_body_bytes,
    parse_publish,
    publish_response,
    timeout_response,
    too_long_response,
)
from broadcast_server.http.responses import SECURITY_HEADERS, Response, reject_response
from broadcast_server.http.site import MAX_HEAD_BYTES, respond
from broadcast_server.http.stream import (
    STREAM_HEADERS,
    StreamRequest,
    content_type,
    is_stream,
    parse_stream,
    reject_stream,
)
from broadcast_server.protocol.join import JoinRequest, session_from
from broadcast_server.protocol.rejection import Rejection
from broadcast_server.protocol.session_key import SESSION_HEADER

from .api import ServerAPI
from .stream_connection import StreamConnection
from .transport import client_address

_LONG_LENGTH = re.compile(rb"(\r\ncontent-length:[ \t]*[0-9]{20})[0-9]+", re.IGNORECASE)


class HTTPConnection(asyncio.Protocol):
    """One HTTP connection, which is closed after the response."""

    close_code = None  # it is in no room

    def __init__(self, server: ServerAPI) -> None:
        self._server = server
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._response_body: Iterator[bytes] | None = None
        self._request_line = b""
        self._headers: dict[str, str] = {}
        self._query = ""
        self._sessions: list[str] = []  # the values of all headers that carry one
        self._head_only = False
        self._stream: StreamRequest | None = None
        self._upload: bytearray | None = None  # the body of a POST request that is being read
        self._awaiting_server = False  # until the server admits or rejects it, or publishes
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None
        self.client: str | None = None
        self.allowance: Allowance | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection over from `FirstRequest`."""
        self._transport = cast(asyncio.Transport, transport)
        self._start_timer(BODY_TIMEOUT_S, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        """Process bytes that the client sent."""
        if self._awaiting_server:  # nothing is expected after the one request
            return
        # A slow client cannot extend the time for a body, or for the rest of a response.
        if not self._response_sent and self._upload is None:
            self._start_timer(BODY_TIMEOUT_S, self._transport.abort)
        if not self._request_line:
            self._request_line = data.partition(b"\r\n")[0]
        # More than 20 digits are invalid to h11, but it is only a message that is too long.
        self._http.receive_data(_LONG_LENGTH.sub(rb"\1", data))
        self._proceed()

    def eof_received(self) -> bool:
        """Keep the connection open only if the client still waits for a response."""
        if not self._awaiting_server:
            self._http.receive_data(b"")
            self._proceed()
        return self._response_body is not None or self._awaiting_server

    def pause_writing(self) -> None:
        """Pause the response: the client does not read it as fast as it is written."""
        self._paused = True
        self._transport.pause_reading()  # what it sends meanwhile would pile up in memory

    def resume_writing(self) -> None:
        """Continue the response: the client reads again."""
        self._paused = False
        self._transport.resume_reading()
        self._start_timer(BODY_TIMEOUT_S, self._transport.abort)
        self._proceed()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel what it waits for."""
        if self._timer is not None:
            self._timer.cancel()
        self._server.uploads.remove(self)
        self._server.cancel_wait(self)
        self._server.connection_closed(self)

    def shut_down(self) -> None:
        """Close it, because the server stops, unless it waits for the response to a request."""
        if not self._awaiting_server:
            self._transport.close()

    def abort(self) -> None:
        """Cut the connection."""
        self._transport.abort()

    # -- called by the server --

    def wait(self, delay: float, then: Callable[[], None]) -> None:
        """Call *then* after *delay* seconds, unless the connection is lost before."""
        self._start_timer(delay, then)

    def reject(self, rejection: Rejection) -> None:
        """Respond why the client is not admitted."""
        if self._stream is None:
            self._respond(reject_response(rejection))
        else:
            chance = secrets.randbelow(1000) / 1000
            self._respond(reject_stream(rejection, self._stream, chance))

    # -- the request --

    def _proceed(self) -> None:
        """Read the request and write the response, until one of them has to wait."""
        try:
            while not self._paused and not self._awaiting_server:
                if self._response_body is not None:
                    self._send_chunk(self._response_body)
                elif not self._next_event():
                    return
        except h11.RemoteProtocolError as error:
            self._reject_invalid(error)

    def _next_event(self) -> bool:
        """Handle the next event of the request. Return False if there is none yet, or no more."""
        event = self._http.next_event()
        if isinstance(event, h11.Request):
            self._handle_request(event)
            return True
        if self._upload is not None and isinstance(event, h11.Data | h11.EndOfMessage):
            self._handle_body(self._upload, event)
            return True
        # Wait for the end of the body, even if it is ignored. Closing a connection with unread
        # bytes resets it, and the client may lose the response.
        request_read = self._response_sent and self._http.their_state is not h11.SEND_BODY
        if isinstance(event, h11.ConnectionClosed) or request_read:
            self._transport.close()
            return False
        return isinstance(event, h11.Data | h11.EndOfMessage)  # an ignored body

    def _handle_request(self, event: h11.Request) -> None:
        self._headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
        method, target = event.method.decode(), event.target.decode()
        self._head_only = method == "HEAD"
        path, _, self._query = target.partition("?")
        forwarded = _header_values(event, "X-Forwarded-For")
        self._sessions = _header_values(event, SESSION_HEADER)
        self.client = client_address(self._transport, self._server.trusted_proxies, forwarded)
        headers, origins = self._headers, self._server.origins
        rejection = check_host(target, _header_values(event, "Host"), self._server.hosts)
        rejection = rejection or check_page(method, path, headers, origins)
        if rejection is None and not is_post(method, path):
            max_body = max_body_bytes(self._server.max_message_bytes)
            rejection = check_length(headers, max_body)
        if rejection is not None:
            self._start_response(rejection)
        elif method == "OPTIONS":
            self._start_response(preflight_response(headers, origins))
        elif is_stream(method, path):
            self._handle_stream()
        elif is_post(method, path):
            self._start_upload()
        else:
            self._start_response(respond(self._server, method, target, headers))

    def _start_upload(self) -> None:
        """Begin to read the body of a POST request, if its headers are valid."""
        invalid = check_head(self._headers, self._server.max_message_bytes)
        if invalid is not None:
            self._start_response(invalid)
            return
        self._upload = bytearray()
        self._start_timer(BODY_TIMEOUT_S, self._body_timed_out)
        if self._http.they_are_waiting_for_100_continue:
            self._write(h11.InformationalResponse(status_code=100, headers=[]))

    def cut(self) -> None:
        """Give up the upload for the sake of newer ones."""
        if self._upload is None:  # it has arrived, and the message may have been published
            self._transport.abort()
        else:
            self._upload = None
            self._respond(busy_response())

    def _body_timed_out(self) -> None:
        self._upload = None
        self._respond(timeout_response(BODY_TIMEOUT_S))

    def _handle_body(self, body: bytearray, event: h11.Data | h11.EndOfMessage) -> None:
        """Add a part to the body, or publish the message at its end."""
        limit = self._server.max_message_bytes
        if isinstance(event, h11.Data):
            body += event.data
            if len(body) > max_body_bytes(limit):
                self._upload = None
                size = f"more than {max_body_bytes(limit)} bytes"
                self._start_response(too_long_response(size, limit))
                return
            for oldest in self._server.uploads.add(self, len(event.data)):
                oldest.cut()
            return
        self._upload = None
        request = parse_publish(
            self._query, bytes(body), limit, self._server.session_key, self._sessions
        )
        if isinstance(request, Response):
            self._start_response(request)
            return
        request = replace(request, join=self._as_operator(request.join))

        def publish(_: ClientPlace) -> None:  # which is given back at once
            self._server.publish(
                self, request, lambda result: self._respond(publish_response(request, result))
            )

        self._admit(request.join, publish, joins=False)

    def _handle_stream(self) -> None:
        request = parse_stream(self._query, self._headers)
        if isinstance(request, Response):
            self._start_response(request)
            return
        # A member may read its room as a stream as well, while nobody new may.
        session = session_from({}, self._server.session_key, headers=self._sessions)
        join = replace(request.join, session=session if isinstance(session, str) else None)
        request = replace(request, join=self._as_operator(join))
        self._stream = request

        def start_stream(place: ClientPlace) -> None:
            head = self._encode_head(200, content_type(request.join.format), STREAM_HEADERS)
            if self._head_only:
                self._awaiting_server = False
                self._transport.write(head)
                self._write(h11.EndOfMessage())
                self._transport.close()
            else:
                self._start_stream(request, head, place)

        self._admit(request.join, start_stream, joins=True)

    def _start_stream(self, request: StreamRequest, head: bytes, place: ClientPlace) -> None:
        """Hand the connection over to a `StreamConnection`."""
        if self._timer is not None:
            self._timer.cancel()
        server, transport = self._server, self._transport
        connection = StreamConnection(
            server,
            transport,
            self.client,
            head=head,
            format=request.join.format,
            chunked=self._http.their_http_version != b"1.0",
            poll=request.poll,
        )
        connection.allowance, self.allowance = self.allowance, None
        # In this order: a server that stops waits until it has no connection.
        server.connection_opened(connection)
        server.connection_closed(self)
        transport.set_protocol(connection)
        server.subscribe(connection, request, place)

    def _admit(
        self, join: JoinRequest, on_admitted: Callable[[ClientPlace], None], *, joins: bool
    ) -> None:
        """Call *on_admitted* if the server admits the client."""
        self._awaiting_server = True
        if self._timer is not None:
            self._timer.cancel()  # from here on the client waits for the server
        credentials = find_credentials(self._headers, ())
        self._server.admit(self, join, credentials, on_admitted, joins=joins)

    def _as_operator(self, join: JoinRequest) -> JoinRequest:
        """Return *join* as that of an operator, if the client wants to be one."""
        key = find_credentials(self._headers, ()).operator_key
        return join if key is None else replace(join, operator=True)

    # -- the response --

    def _respond(self, response: Response) -> None:
        """Send the response that the client has waited for."""
        self._awaiting_server = False
        if self._transport.is_closing():
            return
        self._start_timer(BODY_TIMEOUT_S, self._transport.abort)
        self._start_response(response)
        self._proceed()

    def _start_response(self, response: Response) -> None:
        """Send the head of *response*. `_proceed` sends its body."""
        headers = ("Content-Length", str(response.length)), *response.headers
        self._transport.write(self._encode_head(response.status, response.type, headers))
        self._response_body = response.body
        if self._head_only:
            self._response_body = None
            self._write(h11.EndOfMessage())

    def _encode_head(self, status: int, type: str, more: tuple[tuple[str, str], ...]) -> bytes:
        headers = [
            ("Date", formatdate(usegmt=True)),
            ("Content-Type", type),
            *SECURITY_HEADERS,
            # A proxy that kept the connection might send a request for an upgrade on it.
            ("Connection", "close"),
            *more,
            *cors_headers(self._headers, self._server.origins),
        ]
        reason = HTTPStatus(status).phrase
        response = h11.Response(status_code=status, headers=headers, reason=reason)
        return self._http.send(response) or b""

    def _send_chunk(self, body: Iterator[bytes]) -> None:
        chunk = next(body, None)
        if chunk is not None:
            self._write(h11.Data(data=chunk))
        else:
            self._response_body = None
            self._write(h11.EndOfMessage())

    def _reject_invalid(self, error: h11.RemoteProtocolError) -> None:
        self._response_body = None
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            text = f"{invalid_request_text(self._request_line)}\n".encode()
            headers = [("Content-Length", str(len(text))), ("Connection", "close")]
            status = error.error_status_hint
            reason = HTTPStatus(status).phrase
            self._write(h11.Response(status_code=status, headers=headers, reason=reason))
            self._write(h11.Data(data=text))
            self._write(h11.EndOfMessage())
        self._transport.close()

    def _write(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            self._transport.write(data)

    @property
    def _response_sent(self) -> bool:
        return self._http.our_state is h11.MUST_CLOSE

    def _start_timer(self, seconds: float, then: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, then)


def _header_values(request: h11.Request, name: str) -> list[str]:
    lower = name.lower().encode()
    return [value.decode("latin-1") for each, value in request.headers if each == lower]
