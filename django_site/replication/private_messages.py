"""Private messages: hands them to members in this process and in others, and answers their senders.

A private message is neither logged nor resumed. So unlike everything else, it travels through the
channel layer itself, on a channel that each process has for them. A channel layer may drop what it
is given. Therefore the sender gets its copy, which confirms the message, only when the recipient's
process has answered that it wrote it to the connection. Without an answer it gets an error that
says what is known: `not_here` and `not_delivered` if the message was certainly not handed over,
`not_confirmed` if it may have been. Each answer comes within `ANSWER_TIMEOUT_S`.

The messages of one sender are handed over one after the other, so they stay in order.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from typing import Any, Protocol, TypeVar

from channels.db import database_sync_to_async
from channels.exceptions import ChannelFull
from channels.layers import get_channel_layer
from django.db import Error as DatabaseError

from broadcast_server.console.time_limit import run_within
from broadcast_server.protocol.messages import (
    RECIPIENT_BEHIND,
    SENDER_BEHIND,
    Error,
    Event,
    PrivateMessage,
    not_delivered,
)
from broadcast_server.protocol.timestamp import rfc3339
from broadcast_server.rooms.actions import RoutePrivate
from broadcast_server.rooms.participant import Participant
from broadcast_server.rooms.room import Room
from django_site.store import outage
from django_site.store.private_route import PrivateRoute, find_route

from .notifications import RETRY_INTERVAL_S

ANSWER_TIMEOUT_S = 5.0
"""Seconds within which the sender of a private message gets its copy or an error."""

MAX_QUEUED = 16
"""How many private messages of one member may wait for those before them."""

MAX_TOKENS = 4096
"""How many messages of other processes are remembered, so that none is handed over twice."""

Result = TypeVar("Result")


class PrivateRoom(Protocol):
    """What is needed of a room in this process. `RoomReplica` is one."""

    room: Room
    key: int

    def member(self, connection_id: str) -> Participant | None:
        """Return the member of this process that has a connection, None if there is none."""

    def takes_private(self, participant: Participant) -> bool:
        """Return whether the connection of *participant* takes a private message now."""

    def hand_over(self, recipient: Participant, message: PrivateMessage) -> bool:
        """Hand a private message to *recipient*, unless its connection takes nothing now."""

    def send(self, to: Participant | None, event: Event) -> None:
        """Send *event* to one member, after the answers to its earlier requests."""

    async def wait_written(self) -> None:
        """Wait until everything that was sent is written to every connection that takes it."""


@dataclass(frozen=True, slots=True)
class _Pending:
    """A private message of a member, and the time until which it has to be answered."""

    action: RoutePrivate
    deadline: float


class PrivateMessages:
    """The private messages of one process. *find_room* returns a room of it by name."""

    def __init__(self, process: str, find_room: Callable[[str], PrivateRoom | None]) -> None:
        self._process = process
        self._find_room = find_room
        self._queues: dict[Participant, deque[_Pending]] = {}  # by author
        self._answers: dict[str, asyncio.Future[bool]] = {}  # by token
        self._handled: dict[str, bool] = {}  # by token of other processes, the oldest first
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Receive what other processes send."""
        self._spawn(self._receive_all())

    async def close(self) -> None:
        """End all tasks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(job)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- of members of this process --

    def send(self, room: PrivateRoom, connection_id: str, action: RoutePrivate) -> None:
        """Send a message of the member that has *connection_id*. It gets an answer in any case."""
        author = action.author
        queue = self._queues.get(author)
        if not room.takes_private(author):
            room.send(author, not_delivered(action.to, SENDER_BEHIND, action.id))
        elif queue is not None and len(queue) >= MAX_QUEUED:
            reason = f"{MAX_QUEUED} others of yours wait already, try again in a moment"
            room.send(author, not_delivered(action.to, reason, action.id))
        else:
            deadline = asyncio.get_running_loop().time() + ANSWER_TIMEOUT_S
            if queue is None:
                self._queues[author] = queue = deque()
                self._spawn(self._send_all(room, author, connection_id, queue))
            queue.append(_Pending(action, deadline))

    async def _send_all(
        self,
        room: PrivateRoom,
        author: Participant,
        connection_id: str,
        queue: deque[_Pending],
    ) -> None:
        try:
            while queue and author in room.room:
                pending = queue[0]
                room.send(author, await self._send_one(room, connection_id, pending))
                queue.popleft()
        finally:
            del self._queues[author]

    async def _send_one(
        self, room: PrivateRoom, connection_id: str, pending: _Pending
    ) -> PrivateMessage | Error:
        """Send one message, and return the answer for its author."""
        action, deadline = pending.action, pending.deadline
        to, id = action.to, action.id
        try:
            route = await _within(
                deadline, database_sync_to_async(find_route)(room.key, connection_id, to)
            )
        except (asyncio.TimeoutError, DatabaseError):
            return not_delivered(to, "the database does not answer", id)
        if isinstance(route, Error):
            return replace(route, id=id)
        now = rfc3339(datetime.now(timezone.utc))
        message = PrivateMessage(route.name, route.to, action.text, now)
        if route.connection_id == connection_id:
            delivered = True
        elif route.process == self._process:
            recipient = room.member(route.connection_id)
            delivered = recipient is not None and room.hand_over(recipient, message)
        else:
            try:
                delivered = await self._send_away(room, route, message, deadline)
            except (asyncio.TimeoutError, _LayerError):
                return not_confirmed(route.to, id)
        if not delivered:
            return not_delivered(route.to, RECIPIENT_BEHIND, id)
        return replace(message, id=id)

    async def _send_away(
        self, room: PrivateRoom, route: PrivateRoute, message: PrivateMessage, deadline: float
    ) -> bool:
        """Have another process hand over *message*, and return whether it did.

        Raises asyncio.TimeoutError or `_LayerError` if that is not known.
        """
        token = secrets.token_hex(8)
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._answers[token] = answer
        content = {
            "type": "private",
            "token": token,
            "from": self._process,
            "room": room.room.name,
            "connection": route.connection_id,
            "message": asdict(message),
        }
        try:
            await _within(deadline, _send_to_process(route.process, content))
            return await _within(deadline, answer)
        except ChannelFull:
            return False
        finally:
            del self._answers[token]

    # -- of other processes --

    async def _receive_all(self) -> None:
        layer = get_channel_layer()
        while layer is not None:
            try:
                content = await layer.receive(_channel_of(self._process))
            except Exception as error:  # each layer's client raises its own
                outage.channel_layer.began(error)
                await asyncio.sleep(RETRY_INTERVAL_S)
                continue
            self._receive(content)

    def _receive(self, content: dict[str, Any]) -> None:
        token = content["token"]
        if content["type"] == "private":
            self._spawn(self._hand_over(content))
        elif token in self._answers and not self._answers[token].done():
            self._answers[token].set_result(content["delivered"])

    async def _hand_over(self, content: dict[str, Any]) -> None:
        """Hand over a message of another process, once, and answer that process."""
        token = content["token"]
        if token not in self._handled:
            room = self._find_room(content["room"])
            recipient = None if room is None else room.member(content["connection"])
            message = PrivateMessage(**content["message"])
            delivered = (
                room is not None and recipient is not None and room.hand_over(recipient, message)
            )
            self._handled[token] = delivered
            if len(self._handled) > MAX_TOKENS:
                del self._handled[next(iter(self._handled))]
            if delivered and room is not None:
                await room.wait_written()
        answer = {"type": "private.answer", "token": token, "delivered": self._handled[token]}
        with suppress(asyncio.TimeoutError, _LayerError, ChannelFull):
            deadline = asyncio.get_running_loop().time() + ANSWER_TIMEOUT_S
            await _within(deadline, _send_to_process(content["from"], answer))


class _LayerError(Exception):
    """The channel layer has failed. What it was given may arrive all the same."""


def not_confirmed(name: str, id: str | None) -> Error:
    """Return the answer to a private message that may or may not have been handed to *name*."""
    text = f"{name} may not have got the message: no answer within {ANSWER_TIMEOUT_S:g} seconds"
    return Error("not_confirmed", text, id)


def _channel_of(process: str) -> str:
    return f"broadcast.private.{process}"


async def _send_to_process(process: str, content: dict[str, Any]) -> None:
    """Send *content* to another process. Raises ChannelFull, or `_LayerError`."""
    layer = get_channel_layer()
    if layer is None:
        raise _LayerError
    try:
        await layer.send(_channel_of(process), content)
    except ChannelFull:
        raise
    except Exception as error:  # each layer's client raises its own
        outage.channel_layer.began(error)
        raise _LayerError from None
    outage.channel_layer.ended()


async def _within(deadline: float, awaitable: Awaitable[Result]) -> Result:
    """Return the result of *awaitable*. Raises asyncio.TimeoutError at the *deadline*."""
    left = deadline - asyncio.get_running_loop().time()
    return await run_within(awaitable, max(0.0, left))
