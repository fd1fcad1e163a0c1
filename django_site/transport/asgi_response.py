"""Responses as events of ASGI, with the headers that every response has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from broadcast_server.http.responses import SECURITY_HEADERS, Response

Send = Callable[[dict[str, Any]], Awaitable[None]]


async def send_response(response: Response, send: Send, *headers: tuple[str, str]) -> None:
    """Send *response* with further *headers*, and those that every response has."""
    sent = (
        ("Content-Type", response.type),
        ("Content-Length", str(response.length)),
        *SECURITY_HEADERS,
        *headers,
        *response.headers,
    )
    await send({"type": "http.response.start", "status": response.status, "headers": _coded(sent)})
    await send({"type": "http.response.body", "body": b"".join(response.body)})


def with_security_headers(send: Send) -> Send:
    """Return a callable that adds to a response what every response has, where it is missing."""

    async def send_event(event: dict[str, Any]) -> None:
        if event["type"] == "http.response.start":
            sent = [(bytes(name), bytes(value)) for name, value in event.get("headers", ())]
            present = {name.lower() for name, _ in sent}
            missing = [each for each in _coded(SECURITY_HEADERS) if each[0] not in present]
            event = {**event, "headers": sent + missing}
        await send(event)

    return send_event


def _coded(headers: tuple[tuple[str, str], ...]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers]
