"""The notifier: tells the replicas of a room, through the channel layer, that it has changed.

A notification may be dropped, delayed or repeated: the log is the source of truth, and each
replica polls it as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer

from . import message_log, outage
from .message_log import RoomState

SEND_TIMEOUT_S = 5.0
"""Seconds after which a notification that the channel layer does not take is given up."""


def group_name(room: int) -> str:
    """Return the name of the channel layer's group that all replicas of a room are in."""
    return f"broadcast.{room}"


def parse_notification(message: dict[str, Any]) -> RoomState:
    """Return the state of the room that a notification carries."""
    return RoomState(message["head"], message["roster"], message["edits"])


async def notify(room: int, state: RoomState) -> None:
    """Notify the replicas of a room. Errors of the channel layer are logged and not raised."""
    layer = get_channel_layer()
    if layer is None:
        return
    message = {"type": "notification", **asdict(state)}
    sending = asyncio.ensure_future(layer.group_send(group_name(room), message))
    try:
        # Not wait_for: before Python 3.12 it may swallow the cancellation of its task, which then
        # never ends.
        await asyncio.wait({sending}, timeout=SEND_TIMEOUT_S)
        if not sending.done():
            raise asyncio.TimeoutError
        sending.result()
        outage.channel_layer.ended()
    except Exception as error:  # each layer's client raises its own
        outage.channel_layer.began(error)
    finally:
        sending.cancel()


def notify_rooms(rooms: Sequence[int]) -> None:
    """Notify the replicas of *rooms* of their present states. It blocks: call it in a thread."""
    for room, state in message_log.room_states(rooms).items():
        async_to_sync(notify)(room, state)
