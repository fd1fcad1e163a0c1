"""The nodes of this process: made when someone comes, ended when nobody is here.

They share what is one a process: its signs of life, the slow poll of the log, and
the heads that show the clients that a quiet room is alive.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import signal
from collections.abc import Awaitable, Callable
from functools import cached_property
from weakref import WeakKeyDictionary

from channels.db import database_sync_to_async
from django.conf import settings
from django.db import Error as DatabaseError

from broadcast_server.listener import allow_files
from broadcast_server.metrics import Metrics, Now, exposition

from . import ends, log, outage, presence
from .ends import Refused
from .node import Node
from .threshold import Threshold, limits

logger = logging.getLogger(__name__)

POLL = 1.0
"""Seconds between two looks at the log for what the bell did not ring for."""

HEAD = 25.0
"""Seconds between two heads."""

LOOK = 0.25
"""Seconds between two looks whether uvicorn wants to end."""


class Nodes:
    """All nodes of one process."""

    def __init__(self) -> None:
        self.process = secrets.token_hex(8)
        self._nodes: dict[str, Node] = {}
        self._opening = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped = False
        self.metrics = Metrics()
        self._ending: asyncio.Task[None] | None = None

    async def get(self, name: str) -> Node:
        """Return the node of a room. Raises `Refused`, or a database's error."""
        async with self._opening:
            if self._stopped:
                raise Refused(ends.STOPPING)
            if not self._tasks:
                await database_sync_to_async(presence.beat)(self.process)
                jobs = (
                    *((POLL, self._poll), (presence.BEAT, self._beat), (HEAD, self._heads)),
                    *((LOOK, self._look) for _ in filter(None, [uvicorn()])),
                )
                self._tasks = [asyncio.ensure_future(_every(*job)) for job in jobs]
            if name in self._nodes and self._nodes[name].gone:
                await self._nodes.pop(name).end()
            if name not in self._nodes:
                row = await database_sync_to_async(log.open_room)(name)
                most = settings.BROADCAST_MAX_MESSAGE_BYTES
                self._nodes[name] = Node(row, self.process, most, self.metrics)
            return self._nodes[name]

    @cached_property
    def threshold(self) -> Threshold:
        """Who may come to the rooms of this process."""
        return Threshold(limits(allow_files()))

    @property
    def accepting(self) -> bool:
        """Whether who comes may come in."""
        return not self._stopped

    def figures(self) -> str:
        """Write what was counted in this process, for Prometheus."""
        nodes = tuple(self._nodes.values())  # at once: this is asked in a thread
        clients, behind = sum(node.clients for node in nodes), sum(node.behind for node in nodes)
        streams = sum(node.listeners for node in nodes)
        return exposition(self.metrics, Now(clients, len(nodes), behind, streams))

    async def stop(self) -> None:
        """Tell everyone that the server stops, close them, and leave no trace."""
        if self._stopped:
            return
        self._stopped = True
        for node in self._nodes.values():
            node.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(node.end() for node in self._nodes.values()))
        with contextlib.suppress(DatabaseError):  # the others will find out
            await database_sync_to_async(presence.end)(self.process)

    async def _poll(self) -> None:
        async with self._opening:  # nobody comes while we look for whom nobody is with
            for name in [name for name, node in self._nodes.items() if node.idle]:
                await self._nodes.pop(name).end()
        keys = {node.key: node for node in self._nodes.values()}
        if keys:
            states = await database_sync_to_async(log.state)(list(keys))
            for key, node in keys.items():
                node.wake(states.get(key, log.State(-1, -1, -1)))  # a room that is gone, too

    async def _look(self) -> None:
        """Stop with uvicorn, which tells us when the last answer is over: a stream's never is."""
        if getattr(uvicorn(), "should_exit", False):
            self._ending = asyncio.ensure_future(self.stop())

    async def _beat(self) -> None:
        await database_sync_to_async(presence.beat)(self.process)

    async def _heads(self) -> None:
        for node in self._nodes.values():
            node.head()


def uvicorn() -> object | None:
    """Return the server, if it is uvicorn: it has no other way to be asked whether it ends."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return server if hasattr(server, "should_exit") else None


async def _every(seconds: float, do: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await do()
        except DatabaseError as error:
            outage.database.met(error)
        except Exception:  # a fault of ours, which is not to end what all rely on
            logger.exception("what is done every %s seconds failed", seconds)


_running: WeakKeyDictionary[asyncio.AbstractEventLoop, Nodes] = WeakKeyDictionary()


def of_process() -> Nodes:
    """Return this process's nodes, for whoever asks from a thread: it has one loop that serves."""
    return next(iter(_running.values()), None) or Nodes()


def nodes() -> Nodes:
    """Return the nodes of the running loop, of which a process has one."""
    return _running.setdefault(asyncio.get_running_loop(), Nodes())
