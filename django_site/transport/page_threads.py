"""Page threads: Django's pages run in a few threads, each of which keeps one database connection.

Django gives each request a thread of its own, and a thread has a database connection of its own,
which outlives the request by `CONN_MAX_AGE`. So as many connections would be open as requests came
within that time, and at least as many as are answered at the same time. Here several requests
share a thread, as they do in asgiref outside of a `ThreadSensitiveContext`.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from asgiref.sync import SyncToAsync, ThreadSensitiveContext

from broadcast_server.admission.connection_counter import ConnectionCounter
from broadcast_server.admission.trusted_proxies import client_key
from broadcast_server.http.responses import RETRY_WHEN_FULL_S, plain_response
from django_site.client_address import scope_address

from .asgi_response import send_response

logger = logging.getLogger(__name__)

MAX_WAITING = 1000
"""How many requests may wait for their responses. It takes two addresses to use them all."""

MAX_WAITING_PER_ADDRESS = 500
"""The same from one address: a lecture hall that opens the page within the same second."""

LOG_INTERVAL_S = 60.0
"""How often it is logged that requests are rejected, at most."""

App = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass(slots=True)
class _Thread:
    """A thread, by the context in which asgiref finds it, and how many requests use it."""

    context: contextvars.Context
    requests: int = 0


class PageThreads:
    """Runs the ASGI application *app* in at most *threads* threads.

    A thread starts when all others are in use. A request stays in one thread, but occupies it
    only while synchronous code runs: not while its body arrives, and not while its response is
    sent.
    """

    def __init__(self, app: App, threads: int) -> None:
        self._app = app
        self._max_threads = threads
        self._threads: list[_Thread] = []
        self._waiting = ConnectionCounter()
        self._logged = float("-inf")

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """Respond to a request, with 503 if too many wait already. The types are ASGI's."""
        key = client_key(scope_address(scope))
        if (
            self._waiting.total >= MAX_WAITING
            or self._waiting.count(key) >= MAX_WAITING_PER_ADDRESS
        ):
            await self._reject(send)
            return
        self._waiting.add(key)
        waiting = True

        async def send_event(event: Mapping[str, Any]) -> None:
            nonlocal waiting
            if waiting:
                waiting = False
                self._waiting.remove(key)
            await send(event)

        try:
            await self._run(self._least_used(), scope, receive, send_event)
        finally:
            if waiting:
                self._waiting.remove(key)

    def _least_used(self) -> _Thread:
        found = min(self._threads, key=lambda each: each.requests, default=None)
        if found is None or (found.requests and len(self._threads) < self._max_threads):
            found = _new_thread()
            self._threads.append(found)
        return found

    async def _run(self, thread: _Thread, scope: Any, receive: Any, send: Any) -> None:
        thread.requests += 1
        try:
            # Django's own ThreadSensitiveContext keeps the outer one, which is in this context.
            await thread.context.run(asyncio.ensure_future, self._respond(scope, receive, send))
        finally:
            thread.requests -= 1

    async def _respond(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)

    async def _reject(self, send: Any) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._logged > LOG_INTERVAL_S:
            self._logged = now
            logger.warning("%s requests for pages wait, more are rejected", self._waiting.total)
        response = plain_response(503, f"too many requests, try again in {RETRY_WHEN_FULL_S} s")
        await send_response(response, send, ("Retry-After", str(RETRY_WHEN_FULL_S)))


def _new_thread() -> _Thread:
    """Return a thread, which starts with its first call and stays until the process ends."""
    context = contextvars.Context()
    context.run(SyncToAsync.thread_sensitive_context.set, ThreadSensitiveContext())
    return _Thread(context)
