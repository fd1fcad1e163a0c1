"""The server harness: a server and its clients in one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from deployments import ServedDeployment, serving
from wire import Wire

from broadcast_server.server.server import Server
from broadcast_server.server.settings import Settings

Part = Callable[[Server, ServedDeployment], Awaitable[None]]


def play(part: Part, settings: Settings | None = None) -> None:
    """Run *part* with a server of these settings, in one event loop."""

    async def run() -> None:
        async with serving(settings or Settings(port=0)) as server:
            deployment = ServedDeployment(server.url)
            try:
                await part(server, deployment)
            finally:
                await deployment.close()
                await Wire.cut_all()

    asyncio.run(run())
