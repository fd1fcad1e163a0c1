"""HTTP requests that concern a room: publishing by POST, and event streams. An ASGI adapter.

What such requests are and how they are answered is `broadcast_server.http`'s matter, and what
becomes of them the replica's.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseError

from broadcast_server.http.cors import cors_headers, preflight_response
from broadcast_server.http.post import (
    BODY_TIMEOUT_S,
    busy_response,
    check_head,
    is_post,
    max_body_bytes,
    parse_publish,
    publish_response,
    timeout_response,
    too_long_response,
)
from broadcast_server.http.responses import SECURITY_HEADERS, Response, reject_response
from broadcast_server.http.site import respond
from broadcast_server.http.stream import (
    STREAM_HEADERS,
    StreamRequest,
    content_type,
    is_stream,
    parse_stream,
    reject_stream,
)
from broadcast_server.protocol.join import JoinRequest
from broadcast_server.protocol.publish import PublishRequest
from django_site.accounts.models import Account
from django_site.client_address import scope_address
from django_site.replication.admission import ProcessPlace
from django_site.replication.replica import RoomReplica
from django_site.replication.replica_registry import registry_of
from django_site.store import outage, rejections
from django_site.store.rejections import Rejected
from django_site.store.site_key import site_key

from .authentication import (
    account_of,
    authenticate,
    find_account,
    is_operator_of,
    login_of,
    session_headers,
)
from .page import ProcessStatus
from .request_body import (
    ClientDisconnected,
    Receive,
    Send,
    UploadCut,
    read_body,
    routes_to_room,
)
from .stream_response import StreamResponse

UNREAD_BODY = {408, 411, 413}
"""The statuses of responses to a body that was not read to its end: the connection has to end."""

MONITORING = ("healthz", "metrics")
"""The last parts of the paths that monitoring requests."""

PUBLISH_TIMEOUT_S = 15.0
"""Seconds in which the database has to log a message, before its sender is told that it does not
answer."""


def is_room_request(scope: Mapping[str, Any]) -> bool:
    """Tell whether a request concerns a room, and not Django."""
    method, path = scope["method"], scope["path"]
    root_path = scope.get("root_path", "")
    if method in ("GET", "HEAD") and not is_stream(method, path):
        return is_monitoring(method, path) and routes_to_room(path, root_path)
    # Forms are posted as well.
    return routes_to_room(path, root_path)


def is_monitoring(method: str, path: str) -> bool:
    """Tell whether a request asks for the health or the metrics, which need no thread of Django."""
    return method in ("GET", "HEAD") and path.rpartition("/")[2] in MONITORING


async def handle_request(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
    """Respond to one request. The types are ASGI's."""
    await _Request(scope, receive, send).respond()


class _Request:
    """One request."""

    def __init__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._replicas = registry_of(scope)
        self._headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        self._query = scope["query_string"].decode("ascii", "replace")
        self._origins: frozenset[str] = settings.BROADCAST_ALLOW_ORIGIN
        self._address = scope_address(scope)
        self._connection_id = secrets.token_hex(8)  # names this connection on the roster

    async def respond(self) -> None:
        """Send a response, or an event stream."""
        try:
            response = await self._respond()
        except ClientDisconnected:
            return
        except Rejected as rejected:
            response = reject_response(rejected.rejection)
        except DatabaseError as error:
            outage.database.began(error)
            response = reject_response(rejections.of_error(error))
        if response is not None:
            headers = (("Content-Length", str(response.length)), *response.headers)
            if response.status in UNREAD_BODY:
                headers = (("Connection", "close"), *headers)
            await self._send_head(response.status, response.type, headers)
            body = b"" if self._scope["method"] == "HEAD" else b"".join(response.body)
            await self._send({"type": "http.response.body", "body": body})

    async def _respond(self) -> Response | None:
        """Return the response, None if an event stream was sent instead."""
        method, path = self._scope["method"], self._scope["path"]
        if method == "OPTIONS":
            return preflight_response(self._headers, self._origins)
        if not (is_post(method, path) or is_stream(method, path)):
            return respond(ProcessStatus(self._replicas), method, path, self._headers)
        return await (self._subscribe() if is_stream(method, path) else self._post())

    async def _send_head(
        self, status: int, type: str, headers: tuple[tuple[str, str], ...]
    ) -> None:
        sent = [
            ("Content-Type", type),
            *SECURITY_HEADERS,
            *headers,
            *cors_headers(self._headers, self._origins),
        ]
        coded = [(name.lower().encode(), value.encode()) for name, value in sent]
        await self._send({"type": "http.response.start", "status": status, "headers": coded})

    # -- admission --

    async def _authenticate(self, join: JoinRequest) -> Account | None:
        """Return whose account it is, None for a guest.

        Raises `Rejected` if the client may not join, or a database's error.
        """
        admission = self._replicas.admission
        now = asyncio.get_running_loop().time()
        admission.check_join_rate(self._address, join.session, now)
        account = await authenticate(self._scope, admission, self._address, asyncio.sleep)
        await is_operator_of(self._scope, account)
        return account

    def _place(self, join: JoinRequest) -> ProcessPlace:
        """Take a place for a `with` block. Raises `Rejected` if there is none."""
        return self._replicas.admission.admit(self._address, join.room, join.session)

    # -- publishing --

    async def _post(self) -> Response:
        limit = settings.BROADCAST_MAX_MESSAGE_BYTES
        problem = check_head(self._headers, limit)
        if problem is not None:
            return problem
        try:
            body = await read_body(self._receive, max_body_bytes(limit))
        except asyncio.TimeoutError:
            return timeout_response(BODY_TIMEOUT_S)
        except UploadCut:
            return busy_response()
        if body is None:
            return too_long_response(f"more than {max_body_bytes(limit)} bytes", limit)
        sessions = session_headers(self._scope)
        request = parse_publish(self._query, body, limit, site_key(), sessions)
        return request if isinstance(request, Response) else await self._publish(request)

    async def _publish(self, request: PublishRequest) -> Response:
        account = await self._authenticate(request.join)
        size = len(request.text.encode())
        self._replicas.admission.check_publish_rate(
            self._address, request.join.session, size, asyncio.get_running_loop().time()
        )
        with self._place(request.join):
            replica = await self._replicas.get(request.join.room)
            self._replicas.metrics.received += size
            try:
                result = await replica.publish(
                    request,
                    account,
                    self._connection_id,
                    PUBLISH_TIMEOUT_S,
                    find_account=lambda: find_account(self._scope),
                    address=self._address,
                )
            except asyncio.TimeoutError:
                return reject_response(rejections.NO_LOG)
        return publish_response(request, result)

    # -- event streams --

    @asynccontextmanager
    async def _allowance(self, join: JoinRequest) -> AsyncIterator[None]:
        """Wait until the client may join, and count its connection as long as this lasts."""
        loop, admission = asyncio.get_running_loop(), self._replicas.admission
        allowance = admission.open_allowance(self._address, join.session, loop.time())
        if allowance is None:
            yield
            return
        try:
            await asyncio.sleep(allowance.join(loop.time()))
            yield
        finally:
            admission.close_allowance(allowance, loop.time())

    async def _subscribe(self) -> Response | None:
        request = parse_stream(self._query, self._headers)
        if isinstance(request, Response):
            return request
        try:
            account = await self._authenticate(request.join)
            async with self._allowance(request.join):
                await self._start_stream(request, account)
            return None
        except Rejected as rejected:
            rejection = rejected.rejection
        except DatabaseError as error:
            outage.database.began(error)
            rejection = rejections.of_error(error)
        return reject_stream(rejection, request, secrets.randbelow(1000) / 1000)

    async def _start_stream(self, request: StreamRequest, account: Account | None) -> None:
        with self._place(request.join):
            replica = await self._replicas.get(request.join.room)
            if self._scope["method"] == "HEAD":
                await self._send_stream_head(request)
                await self._send({"type": "http.response.body"})
            else:
                await self._stream(request, account, replica)

    async def _send_stream_head(self, request: StreamRequest) -> None:
        await self._send_head(200, content_type(request.join.format), STREAM_HEADERS)

    async def _stream(
        self, request: StreamRequest, account: Account | None, replica: RoomReplica
    ) -> None:
        metrics = self._replicas.metrics
        stream = StreamResponse(self._receive, self._send, request.join.format, metrics)
        try:
            stream.participant = await replica.admit_subscriber(
                request, account, self._connection_id, stream, self._address
            )
            stream.replica = replica
            metrics.joins += 1
            # Only a subscriber is closed when its account changes: look again, now that it is one.
            if account is not None:
                self._replicas.logins.add(self._connection_id, login_of(self._scope, account))
                if await account_of(self._scope) != account:
                    raise Rejected(rejections.SIGN_IN_CHANGED)
            await self._send_stream_head(request)
            await stream.run()
        finally:
            self._replicas.logins.remove(self._connection_id)
            if stream.participant is not None:
                replica.leave_roster(stream.participant, self._connection_id)
