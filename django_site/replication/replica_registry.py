"""The replica registry: the room replicas of one process.

A replica is created when the first client of this process joins its room, and closed when it is
idle. The registry owns what all replicas of the process share: the process's sign of life in the
database, the poll of the log, the heartbeats, the metrics and the admission control.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property
from typing import Any

from channels.db import database_sync_to_async
from django.conf import settings
from django.db import Error as DatabaseError

from broadcast_server.http.prometheus import Gauges, exposition
from broadcast_server.protocol.rejection import STOPPING
from broadcast_server.rooms.metrics import Metrics
from broadcast_server.server.file_limit import raise_file_limit
from django_site.store import liveness, message_log, outage, retention
from django_site.store.rejections import Rejected

from .admission import ProcessAdmission, limits_from_settings
from .catch_up import CatchUp
from .open_logins import CHECK_INTERVAL_S, OpenLogins
from .private_messages import PrivateMessages
from .replica import RoomReplica

logger = logging.getLogger(__name__)

POLL_INTERVAL_S = 1.0
"""Seconds between two polls of the log, which find what the notifications missed."""

RETENTION_INTERVAL_S = 600.0
"""Seconds between two searches for messages that are older than their rooms keep them."""

DELETION_PAUSE_S = 0.1
"""Seconds for which everything else has its turn, after some of them were deleted."""

HEARTBEAT_INTERVAL_S = 25.0
"""Seconds between two heartbeats, which show clients of a quiet room that it is alive."""


SCOPE_KEY = "broadcast.replicas"
"""The key of the ASGI scope under which the application passes its registry to a connection."""


class ReplicaRegistry:
    """The replicas of one process. Use `get` to find one, and `stop` in the end."""

    def __init__(self) -> None:
        self.process = secrets.token_hex(8)
        self._replicas: dict[str, RoomReplica] = {}
        self._opening = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped = False
        self.metrics = Metrics()
        self.logins = OpenLogins()
        self._catching_up = CatchUp()
        self._private_messages = PrivateMessages(self.process, self._replicas.get)

    async def get(self, name: str) -> RoomReplica:
        """Return the replica of a room, and open it if there is none.

        Raises `Rejected` if the server is stopping, or a database's error.
        """
        async with self._opening:
            if self._stopped:
                raise Rejected(STOPPING)
            if not self._tasks:
                await self._record_liveness()
                self._start_jobs()
            if name in self._replicas and self._replicas[name].deleted:
                await self._replicas.pop(name).close()
            if name not in self._replicas:
                row = await database_sync_to_async(message_log.open_room)(name)
                max_bytes = settings.BROADCAST_MAX_MESSAGE_BYTES
                self._replicas[name] = RoomReplica(
                    row,
                    self.process,
                    max_bytes,
                    self.metrics,
                    self._catching_up,
                    self._private_messages,
                )
            return self._replicas[name]

    def _start_jobs(self) -> None:
        jobs = [
            (POLL_INTERVAL_S, self._poll),
            (liveness.LIVENESS_INTERVAL_S, self._record_liveness),
            (HEARTBEAT_INTERVAL_S, self._send_heartbeats),
            (CHECK_INTERVAL_S, self.logins.check),
            (RETENTION_INTERVAL_S, _delete_expired),
        ]
        self._tasks = [asyncio.ensure_future(_every(*job)) for job in jobs]
        self._private_messages.start()

    @cached_property
    def admission(self) -> ProcessAdmission:
        """The admission control of this process. It is created when it is first used."""
        return ProcessAdmission(limits_from_settings(raise_file_limit()))

    @property
    def accepting(self) -> bool:
        """Whether clients may join: the server is not stopping."""
        return not self._stopped

    def metrics_text(self) -> str:
        """Return the metrics of this process in Prometheus' text format."""
        # A copy, because Django calls this in a thread while the event loop changes the dict.
        replicas = tuple(self._replicas.values())
        clients = sum(replica.client_count for replica in replicas)
        behind = sum(replica.behind_count for replica in replicas)
        streams = sum(replica.subscriber_count for replica in replicas)
        return exposition(self.metrics, Gauges(clients, len(replicas), behind, streams))

    async def stop(self) -> None:
        """Close everyone with `STOPPING`, close the replicas, and remove this process's rows."""
        if self._stopped:
            return
        self._stopped = True
        for replica in self._replicas.values():
            replica.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._catching_up.close()
        await self._private_messages.close()
        await asyncio.gather(*(replica.close() for replica in self._replicas.values()))
        with contextlib.suppress(DatabaseError):  # the others will notice by the time-out
            await database_sync_to_async(liveness.remove_process)(self.process)

    async def _poll(self) -> None:
        """Close idle replicas, and wake those whose room has changed."""
        async with self._opening:  # nobody is handed a replica that is about to be closed
            for name in [name for name, replica in self._replicas.items() if replica.is_idle]:
                await self._replicas.pop(name).close()
        replicas = {replica.key: replica for replica in self._replicas.values()}
        if replicas:
            states = await database_sync_to_async(message_log.room_states)(list(replicas))
            for key, replica in replicas.items():
                # A deleted room has no state. Its replica has to find that out as well.
                replica.wake(states.get(key, message_log.RoomState(-1, -1, -1)))

    async def _record_liveness(self) -> None:
        await database_sync_to_async(liveness.record_liveness)(self.process)

    async def _send_heartbeats(self) -> None:
        for replica in self._replicas.values():
            replica.heartbeat()


async def _delete_expired() -> None:
    for expiry in await database_sync_to_async(retention.expiries)():
        while await database_sync_to_async(retention.delete_some)(expiry):  # noqa: ASYNC110
            await asyncio.sleep(DELETION_PAUSE_S)
        await database_sync_to_async(retention.redact_records)(expiry)


async def _every(seconds: float, job: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await job()
        except DatabaseError as error:
            outage.database.began(error)
        except Exception:  # an error of ours must not end the task
            logger.exception("a job that runs every %s seconds has failed", seconds)


def registry_of(scope: Mapping[str, Any]) -> ReplicaRegistry:
    """Return the registry that the ASGI application has put into a connection's *scope*."""
    registry: ReplicaRegistry = scope[SCOPE_KEY]
    return registry
