"""The hosted site in this very process: its settings, its database, and who visits it.

Imported before anything of Django's: what it sets is read once.
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

assert not settings.configured, "imported after what reads the settings"
_DATA = tempfile.TemporaryDirectory()
atexit.register(_DATA.cleanup)
os.environ["BROADCAST_DATA"] = _DATA.name
os.environ["DJANGO_SETTINGS_MODULE"] = "django_site.settings"
django.setup()

from asgiref.testing import ApplicationCommunicator  # noqa: E402  # after Django, as what follows
from channels.testing import WebsocketCommunicator  # noqa: E402  # it needs the settings

from django_site.asgi import application  # noqa: E402  # the same
from django_site.nodes import nodes  # noqa: E402  # the same


@asynccontextmanager
async def visitor(
    target: str,
    *,
    as_json: bool = False,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    address: str | None = None,
    offered: tuple[str, ...] = (),
) -> AsyncIterator[WebsocketCommunicator]:
    """Let someone in, from *address* as far as the server knows; it offers more subprotocols."""
    subprotocols = [*offered, *(["broadcast.v1.json"] if as_json else [])]
    one = WebsocketCommunicator(application, target, list(headers), subprotocols)
    one.scope["client"] = None if address is None else (address, 12345)
    connected, subprotocol = await one.connect(timeout=10)
    assert (connected, subprotocol) == (True, "broadcast.v1.json" if as_json else None)
    try:
        yield one
    finally:
        await one.disconnect()


def play(part: Callable[[], Awaitable[None]]) -> None:
    """Run *part*, and end this loop's nodes after it."""

    async def whole() -> None:
        try:
            await part()
        finally:
            await nodes().stop()

    asyncio.run(whole())


def over_http(
    method: str, target: str, *headers: tuple[bytes, bytes], address: str | None = None
) -> Any:  # which has no types
    """Begin a request."""
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(b"host", b"testserver"), *headers],
        "client": None if address is None else (address, 12345),
    }
    begin: Any = ApplicationCommunicator
    return begin(application, scope)


async def asked(
    method: str,
    target: str,
    *headers: tuple[bytes, bytes],
    body: bytes = b"",
    address: str | None = None,
) -> tuple[int, str]:
    """Ask for something, and return the status and the text of the answer."""
    length = (b"content-length", str(len(body)).encode())
    one = over_http(method, target, length, *headers, address=address)
    await one.send_input({"type": "http.request", "body": body})
    start = await one.receive_output(timeout=10)
    text, more = b"", True
    while more:
        part = await one.receive_output(timeout=10)
        text += part.get("body", b"")
        more = part.get("more_body", False)
    await one.wait(timeout=10)
    return start["status"], text.decode()
