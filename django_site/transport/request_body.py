"""Request bodies: how long each may be, and reading one within the limits. An ASGI adapter.

Django would store a body of any length in a temporary file before it looks at the request. Here a
body is in memory, or it is rejected.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.conf import settings
from django.urls import Resolver404, resolve

from broadcast_server.http.post import (
    BODY_TIMEOUT_S,
    busy_response,
    check_length,
    has_body,
    is_post,
    long_body_response,
    max_body_bytes,
    timeout_response,
)
from broadcast_server.http.responses import reject_response
from broadcast_server.http.upload_budget import UploadBudget
from broadcast_server.protocol.rejection import STOPPING
from django_site.store.rejections import Rejected

from .asgi_response import send_response
from .prefix import below

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

MAX_FORM_BYTES = 2**17
"""The longest body of a form. The admin's longest is a list with a hundred rows to select."""

_budget: UploadBudget[asyncio.Future[bytes | None]] = UploadBudget()
"""The bodies that are arriving, by how much of each is there."""

_readings: set[asyncio.Future[bytes | None]] = set()
"""The bodies that are arriving, also those of which nothing is there."""


class ClientDisconnected(Exception):
    """The client does not wait for the response any more."""


class UploadCut(Exception):
    """A body was given up, because too much is uploaded at the same time."""


def load_routes() -> None:
    """Import what resolving a path needs, while there are files for it."""
    resolve("/")


def routes_to_room(path: str, root_path: str = "") -> bool:
    """Tell whether *path* is the chat page's: all are but those of accounts and the admin."""
    try:
        return resolve(below(path, root_path)).url_name == "page"
    except Resolver404:  # "OPTIONS *" concerns no path
        return False


def publishes(method: str, path: str, root_path: str = "") -> bool:
    """Tell whether a request is a post to a room."""
    return is_post(method, path) and routes_to_room(path, root_path)


def max_request_body(method: str, path: str, root_path: str = "") -> int:
    """Return the longest body that a request may have, in bytes."""
    if method == "POST" and not routes_to_room(path, root_path):
        return MAX_FORM_BYTES
    return max_body_bytes(settings.BROADCAST_MAX_MESSAGE_BYTES)


async def read_body(receive: Receive, max_bytes: int) -> bytes | None:
    """Return a body, None once it is longer than *max_bytes*.

    Raises `TimeoutError` of asyncio after `BODY_TIMEOUT_S`, `UploadCut` if too much is uploaded at
    the same time, `ClientDisconnected`, and `Rejected` if the server stops meanwhile.
    """

    def count(size: int) -> None:
        for oldest in _budget.add(reading, size):
            oldest.cancel()

    reading = asyncio.ensure_future(_read(receive, max_bytes, count))
    _readings.add(reading)
    try:
        await asyncio.wait({reading}, timeout=BODY_TIMEOUT_S)
        if not reading.done():
            raise asyncio.TimeoutError
        if reading.cancelled():
            raise UploadCut if reading in _readings else Rejected(STOPPING)
        return reading.result()
    finally:
        reading.cancel()
        _readings.discard(reading)
        _budget.remove(reading)


def stop_reading() -> None:
    """End all requests whose bodies are arriving: the server stops."""
    while _readings:
        _readings.pop().cancel()


async def _read(receive: Receive, max_bytes: int, count: Callable[[int], None]) -> bytes | None:
    body = bytearray()
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ClientDisconnected
        part = event.get("body", b"")
        body += part
        if len(body) > max_bytes:
            return None
        count(len(part))
        if not event.get("more_body", False):
            return bytes(body)


class BodyReader:
    """Reads the bodies of requests to *app*, which then gets them in one piece.

    A request without a body passes untouched, because *app* reads from it that its client is gone.
    So does a post to a room, which has errors of its own.
    """

    def __init__(self, app: Callable[[Any, Any, Any], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request. The types are ASGI's."""
        method, path, root_path = scope["method"], scope["path"], scope.get("root_path", "")
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        if publishes(method, path, root_path) or not has_body(headers):
            await self._app(scope, receive, send)
            return
        max_bytes = max_request_body(method, path, root_path)
        problem = check_length(headers, max_bytes)
        if problem is None:
            try:
                body = await read_body(receive, max_bytes)
            except ClientDisconnected:
                return
            except asyncio.TimeoutError:
                problem = timeout_response(BODY_TIMEOUT_S)
            except UploadCut:
                problem = busy_response()
            except Rejected as rejected:
                problem = reject_response(rejected.rejection)
            else:
                if body is not None:
                    await self._app(scope, _replay(body, receive), send)
                    return
                problem = long_body_response(f"more than {max_bytes} bytes", max_bytes)
        # It may not have been read, so the connection has to end.
        await send_response(problem, send, ("Connection", "close"))


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a callable that gives *body* first, and then what *receive* gives."""
    events = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive_next() -> dict[str, Any]:
        event = next(events, None)
        return await receive() if event is None else event

    return receive_next
