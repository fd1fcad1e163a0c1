"""The application: WebSockets, posts and streams go to the room, the rest to Django.

Whoever serves it, it says goodbye: by the server's lifespan, and under Daphne,
which has none, by its reactor.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any, cast

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "django_site.settings")
django.setup(set_prefix=False)

from django.core.handlers.asgi import ASGIHandler  # noqa: E402  # Django has to be set up first

from . import files  # noqa: E402  # the same
from .consumers import RoomConsumer  # noqa: E402  # the same
from .database import prepare  # noqa: E402  # the same
from .exchange import exchange, is_ours  # noqa: E402  # the same
from .nodes import nodes  # noqa: E402  # the same

prepare()
_http = ASGIHandler()
_room = RoomConsumer.as_asgi()


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Serve one connection, or the lifespan of the server. The types are ASGI's."""
    match scope["type"]:
        case "websocket":
            await _room(scope, receive, send)
        case "http":
            await (exchange if is_ours(scope) else _http)(scope, receive, send)
        case "lifespan":
            await receive()
            files.watch(asyncio.get_running_loop())
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await nodes().stop()
            await send({"type": "lifespan.shutdown.complete"})


def _say_goodbye_under_daphne() -> None:
    """Have Daphne's reactor wait, before it cuts everyone, until they are closed."""
    if "daphne.server" not in sys.modules:
        return
    from twisted.internet import defer, reactor

    def goodbye() -> Any:
        return defer.Deferred.fromFuture(asyncio.ensure_future(nodes().stop()))

    cast(Any, reactor).addSystemEventTrigger("before", "shutdown", goodbye)


_say_goodbye_under_daphne()
