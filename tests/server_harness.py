"""The server harness: a server and its clients in one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from deployments import ServedDeployment, serving
from wire import Wire

from broadcast_server.admission.admission import AdmissionLimits
from broadcast_server.server.server import Server
from broadcast_server.server.settings import Settings

Part = Callable[[Server, ServedDeployment], Awaitable[None]]


def play(part: Part, settings: Settings | None = None) -> None:
    """Run *part* with a server of these settings, in one event loop.

    With the default limits, the server has no rate: tests publish many messages at once.
    """
    settings = settings or Settings(port=0)
    if settings.limits == AdmissionLimits():
        settings = replace(settings, limits=AdmissionLimits(rate=0))

    async def run() -> None:
        async with serving(settings) as server:
            deployment = ServedDeployment(server.url)
            try:
                await part(server, deployment)
            finally:
                await deployment.close()
                await Wire.cut_all()

    asyncio.run(run())
