"""The ASGI application: WebSockets, posts and event streams go to the rooms, the rest to Django.

It closes every connection before the server ends: by the server's lifespan events, and under
Daphne, which has none, by a trigger of its reactor.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from typing import Any, cast
from weakref import WeakKeyDictionary

import django

os.environ["DJANGO_SETTINGS_MODULE"] = (
    os.environ.get("DJANGO_SETTINGS_MODULE") or "django_site.settings"
)
django.setup(set_prefix=False)

# All of these need Django to be set up.
from django.conf import settings  # noqa: E402

from .configuration.checks import describe_ineffective  # noqa: E402
from .configuration.secret_addresses import hide_in_logs  # noqa: E402
from .configuration.server_log import format_server_log  # noqa: E402
from .replication.replica_registry import SCOPE_KEY, ReplicaRegistry  # noqa: E402
from .store.health_check import limit_checks  # noqa: E402
from .store.schema import prepare_database  # noqa: E402
from .store.wait_limits import limit_waits  # noqa: E402
from .transport.asgi_response import send_response, with_security_headers  # noqa: E402
from .transport.bounded_stop import STOP_TIMEOUT_S, end_soon  # noqa: E402
from .transport.fd_exhaustion import FileReserve, report_exhaustion  # noqa: E402
from .transport.form_request import FormHandler  # noqa: E402
from .transport.http import handle_request, is_room_request  # noqa: E402
from .transport.page_threads import PageThreads  # noqa: E402
from .transport.prefix import with_prefix  # noqa: E402
from .transport.redirect_loop import RedirectLoop  # noqa: E402
from .transport.request_body import BodyReader, load_routes, stop_reading  # noqa: E402
from .transport.request_guard import RequestGuard  # noqa: E402
from .transport.uvicorn_shutdown import watch_uvicorn  # noqa: E402
from .transport.websocket import RoomConsumer  # noqa: E402


class Application:
    """The ASGI application. It owns the replicas of all rooms, and hands them to connections."""

    def __init__(self) -> None:
        self._http = BodyReader(self._respond)
        self._guard = RequestGuard(self._serve)
        threads = PageThreads(FormHandler(), settings.BROADCAST_DB_CONNECTIONS - 1)
        self._django = FileReserve(threads)
        self._redirects = RedirectLoop()
        self._websocket = RoomConsumer.as_asgi()
        self._registries: WeakKeyDictionary[asyncio.AbstractEventLoop, ReplicaRegistry] = (
            WeakKeyDictionary()
        )
        self._watch: asyncio.Task[None] | None = None

    @property
    def replicas(self) -> ReplicaRegistry:
        """The replicas of the running event loop. A server has one loop, each test has its own."""
        loop = asyncio.get_running_loop()
        if loop not in self._registries:
            self._registries[loop] = ReplicaRegistry()
            self._watch = watch_uvicorn(self._stop)
        return self._registries[loop]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection, or the lifespan of the server. The types are ASGI's."""
        replicas = self.replicas
        try:
            await self._dispatch({**scope, SCOPE_KEY: replicas}, receive, send)
        except asyncio.CancelledError:
            # uvicorn cancels what takes too long when it stops, and would log a traceback.
            if replicas.accepting:
                raise

    async def _dispatch(self, scope: Any, receive: Any, send: Any) -> None:
        match scope["type"]:
            case "websocket" | "http":
                await self._guard(with_prefix(scope), receive, send)
            case "lifespan":
                await self._live(receive, send)

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        serve = self._websocket if scope["type"] == "websocket" else self._http
        await serve(scope, receive, send)

    async def _respond(self, scope: Any, receive: Any, send: Any) -> None:
        if is_room_request(scope):
            await handle_request(scope, receive, send)
        else:
            await self._respond_with_django(scope, receive, send)

    async def _respond_with_django(self, scope: Any, receive: Any, send: Any) -> None:
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        loop = self._redirects.check(scope, headers, asyncio.get_running_loop().time())
        if loop is None:
            await self._django(scope, receive, with_security_headers(send))
        else:
            await send_response(loop, send)

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        report_exhaustion(asyncio.get_running_loop())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _stop(self) -> None:
        """Close every connection, and end the requests that still arrive."""
        end_soon(STOP_TIMEOUT_S)
        stop_reading()
        await self.replicas.stop()

    def serve_with_daphne(self) -> None:
        """Change Daphne, if it is what serves this application."""
        if "daphne.server" in sys.modules:
            self._stop_with_daphne()
            limit_daphne()
            from .transport.daphne_access_log import hide_in_access_log, write_access_log_as_json
            from .transport.daphne_headers import ignore_odd_headers

            if settings.LOG_FORMAT == "json":
                write_access_log_as_json()
            hide_in_access_log()
            ignore_odd_headers()

    def _stop_with_daphne(self) -> None:
        """Have Daphne's reactor wait until every connection is closed, before it cuts them."""
        from twisted.internet import defer, reactor

        def stop() -> Any:
            return defer.Deferred.fromFuture(asyncio.ensure_future(self._stop()))

        cast(Any, reactor).addSystemEventTrigger("before", "shutdown", stop)
        # When all is closed, another signal would only change the exit code to that of a kill.
        for number in (signal.SIGTERM, signal.SIGINT):
            cast(Any, reactor).addSystemEventTrigger(
                "after", "shutdown", signal.signal, number, signal.SIG_IGN
            )


def limit_daphne() -> None:
    """Limit the requests that Daphne takes, or log that this cannot be done."""
    try:
        from .transport.daphne_limits import limit_requests
    except ImportError as error:
        text = "this version of Daphne takes requests of any size (%s): let a proxy limit them"
        logging.getLogger(__name__).warning(text, error)
    else:
        limit_requests()


def report_access() -> None:
    """Log who may join, and what an error shows to whom."""
    logger = logging.getLogger(__name__)
    if settings.BROADCAST_LOGIN == "required":
        logger.info("accounts only: nobody joins without signing in")
    elif settings.BROADCAST_TOKEN is None:
        logger.info("open: no token, anyone who can reach this port can join")
    else:
        logger.info("a token is required of everyone without an account")
    if settings.OWN_KEY and not settings.EMBEDDED:
        logger.warning(
            "SECRET_KEY is not set: each process needs the same one, this one has its key in %s",
            settings.DATA,
        )
    for text in describe_ineffective():
        logger.warning("%s", text)
    if settings.DEBUG:
        logger.warning("DEBUG=yes: errors show the site's source to anyone, so keep others away")


hide_in_logs()
load_routes()
if settings.LOG_FORMAT == "json":
    format_server_log()
limit_waits()
limit_checks()
prepare_database()
application = Application()
application.serve_with_daphne()
report_access()
# What is loaded now lasts as long as the process. The garbage collector would traverse it again and
# again, and once more at the end, which takes a quarter of a second.
gc.freeze()
