"""Notifications: tell the other replicas of a room that it has changed, and hear it from them.

They may be dropped, delayed or repeated: the log is the source of truth, and a poll once a
second finds what they missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from channels.layers import get_channel_layer

from django_site.store import notifier, outage
from django_site.store.message_log import RoomState

RETRY_INTERVAL_S = 0.5
"""Seconds between two attempts at a channel layer that does not answer."""


class Notifications:
    """The notifications of one room in one process, in two tasks.

    *state* returns what this process knows of the room, and *received* takes what others know.
    """

    def __init__(
        self, room: int, state: Callable[[], RoomState], received: Callable[[RoomState], None]
    ) -> None:
        self._room = room
        self._state = state
        self._received = received
        self._changed = asyncio.Event()
        self.tasks = [asyncio.ensure_future(job) for job in (self._send_all(), self._receive_all())]
        """The tasks, which the owner cancels in the end."""

    def send(self) -> None:
        """Notify the other replicas soon. Nothing waits for it."""
        self._changed.set()

    async def _send_all(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            await notifier.notify(self._room, self._state())

    async def _receive_all(self) -> None:
        layer = get_channel_layer()
        notifier.listen(asyncio.get_running_loop())
        group, channel = notifier.group_name(self._room), ""
        while layer is not None:
            try:
                # One channel for all attempts, because the group would keep each of them.
                channel = channel or await layer.new_channel()
                await layer.group_add(group, channel)
                while True:
                    message = await layer.receive(channel)
                    self._received(notifier.parse_notification(message))
            except asyncio.CancelledError:
                with suppress(Exception):
                    await layer.group_discard(group, channel)
                raise
            except Exception as error:  # each layer's client raises its own
                outage.channel_layer.began(error)
                await asyncio.sleep(RETRY_INTERVAL_S)
