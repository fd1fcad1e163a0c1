"""uvicorn's shutdown: noticed when it begins, and bounded in time. gunicorn's workers have it, too.

uvicorn sends its lifespan event only when all responses are complete. An event stream never is, and
a request may take as long as its client likes.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Any

POLL_INTERVAL_S = 0.25
"""Seconds between two checks whether uvicorn is shutting down."""

SHUTDOWN_TIMEOUT_S = 5
"""How long responses may take to complete, unless ``--timeout-graceful-shutdown`` is given. Docker
waits for 10 seconds in all."""


def watch_uvicorn(stop: Callable[[], Awaitable[None]]) -> asyncio.Task[None] | None:
    """Have *stop* called as soon as uvicorn shuts down. None if this process is another server."""
    server = _uvicorn()
    if server is None:
        return None
    config = getattr(server, "config", None)
    if config is not None and config.timeout_graceful_shutdown is None:
        config.timeout_graceful_shutdown = SHUTDOWN_TIMEOUT_S
    return asyncio.ensure_future(_watch(server, stop))


async def _watch(server: Any, stop: Callable[[], Awaitable[None]]) -> None:
    while not server.should_exit:  # noqa: ASYNC110  # it is no event
        await asyncio.sleep(POLL_INTERVAL_S)
    await stop()


def _uvicorn() -> Any | None:
    """Return uvicorn's server object.

    It is found by its signal handler, because uvicorn has no other way to ask whether it is
    shutting down.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return server if hasattr(server, "should_exit") else None
