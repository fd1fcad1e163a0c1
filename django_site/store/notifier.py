"""The notifier: tells the replicas of a room, through the channel layer, that it has changed.

A notification may be dropped, delayed or repeated: the log is the source of truth, and each
replica polls it as well.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any
from weakref import WeakSet

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer

from broadcast_server.console.time_limit import run_within

from . import message_log, outage
from .message_log import STATE_COLUMNS, RoomState

SEND_TIMEOUT_S = 5.0
"""Seconds after which a notification that the channel layer does not take is given up."""

_listening: WeakSet[asyncio.AbstractEventLoop] = WeakSet()


def listen(loop: asyncio.AbstractEventLoop) -> None:
    """Note that replicas are notified in *loop*."""
    _listening.add(loop)


def group_name(room: int) -> str:
    """Return the name of the channel layer's group that all replicas of a room are in."""
    return f"broadcast.{room}"


def parse_notification(message: dict[str, Any]) -> RoomState:
    """Return the state of the room that a notification carries."""
    # A process of an earlier version does not know them all.
    return RoomState(**{key: message[key] for key in message.keys() & STATE_COLUMNS})


async def notify(room: int, state: RoomState) -> None:
    """Notify the replicas of a room. Errors of the channel layer are logged and not raised."""
    layer = get_channel_layer()
    if layer is None:
        return
    message = {"type": "notification", **asdict(state)}
    try:
        await run_within(layer.group_send(group_name(room), message), SEND_TIMEOUT_S)
    except Exception as error:  # each layer's client raises its own
        outage.channel_layer.began(error)
    else:
        outage.channel_layer.ended()


def notify_blocking(room: int, state: RoomState) -> None:
    """Notify the replicas of a room. It blocks: call it in a thread.

    If this process has replicas itself, it is done in their event loop: the layer that is in memory
    is not safe in another thread, and the others have their connections there.
    """
    loop = next((each for each in [*_listening] if each.is_running()), None)
    if loop is None:
        async_to_sync(notify)(room, state)
        return
    sent = asyncio.run_coroutine_threadsafe(notify(room, state), loop)
    try:
        sent.result(SEND_TIMEOUT_S + 1)
    except concurrent.futures.TimeoutError:  # the loop stands still
        sent.cancel()


def notify_rooms(rooms: Sequence[int]) -> None:
    """Notify the replicas of *rooms* of their present states. It blocks: call it in a thread."""
    for room, state in message_log.room_states(rooms).items():
        notify_blocking(room, state)
