"""The Django deployment in this process: its settings, its database, and in-process clients.

Import this module before anything of Django: it sets variables that Django reads once.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import django
from django.conf import settings

assert not settings.configured, "django_client must be imported before Django reads its settings"
_DATA = tempfile.TemporaryDirectory()
atexit.register(_DATA.cleanup)
os.environ["BROADCAST_DATA"] = _DATA.name
os.environ["DJANGO_SETTINGS_MODULE"] = "django_site.settings"
django.setup()
settings.ALLOWED_HOSTS.append("testserver")  # the name that Django's own test client uses
# Django's own takes a quarter of a second for each account. Servers in other processes use that.
settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

from asgiref.testing import ApplicationCommunicator  # noqa: E402  # after django.setup()
from channels.testing import WebsocketCommunicator  # noqa: E402  # the same

from django_site.asgi import application  # noqa: E402  # the same


@asynccontextmanager
async def connected(
    target: str,
    *,
    as_json: bool = False,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    address: str | None = None,
    offered: tuple[str, ...] = (),
) -> AsyncIterator[WebsocketCommunicator]:
    """Open a WebSocket at *target*, as a client from *address*, that is closed at the end.

    *offered* are subprotocols besides the JSON one.
    """
    subprotocols = [*offered, *(["broadcast.v1.json"] if as_json else [])]
    sent = [(b"host", b"testserver"), *headers]
    client = WebsocketCommunicator(application, target, sent, subprotocols)
    client.scope["client"] = None if address is None else (address, 12345)
    connected, subprotocol = await client.connect(timeout=10)
    assert (connected, subprotocol) == (True, "broadcast.v1.json" if as_json else None)
    try:
        yield client
    finally:
        await client.disconnect()


def run_async(part: Callable[[], Awaitable[None]]) -> None:
    """Run *part* in a new event loop, and stop the loop's room replicas after it."""

    async def with_cleanup() -> None:
        try:
            await part()
        finally:
            await application.replicas.stop()

    asyncio.run(with_cleanup())


def begin_http_request(
    method: str, target: str, *headers: tuple[bytes, bytes], address: str | None = None
) -> Any:  # asgiref has no types
    """Begin an HTTP request to the application in this process."""
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(b"host", b"testserver"), *headers],
        "client": None if address is None else (address, 12345),
    }
    communicator: Any = ApplicationCommunicator
    return communicator(application, scope)


async def http_request(
    method: str,
    target: str,
    *headers: tuple[bytes, bytes],
    body: bytes = b"",
    address: str | None = None,
) -> tuple[int, str]:
    """Send a request, and return the status and the text of the response."""
    length = (b"content-length", str(len(body)).encode())
    client = begin_http_request(method, target, length, *headers, address=address)
    await client.send_input({"type": "http.request", "body": body})
    start = await client.receive_output(timeout=10)
    text, more = b"", True
    while more:
        part = await client.receive_output(timeout=10)
        text += part.get("body", b"")
        more = part.get("more_body", False)
    await client.wait(timeout=10)
    return start["status"], text.decode()
