"""The synchronous client room: a room as a program without asyncio sees it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from time import monotonic
from types import TracebackType
from typing import TypeVar

from broadcast_server.console.time_limit import run_within
from broadcast_server.protocol.messages import Cursor
from broadcast_server.protocol.operators import OperatorRequest

from .argument import check_seconds, hide_request
from .errors import RoomClosedError
from .event_queue import Item
from .events import Event, Message, PrivateMessage
from .loop_thread import LoopThread, ThreadEndedError
from .room_core import RoomCore

Result = TypeVar("Result")


class SyncClientRoom:
    """A room that `connect_sync` has joined: receive by iterating over it, and send.

    It is what `ClientRoom` is, with the same guarantees and limits. The client runs in a thread of
    its own, so it stays connected whatever your program does. Any thread may use the room, but
    only one at a time may receive. Ctrl+C interrupts any wait, and loses no message.

    Leave it with `with connect_sync(...) as room:`, or call `close`.
    """

    def __init__(self, thread: LoopThread, core: RoomCore) -> None:
        self._thread = thread
        self._core = core
        self._closing = threading.Lock()
        self._is_closed = False

    def __del__(self) -> None:
        """Leave the room if the program has forgotten to, with a ResourceWarning."""
        if not self._is_closed and not self._thread.is_lost:
            self._thread.stop_soon()  # which ends the client
            self._core.abandon()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._core}>"

    def __enter__(self) -> SyncClientRoom:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def name(self) -> str:
        """Your name in the room: the room may have added a number, as in `bot-2`."""
        return self._core.session.name

    @property
    def room(self) -> str:
        """The name of the room."""
        return self._core.session.room

    @property
    def topic(self) -> str:
        """The topic of the room, empty if it has none."""
        return self._core.inbox.topic

    @property
    def slow_mode(self) -> int:
        """In how many seconds each member may publish one message; 0 is no limit."""
        return self._core.inbox.slow_mode

    @property
    def members(self) -> tuple[str, ...]:
        """The names of all members as of now, yours included."""
        return self._core.inbox.members.names

    @property
    def member_count(self) -> int:
        """How many members are in the room."""
        return self._core.inbox.members.count

    @property
    def cursor(self) -> str:
        """The position in the room after the message that you received last."""
        return str(self._core.inbox.position)

    @property
    def connected(self) -> bool:
        """Whether there is a connection at the moment."""
        return self._core.session.is_welcomed

    def receive(self, timeout: float | None = None) -> Message:
        """Wait for the next message, for at most *timeout* seconds, and return it.

        Raises:
            TimeoutError: None came in time.
            DisconnectedError: The server has ended this client for good.
            RoomClosedError: The room was closed.

        """
        if timeout is not None:
            check_seconds("timeout", timeout)
        deadline = None if timeout is None else monotonic() + timeout
        while True:
            left = None if deadline is None else max(0.0, deadline - monotonic())
            event = self.receive_event(left)
            if isinstance(event, Message):
                return event

    def receive_event(self, timeout: float | None = None) -> Event:
        """Wait for the next event of any kind, and return it. It raises what `receive` raises."""
        if timeout is not None:
            check_seconds("timeout", timeout)
        receipt = _Receipt(self._core, timeout)
        try:
            self._run(receipt.take)
        except asyncio.TimeoutError:
            raise TimeoutError("nothing came in time") from None
        except KeyboardInterrupt:
            self._thread.call_soon(receipt.abandon)
            raise
        return receipt.event

    def __iter__(self) -> Iterator[Message]:
        """Iterate over the messages, until the room is closed. Raises DisconnectedError."""
        try:
            while True:
                yield self.receive()
        except RoomClosedError:
            return

    def events(self) -> Iterator[Event]:
        """Iterate over all events, until the room is closed. Raises DisconnectedError."""
        try:
            while True:
                yield self.receive_event()
        except RoomClosedError:
            return

    def send(self, text: str, timeout: float | None = None) -> Message:
        """Publish *text*, wait until the room has it, and return the message with its number.

        While there is no connection, this waits for the next one. After *timeout* seconds the
        message is withdrawn: it is not sent any more, but it is published if it was sent before.

        Raises:
            TimeoutError: The message was not confirmed in time.
            MessageTooLongError: The message is longer than the server allows.
            RejectedError: The server has rejected the message for another reason.
            DisconnectedError: The server has ended this client for good.
            RoomClosedError: The room was closed meanwhile.

        """
        late = "the message was not confirmed within {:g} s (it is not sent any more)"
        return self._run(lambda: self._core.send(text), timeout, late)

    def send_private(self, to: str, text: str, timeout: float | None = None) -> PrivateMessage:
        """Send *text* to the member *to* alone, and return the message when it was handed over.

        It is sent once, on this connection. It is in no log, and nobody else gets it. The server
        has written it to the connection of the other; whether the other reads it is not known.

        Raises:
            TimeoutError: There was no answer within *timeout* seconds.
            MessageTooLongError: The message is longer than the server allows.
            RejectedError: It was not handed over: there is no connection (`not_connected`), nobody
                has that name (`not_here`), or the connection of the other takes nothing at the
                moment (`not_delivered`). With `not_confirmed` it may have been handed over or not.
            DisconnectedError: The server has ended this client for good.
            RoomClosedError: The room was closed meanwhile.

        """
        return self._run(lambda: self._core.send_private(to, text), timeout)

    def rename(self, name: str, timeout: float | None = None) -> str:
        """Ask for another name, and return the name that the room gives you: `bob`, or `bob-2`.

        Raises:
            TimeoutError: There was no answer within *timeout* seconds.
            RejectedError: The name is invalid, or is that of an account.
            DisconnectedError: The server has ended this client for good.
            RoomClosedError: The room was closed meanwhile.

        """
        return self._run(lambda: self._core.rename(name), timeout)

    def kick(self, name: str, timeout: float | None = None) -> None:
        """Close the connection of the member *name*, who must stay out for 10 minutes.

        This and what follows is for operators: pass `operator_key` to connect. Everyone in the room
        is told of it. If the connection breaks before the answer, it is asked for again.

        Raises:
            TimeoutError: There was no answer within *timeout* seconds. It may be done all the same.
            RejectedError: Nobody has that name (`not_here`), it is that of an operator
                (`is_operator`), or you are none (`not_operator`).
            DisconnectedError: The server has ended this client for good.
            RoomClosedError: The room was closed meanwhile.

        """
        self._operate(OperatorRequest("kick", name), timeout)

    def mute(self, name: str, on: bool = True, timeout: float | None = None) -> None:
        """Let the messages of the member *name* be rejected, or no more. Raises as `kick` does."""
        self._operate(OperatorRequest("mute", name, on), timeout)

    def lock(self, on: bool = True, timeout: float | None = None) -> None:
        """Let nobody join the room any more, or everyone again. Raises as `kick` does."""
        self._operate(OperatorRequest("lock", on=on), timeout)

    def announce(self, on: bool = True, timeout: float | None = None) -> None:
        """Let only operators write, or everyone again. Raises as `kick` does."""
        self._operate(OperatorRequest("announce", on=on), timeout)

    def set_topic(self, text: str, timeout: float | None = None) -> None:
        """Set the topic of the room; an empty one removes it. Raises as `kick` does."""
        self._operate(OperatorRequest("topic", text=text), timeout)

    def set_slow_mode(self, seconds: int, timeout: float | None = None) -> None:
        """Let each publish one message in *seconds*; 0 is no limit. Raises as `kick` does."""
        self._operate(OperatorRequest("slow", seconds=seconds), timeout)

    def ban(self, name: str, reason: str = "", timeout: float | None = None) -> None:
        """Ban *name* from the room for a day; it is told the *reason*.

        Only the Django deployment has bans. Raises as `kick` does, with `no_bans` elsewhere.
        """
        self._operate(OperatorRequest("ban", name, text=reason), timeout)

    def hide(self, what: int | str, timeout: float | None = None) -> None:
        """Hide message number *what*, or what the author *what* has published lately.

        Raises as `kick` does, with `not_here` if there is no such message.
        """
        self._operate(hide_request(what), timeout)

    def close(self) -> None:
        """Leave the room, and end its thread. Whoever waits gets a `RoomClosedError`."""
        with self._closing:
            if not self._is_closed and not self._thread.is_lost:
                self._run(self._core.close)
                self._is_closed = True
                self._thread.stop()

    def _operate(self, request: OperatorRequest, timeout: float | None) -> None:
        self._run(lambda: self._core.operate(request), timeout)

    def _run(
        self,
        make: Callable[[], Awaitable[Result]],
        timeout: float | None = None,
        late: str = "there was no answer within {:g} s",
    ) -> Result:
        try:
            if timeout is None:
                return self._thread.run(make)
            check_seconds("timeout", timeout)
            return self._thread.run(lambda: run_within(make(), timeout))
        except asyncio.TimeoutError:
            if timeout is None:
                raise
            raise TimeoutError(late.format(timeout)) from None
        except ThreadEndedError:
            raise RoomClosedError("the room is closed (call connect_sync again)") from None


class _Receipt:
    """An event on its way from the thread of the loop to another one, which may be interrupted."""

    def __init__(self, core: RoomCore, timeout: float | None) -> None:
        self._core = core
        self._timeout = timeout
        self._position: Cursor | None = None
        self._item: Item | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_abandoned = False

    @property
    def event(self) -> Event:
        """The event that was taken."""
        if self._item is None:
            raise AssertionError
        return self._item.event

    async def take(self) -> None:
        """Wait for the next event, and keep it."""
        if self._is_abandoned:  # Ctrl+C came before this has begun
            return
        self._task = asyncio.current_task()
        self._position = position = self._core.inbox.position
        self._item = await run_within(
            self._core.receive(),
            self._timeout,
            discard=lambda item: self._core.put_back(item, position),
        )

    def abandon(self) -> None:
        """Wait no longer, and put the event back if there is one. In the thread of the loop."""
        self._is_abandoned = True
        if self._task is not None:
            self._task.cancel()
        if self._item is not None:
            self._core.put_back(self._item, self._position)
            self._item = None
