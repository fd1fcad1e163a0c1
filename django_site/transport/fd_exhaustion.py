"""Running out of file descriptors: no tracebacks, and a response where one can be sent.

Each connection needs a file descriptor. When none is left, asyncio logs a traceback for each
place in the backlog, some thousand a second, and has no time for anything else. This happens
under uvicorn. Under Daphne, Twisted drops new connections silently.

A page of Django needs files as well, for its database, its templates, and modules that were not
imported yet. When one cannot be opened, Django and the server log some hundred lines for each
request. So no page is begun while files are short, and a page that fails all the same is counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from broadcast_server.http.responses import RETRY_WHEN_FULL_S, Response, plain_response
from broadcast_server.server.file_limit import raise_file_limit
from django_site.configuration import file_exhaustion

from .asgi_response import Send, send_response


def report_exhaustion(loop: asyncio.AbstractEventLoop) -> None:
    """Have *loop* log a line when no file is left. Other errors are handled as before."""
    previous = loop.get_exception_handler()

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError) and file_exhaustion.is_exhaustion(error):
            file_exhaustion.new_connections.report()
        elif previous is None:
            loop.default_exception_handler(context)
        else:
            previous(loop, context)

    loop.set_exception_handler(handle)


class FileReserve:
    """Passes requests on to the ASGI application *app* while enough files are free."""

    def __init__(self, app: Callable[[Any, Any, Any], Awaitable[None]]) -> None:
        self._app = app
        raise_file_limit()

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Send) -> None:
        """Respond to a request, with 503 if there are not. The types are ASGI's."""
        started = False

        async def send_event(event: dict[str, Any]) -> None:
            nonlocal started
            started = True
            await send(event)

        if not file_exhaustion.files_are_short():
            try:
                await self._app(scope, receive, send_event)
            except Exception as error:
                if not file_exhaustion.is_exhaustion(error):
                    raise
                if started:  # the response cannot be finished, and the server ends the connection
                    raise
            else:
                return
        file_exhaustion.pages.report()
        await send_response(
            busy_response(), send, ("Retry-After", str(RETRY_WHEN_FULL_S)), ("Connection", "close")
        )


def busy_response() -> Response:
    """Return the response to a request for a page for which no file is left."""
    text = f"too many files are open, try again in {RETRY_WHEN_FULL_S} s"
    return plain_response(503, text)
