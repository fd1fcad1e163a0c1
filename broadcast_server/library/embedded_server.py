"""The embedded server: a server in the event loop of another program."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast
from weakref import WeakSet

from broadcast_server.protocol import messages as wire
from broadcast_server.protocol.join import JoinRequest
from broadcast_server.protocol.names import validate_name, validate_room
from broadcast_server.protocol.operators import ACTS, OperatorEvent, OperatorRequest
from broadcast_server.protocol.publish import PublishRequest
from broadcast_server.protocol.rejection import Rejection
from broadcast_server.rooms.local_room import LocalRoom
from broadcast_server.rooms.message_log import DamagedRoomError, LogFileError
from broadcast_server.rooms.observed_room import ObservedRoom
from broadcast_server.server.opening import OpenedServer
from broadcast_server.server.server import Server

from .argument import check_request, check_text, hide_request
from .errors import BroadcastError, RoomClosedError, ServeError, rejected, with_parameters
from .event_stream import EventStream
from .events import (
    Event,
    Joined,
    Left,
    Members,
    Message,
    MessageHidden,
    Notice,
    Renamed,
    act_of,
)
from .loop_home import LoopHome

DEFAULT_NAME = "server"


@dataclass(frozen=True, slots=True)
class ServerRoom:
    """A room of an embedded server, as it was when you asked for it."""

    name: str
    members: tuple[str, ...]
    """The names of its members, in the order in which they joined."""
    subscribers: int
    """How many connections only receive, over HTTP."""
    seq: int
    """The number of its last message, 0 if it has none."""


class ObservableServer(Server):
    """A server whose rooms a program observes, and in which it can publish."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.listener.takes_systemd_sockets = False  # they are the program's
        self._rooms.make_room = partial(ObservedRoom, self._observe)
        self._streams: WeakSet[EventStream] = WeakSet()
        self._unpublished: dict[LocalRoom, list[Event]] = {}  # in batches that have not ended
        self._publishing: list[wire.Message] | None = None  # while `publish_own` does

    @property
    def rooms(self) -> dict[str, ServerRoom]:
        """The open rooms."""
        return {each.room.name: self._describe(each) for each in self._rooms}

    def new_stream(self) -> EventStream:
        """Return an iteration over the events of all rooms from now on."""
        stream = EventStream(self._members_of)
        self._streams.add(stream)
        return stream

    def end_streams(self) -> None:
        """End all iterations."""
        for stream in self._streams:
            stream.end()

    async def publish_own(self, join: JoinRequest, text: str) -> Message:
        """Publish *text*, and return the message once it is in the log and was sent.

        Raises RoomClosedError if the server has stopped, BroadcastError if its log has failed.
        """
        room = self._open(join.room)
        published: list[wire.Message] = []
        self._publishing = published
        try:
            result = room.publish(PublishRequest(join, text, None, 0), id_scope="")
        finally:
            self._publishing = None
        if isinstance(result, Rejection):
            raise rejected(result.error.code, result.text)
        delivered = asyncio.Event()
        room.call_after_batch(delivered.set)
        self._rooms.close_if_empty(room)
        await delivered.wait()
        if room.is_abandoned:
            raise BroadcastError("the log file has failed, the message may be lost (send it again)")
        return self._message(room, published[0], own=True)

    async def act(self, room_name: str, request: OperatorRequest, by: str) -> None:
        """Carry out what an operator can do, and return once everyone was told. Raises as above."""
        room = self._open(room_name)
        error = room.act(request, by)
        told = asyncio.Event()
        room.call_after_batch(told.set)
        self._rooms.close_if_empty(room)
        if error is not None:
            raise rejected(error.code, error.text)
        await told.wait()

    def _open(self, name: str) -> ObservedRoom:
        if not self.accepting:
            raise RoomClosedError("the server has stopped (call serve again)")
        try:
            return cast(ObservedRoom, self._rooms.open(name))
        except DamagedRoomError as error:
            raise BroadcastError(f"{error} (restore the log file from a backup)") from None

    def _observe(self, room: ObservedRoom, event: wire.Event) -> None:
        if self._publishing is not None and isinstance(event, wire.Message):
            self._publishing.append(event)
        if not self._streams:
            return
        own = self._convert(room, event)
        if own is None:
            return
        if room not in self._unpublished:
            self._unpublished[room] = []
            room.call_after_batch(partial(self._batch_ended, room))
        self._unpublished[room].append(own)

    def _batch_ended(self, room: ObservedRoom) -> None:
        events = self._unpublished.pop(room)
        if not room.is_abandoned:  # otherwise nobody has received them
            for stream in self._streams:
                stream.put(events)

    def _convert(self, room: LocalRoom, event: wire.Event) -> Event | None:
        name = room.room.name
        match event:
            case wire.Message():
                return self._message(room, event, own=self._publishing is not None)
            case wire.Joined():
                is_quiet = bool(event.quiet)
                return Joined(name, event.name, event.count, verified=False, quiet=is_quiet)
            case wire.Left():
                return Left(name, event.name, event.count, bool(event.quiet))
            case wire.Renamed():
                return Renamed(name, event.name, event.to)
            case OperatorEvent():
                return act_of(name, event)
            case wire.MessageHidden(seq=seq):
                return MessageHidden(name, seq)
            case wire.Error():
                return Notice(name, event.code, event.text)
        return None

    def _message(self, room: LocalRoom, event: wire.Message, *, own: bool) -> Message:
        seq, name, text, at = event.seq, event.name, event.text, event.at
        return Message(room.room.name, seq, name, text, at, own, room.log.epoch)

    def _members_of(self, name: str) -> Members:
        room = self._rooms.get(name)
        names = () if room is None else self._describe(room).members
        return Members(name, names, len(names))

    def _describe(self, room: LocalRoom) -> ServerRoom:
        members = tuple(member.name for member in room.room.members())
        return ServerRoom(room.room.name, members, room.subscriber_count, room.log.head)


class BroadcastServer:
    """A server that `serve` has started: the same as `broadcast-server start`.

    It runs in the event loop in which it was started, and can be used there only. It handles no
    signals, and configures no logging: its log goes to the logger `broadcast_server`. A process can
    have several of them.
    """

    def __init__(self, opened: OpenedServer, server: ObservableServer) -> None:
        self._opened = opened
        self._server = server
        self._stopping: asyncio.Future[None] | None = None
        self._home = LoopHome("this server")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self.url}>"

    def __del__(self) -> None:
        """Warn if the program has forgotten to stop the server, which goes on."""
        if self._stopping is None and self._server.accepting:
            text = f"the server at {self.url} was not stopped (use a `with` block, or call stop)"
            warnings.warn(text, ResourceWarning, stacklevel=2, source=self)

    @property
    def url(self) -> str:
        """The address for clients, with the port that the server really has: `ws://HOST:PORT/`."""
        return self._server.url

    @property
    def urls(self) -> tuple[str, ...]:
        """All addresses on which it listens."""
        return tuple(self._server.listener.urls)

    @property
    def rooms(self) -> Mapping[str, ServerRoom]:
        """The rooms with somebody in them, by name, as they are now."""
        return self._server.rooms

    def events(self) -> AsyncIterator[Event]:
        """Iterate over what happens in all rooms from now on, until the server has stopped.

        There are `Message`, `MessageHidden`, `Joined`, `Left`, `Renamed` and `OperatorAct`. A
        message comes when it is in the log and was sent to the clients. Each call returns an
        iteration of its own.

        At most 4,096 events, or 1 Mi characters in them, and one batch wait in memory. What
        comes beyond that is dropped. In its place there are, for each room that lost something, a
        `Gap` with the number of messages and a `Members`. A program that must have every message
        uses `connect`.
        """
        self._home.check()
        return self._server.new_stream()

    async def broadcast(self, room: str, text: str, *, name: str = DEFAULT_NAME) -> Message:
        """Publish *text* in *room*, and return the message with its number.

        It returns when the message is in the log and was sent to everyone in the room.

        Args:
            room: The name of the room. Nobody needs to be there.
            text: The text.
            name: The name of the author. If a member has it, the next free number is added.

        Raises:
            MessageTooLongError: The message is longer than the server allows.
            RejectedError: The message is invalid for another reason.
            RoomClosedError: The server has stopped.
            BroadcastError: The log file has failed, and the message may be lost.
            ValueError: The name or the room is invalid.

        """
        self._home.check()
        for argument, value in (("room", room), ("text", text), ("name", name)):
            check_text(argument, value)
        checked = wire.validate_message(text, None, self._server.max_message_bytes)
        if isinstance(checked, wire.Error):
            raise rejected(checked.code, checked.text)
        # The program is in charge of its rooms, as an operator is.
        join = JoinRequest(name=validate_name(name), room=validate_room(room), operator=True)
        return await self._server.publish_own(join, text)

    async def kick(self, room: str, name: str, *, by: str = DEFAULT_NAME) -> None:
        """Close the connection of the member *name*, who must stay out of *room* for 10 minutes.

        This is what operators of the room do, and everyone there is told: *by* kicked *name*.

        Raises:
            RejectedError: Nobody in the room has that name, or it is that of an operator.
            RoomClosedError: The server has stopped.
            ValueError: The name or the room is invalid.

        """
        await self._act(room, OperatorRequest("kick", name), by)

    async def mute(self, room: str, name: str, on: bool = True, *, by: str = DEFAULT_NAME) -> None:
        """Let the messages of the member *name* be rejected, or no more. Raises as `kick` does."""
        await self._act(room, OperatorRequest("mute", name, on), by)

    async def lock(self, room: str, on: bool = True, *, by: str = DEFAULT_NAME) -> None:
        """Let nobody join *room* any more, or everyone again. Raises as `kick` does."""
        await self._act(room, OperatorRequest("lock", on=on), by)

    async def announce(self, room: str, on: bool = True, *, by: str = DEFAULT_NAME) -> None:
        """Let only operators, and this program, write in *room*. Raises as `kick` does."""
        await self._act(room, OperatorRequest("announce", on=on), by)

    async def set_topic(self, room: str, text: str, *, by: str = DEFAULT_NAME) -> None:
        """Set the topic of *room*; an empty one removes it. Raises as `kick` does."""
        await self._act(room, OperatorRequest("topic", text=text), by)

    async def hide(self, room: str, what: int | str, *, by: str = DEFAULT_NAME) -> None:
        """Hide message number *what* of *room*, or what the name *what* has published lately.

        The text is forgotten, also in the log file, and clients take it out of view. A name stands
        for its messages among the last 1,000. Raises as `kick` does.
        """
        await self._act(room, hide_request(what), by)

    async def set_slow_mode(self, room: str, seconds: int, *, by: str = DEFAULT_NAME) -> None:
        """Let each member of *room* publish one message in *seconds*; 0 is no limit.

        Operators and this program are exempt. Raises as `kick` does.
        """
        await self._act(room, OperatorRequest("slow", seconds=seconds), by)

    async def _act(self, room: str, request: OperatorRequest, by: str) -> None:
        self._home.check()
        check_text("room", room)
        check_text("by", by)
        check_request(request)
        if "name" in ACTS[request.act].requested and not request.seq:
            request = request._replace(name=validate_name(request.name))
        await self._server.act(validate_room(room), request, validate_name(by))

    async def stop(self) -> None:
        """Stop: let clients that are behind catch up, and close everyone, within `grace` seconds.

        Clients are told that they can reconnect. If this is cancelled, connections are cut at once.

        Raises:
            ServeError: The log file lacks messages, because it was replaced or the disk is full.

        """
        self._home.check()
        if self._stopping is None:
            self._stopping = asyncio.ensure_future(self._stop())
        cancelled: asyncio.CancelledError | None = None
        while not self._stopping.done():
            try:
                await asyncio.wait({self._stopping})
            except asyncio.CancelledError as error:  # raised below, when the port is free
                cancelled = error
                self._server.abort()
        if cancelled is not None:
            self._stopping.exception()  # asyncio would log it
            raise cancelled
        self._stopping.result()

    async def _stop(self) -> None:
        try:
            await self._server.stop()
        finally:
            self._server.end_streams()
            try:
                self._opened.close()
            except LogFileError as error:
                raise ServeError(with_parameters(str(error))) from error
