"""The bell: tells the nodes of a room, through the channel layer, to look at the log.

It may be heard late or never: the log is the truth, and a slow poll finds what the
bell did not ring for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer

from . import log, outage
from .log import State

PATIENCE = 5.0
"""Seconds after which a ring that does not get through is given up."""


def group(room: int) -> str:
    """Return the name of the group that all nodes of a room are in."""
    return f"broadcast.{room}"


def rung(message: dict[str, Any]) -> State:
    """Return what a ring says."""
    return State(message["head"], message["roster"], message["edits"])


async def ring(room: int, state: State) -> None:
    """Ring for a room, as well as the layer can."""
    layer = get_channel_layer()
    if layer is None:
        return
    message = {"type": "ring", **asdict(state)}
    sending = asyncio.ensure_future(layer.group_send(group(room), message))
    try:
        # Not wait_for: before Python 3.12 it may swallow that its task is cancelled, which is
        # then never cancelled again.
        await asyncio.wait({sending}, timeout=PATIENCE)
        if not sending.done():
            raise asyncio.TimeoutError
        sending.result()
        outage.layer.over()
    except Exception as error:  # whatever the layer's client raises: the poll finds it
        outage.layer.met(error)
    finally:
        sending.cancel()


def ring_for(rooms: Sequence[int]) -> None:
    """Ring for rooms as they are now, from a thread."""
    for room, state in log.state(rooms).items():
        async_to_sync(ring)(room, state)
