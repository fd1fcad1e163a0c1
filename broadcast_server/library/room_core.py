"""The room core: a client of one room, with its inbox and its answers, behind both faces."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timezone
from typing import NamedTuple, TypeVar

from broadcast_server.console.time_limit import run_to_end, run_within
from broadcast_server.console.tls_support import stand_in_for_ssl
from broadcast_server.protocol import messages as wire
from broadcast_server.protocol.bounds import MAX_TEXT_BYTES
from broadcast_server.protocol.operators import OperatorRequest
from broadcast_server.protocol.sanitize import strip_control
from broadcast_server.protocol.timestamp import rfc3339

from .argument import check_request, check_text
from .errors import (
    ConnectError,
    DisconnectedError,
    RoomClosedError,
    rejected,
    with_remedy,
)
from .event_queue import Item
from .events import Disconnected, Message, PrivateMessage
from .inbox import Inbox
from .loop_home import LoopHome

with stand_in_for_ssl():
    from broadcast_server.client.client import ClientError, ReconnectingClient

MAX_PAUSE_S = 10.0
"""How long a client reads nothing because its program takes nothing. Then it reads on, and drops
what it reads, so that it answers the server's pings and remains a member."""

Result = TypeVar("Result")


class UntilClosed(AsyncIterator[Result]):
    """Iterates over what *receive* returns, until the room is closed."""

    def __init__(self, receive: Callable[[], Awaitable[Result]]) -> None:
        self._receive = receive

    async def __anext__(self) -> Result:
        try:
            return await self._receive()
        except RoomClosedError:
            raise StopAsyncIteration from None


class _Answer(NamedTuple):
    """What the server has answered to a request of this client."""

    event: wire.Event
    epoch: str


class RoomCore:
    """What `ClientRoom` and `SyncClientRoom` do: the event sink of *client*, which it runs."""

    def __init__(self, client: ReconnectingClient) -> None:
        self._client = client
        self.session = client.session
        self.session.on_settled = self._settled
        self.inbox = Inbox(self.session)
        self._answers: dict[str, asyncio.Future[_Answer]] = {}  # by the id of the request
        self._wants_members = False
        self._is_receiving = False
        self._is_closed = False
        self._last_note = ""
        self._home = LoopHome("this room")
        self._arrived = asyncio.Event()  # something for the program
        self._taken = asyncio.Event()  # the program has taken something, or waits for an answer
        self._running = asyncio.ensure_future(client.run(self))
        self._running.add_done_callback(self._ended)

    def __str__(self) -> str:
        """Return which room this is, as whom, and where."""
        session = self.session
        return f"{session.room!r} as {session.name!r} at {self._client.opener.url}"

    # -- receiving --

    async def receive(self) -> Item:
        """Wait for the next event, and return it with its position."""
        self._home.check()
        if self._is_receiving:
            raise RuntimeError(
                "another task already receives from this room"
                " (let one task receive, and pass events on)"
            )
        self._is_receiving = True
        try:
            while self._is_closed or not len(self.inbox):
                self._check_open()
                self._arrived.clear()
                await self._arrived.wait()
        finally:
            self._is_receiving = False
        item = self.inbox.take()
        self._read_on()
        self._taken.set()
        return item

    def put_back(self, item: Item, position: wire.Cursor | None) -> None:
        """Put back what `receive` has returned; *position* is that before it."""
        self.inbox.put_back(item, position)
        self._arrived.set()

    def _read_on(self) -> None:
        """Read again what was dropped, if it is time for that."""
        if (position := self.inbox.read_on()) is not None:
            self._client.rewind(position)

    # -- sending --

    async def send(self, text: str) -> Message:
        """Publish *text*, and return the message. If cancelled, it is not sent any more."""
        self._home.check()
        self._check(text)
        while self.session.full:
            await self._unless_ended(self._client.wait_for_window())
        id = self._client.send(text)
        try:
            event, epoch = await self._answer(id)
        except BaseException:
            self.session.withdraw(id)
            raise
        match event:
            case wire.Message(seq=seq, name=name, at=at):
                return Message(self.session.room, seq, name, text, at, own=True, epoch=epoch)
            case wire.MessageHidden(seq=seq):  # by a moderator, before it reached this client
                return self._published(seq, text, epoch)
            case wire.Error(code="duplicate", text=reason):
                number = reason.rpartition(" ")[2]  # "message was said before, as number 42"
                is_number = number.isdecimal() and len(number) < 20
                return self._published(int(number) if is_number else 0, text, epoch)
            case wire.Error(code=code, text=reason):
                raise rejected(code, reason)
        raise AssertionError(event)

    async def send_private(self, to: str, text: str) -> PrivateMessage:
        """Send *text* to one member alone, and return the message when it was handed over."""
        self._home.check()
        check_text("to", to)
        self._check(text)
        await self._unless_ended(self._client.wait_live())
        id = self._client.send_private(to, text)
        if id is None:
            raise rejected("not_connected", "there is no connection, the message was not sent")
        event, _ = await self._answer(id)
        match event:
            case wire.PrivateMessage(name=name, to=to, at=at):
                return PrivateMessage(self.session.room, name, to, text, at, own=True)
            case wire.Error(code=code, text=reason):
                raise rejected(code, reason)
        raise AssertionError(event)

    async def rename(self, name: str) -> str:
        """Ask for another name, and return the one that the room gives."""
        self._home.check()
        check_text("name", name)
        self._check_open()
        event, _ = await self._answer(self._client.rename(name))
        if isinstance(event, wire.Error):
            raise rejected(event.code, event.text)
        return self.session.name

    async def operate(self, request: OperatorRequest) -> None:
        """Do what an operator does, and wait until the room has done it."""
        self._home.check()
        check_request(request)
        self._check_open()
        event, _ = await self._answer(self._client.operate(request))
        if isinstance(event, wire.Error):
            raise rejected(event.code, event.text)

    def _check(self, text: str) -> None:
        check_text("text", text)
        self._check_open()
        checked = wire.validate_message(text, None, MAX_TEXT_BYTES)
        if isinstance(checked, wire.Error):
            raise rejected(checked.code, checked.text)

    def _published(self, seq: int, text: str, epoch: str) -> Message:
        """Return a message whose echo did not arrive, as of now."""
        now = rfc3339(datetime.now(timezone.utc))
        return Message(self.session.room, seq, self.session.name, text, now, own=True, epoch=epoch)

    async def _answer(self, id: str) -> _Answer:
        """Wait for the answer to the request *id*. Raises what has ended the client."""
        self._answers[id] = asyncio.get_running_loop().create_future()
        self._taken.set()  # what the program has not taken must not hold up the answer
        try:
            return await self._answers[id]
        finally:
            answer = self._answers.pop(id)
            if answer.done() and not answer.cancelled():
                answer.exception()  # asyncio would log it after a cancellation

    def _settled(self, id: str, event: wire.Event) -> None:
        epoch = "" if self.session.cursor is None else self.session.cursor.epoch
        if isinstance(event, wire.Message):
            epoch, _ = self.inbox.remember_own(event)
        answer = self._answers.get(id)
        if answer is not None and not answer.done():
            answer.set_result(_Answer(event, epoch))

    # -- the end --

    async def close(self) -> None:
        """Leave the room, and wait until the client has ended, even if this is cancelled."""
        self._home.check()
        self._leave()
        await run_to_end(asyncio.wait({self._running}))

    def abandon(self) -> None:
        """Leave the room, as nobody has it any more, and warn of that. Any thread may call it."""
        if self._is_closed or self._running.done():
            return
        self._home.call(self._leave)
        text = f"the room {self.session.room} was not closed (use a `with` block, or call close)"
        warnings.warn(text, ResourceWarning, stacklevel=3, source=self)

    def _leave(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self.inbox.clear()
            self._client.leave()
            self._fail_all()

    async def wait_joined(self, timeout: float | None) -> None:
        """Wait until the room was joined, for *timeout* seconds. Raises ConnectError."""
        try:
            await run_within(self._until_joined(), timeout)
        except asyncio.TimeoutError:
            reason = self._last_note.partition(", trying again")[0] or "the server sent no welcome"
            text = f"could not join within {timeout:g} s, {reason} (open_timeout= waits longer)"
            raise ConnectError(text) from None

    async def _until_joined(self) -> None:
        while not self.inbox.is_welcomed:
            self._check_open()
            self._arrived.clear()
            await self._arrived.wait()

    def _check_open(self) -> None:
        if self._is_closed or self._running.done():
            raise self._reason_of_end()

    def _reason_of_end(self) -> BaseException:
        if self._is_closed or self._running.cancelled():
            return RoomClosedError("the room is closed (call connect again)")
        error = self._running.exception()
        if not isinstance(error, ClientError):  # a fault of this library
            return error or RoomClosedError("the room is closed (call connect again)")
        kind = DisconnectedError if self.inbox.is_welcomed else ConnectError
        return kind(with_remedy(str(error), error.code), error.code)

    def _ended(self, running: asyncio.Future[None]) -> None:
        error = None if running.cancelled() else running.exception()
        if error is not None and not isinstance(error, ClientError):
            # A fault of this library. What the server has decided is not one, and is raised where
            # the program uses the room; a program that does not has nothing to be told.
            context = {"message": "the client of a room has failed", "exception": error}
            running.get_loop().call_exception_handler(context)
        self._fail_all()

    def _fail_all(self) -> None:
        """Wake all that waits: there will be no answers, and no events any more."""
        self._arrived.set()
        self._taken.set()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(self._reason_of_end())

    async def _unless_ended(self, awaitable: Awaitable[Result]) -> None:
        """Wait for *awaitable* or the end of the client. Raises what has ended the client."""
        waiting = asyncio.ensure_future(awaitable)
        try:
            await asyncio.wait({waiting, self._running}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            await asyncio.wait({waiting})
        self._check_open()

    # -- called by the client --

    def show(self, events: list[wire.Event]) -> None:
        """Take *events* of the room."""
        self.inbox.receive(events)
        for event in events:
            if isinstance(event, wire.Welcome):
                # From now on, a connection that cannot be made is tried again.
                self._client.has_been_live = True
                self._wants_members = not self.inbox.members.is_complete
        if self._wants_members and self.session.live:
            self._wants_members = False
            self._client.request(wire.MembersRequest())
        self._read_on()
        self._arrived.set()

    def note(self, text: str) -> None:
        """Take a notice about the connection."""
        text = self._last_note = strip_control(text)
        self.inbox.note(Disconnected(self.session.room, text))
        self._arrived.set()

    async def drain(self) -> None:
        """Wait until the program has taken enough, but not for longer than `MAX_PAUSE_S`."""
        if self._must_pause():
            try:
                await run_within(self._pause(), MAX_PAUSE_S)
            except asyncio.TimeoutError:
                pass

    async def _pause(self) -> None:
        while self._must_pause():
            self._taken.clear()
            await self._taken.wait()

    def _must_pause(self) -> bool:
        # An answer comes after what was published before, so it is read while one is awaited.
        return self.inbox.full and not (self.inbox.dropping or self._answers or self._is_closed)
