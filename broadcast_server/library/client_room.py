"""The client room: a room as an asyncio program sees it that has joined it by `connect`."""

from __future__ import annotations

from collections.abc import AsyncIterator

from broadcast_server.protocol.operators import OperatorRequest

from .argument import hide_request
from .events import Event, Message, PrivateMessage
from .room_core import RoomCore, UntilClosed


class ClientRoom:
    """A room that `connect` has joined: receive by iterating over it, and send.

    The client reconnects by itself, with the guarantees of docs/reliability.md: after a broken
    connection the messages continue where they were, without loss, repetition or change of order,
    and what was not confirmed is sent again. Where the server's log does not reach back far enough,
    `events` has a `Gap`.

    One task at a time may wait for messages or events; any number of tasks may send. The room
    belongs to the event loop in which it was joined: in another one, its methods raise
    `RuntimeError`.

    At most 4,096 events, or 1 Mi characters in them, and one frame of the server wait in
    memory for your program. If it is slower, the client first stops to read, for up to 10 seconds.
    Then it reads on and drops what it reads, so that it remains a member, can send, and needs no
    more memory. Once your program has taken nearly all that waits, the client reads what it has
    dropped from the server's log: no message is lost as long as the log reaches back to it. Joins,
    leaves and renames are not in the log; a `Members` event stands where some of them are missing.
    """

    def __init__(self, core: RoomCore) -> None:
        self._core = core

    def __del__(self) -> None:
        """Leave the room if the program has forgotten to, with a ResourceWarning."""
        self._core.abandon()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._core}>"

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
        """The names of all members as of now, yours included.

        In a room with more than 1,000 members, the first 1,000 and those that joined later.
        """
        return self._core.inbox.members.names

    @property
    def member_count(self) -> int:
        """How many members are in the room."""
        return self._core.inbox.members.count

    @property
    def cursor(self) -> str:
        """The position in the room after the message that you received last.

        Store it when you have handled that message. `connect(..., cursor=...)` continues there,
        also in another process: no message is lost or repeated.
        """
        return str(self._core.inbox.position)

    @property
    def connected(self) -> bool:
        """Whether there is a connection at the moment."""
        return self._core.session.is_welcomed

    async def receive(self) -> Message:
        """Wait for the next message, and return it.

        A cancellation loses no message.

        Raises:
            DisconnectedError: The server has ended this client for good.
            RoomClosedError: The room was closed.

        """
        while True:
            event = await self.receive_event()
            if isinstance(event, Message):
                return event

    async def receive_event(self) -> Event:
        """Wait for the next event of any kind, and return it. It raises what `receive` raises."""
        return (await self._core.receive()).event

    def __aiter__(self) -> AsyncIterator[Message]:
        """Iterate over the messages, until the room is closed. Raises DisconnectedError."""
        return UntilClosed(self.receive)

    def events(self) -> AsyncIterator[Event]:
        """Iterate over all events, until the room is closed. Raises DisconnectedError."""
        return UntilClosed(self.receive_event)

    async def send(self, text: str) -> Message:
        """Publish *text*, wait until the room has it, and return the message with its number.

        While there is no connection, this waits for the next one. A cancellation withdraws the
        message: it is not sent any more, but it is published if it was sent before.

        Raises:
            MessageTooLongError: The message is longer than the server allows.
            RejectedError: The server has rejected the message for another reason.
            DisconnectedError: The server has ended this client for good.
            RoomClosedError: The room was closed meanwhile.

        """
        return await self._core.send(text)

    async def send_private(self, to: str, text: str) -> PrivateMessage:
        """Send *text* to the member *to* alone, and return the message when it was handed over.

        It is sent once, on this connection. It is in no log, and nobody else gets it. The server
        has written it to the connection of the other; whether the other reads it is not known.

        Raises:
            MessageTooLongError: The message is longer than the server allows.
            RejectedError: It was not handed over: there is no connection (`not_connected`), nobody
                has that name (`not_here`), or the connection of the other takes nothing at the
                moment (`not_delivered`). With `not_confirmed` it may have been handed over or not.
            DisconnectedError: The server has ended this client for good.
            RoomClosedError: The room was closed meanwhile.

        """
        return await self._core.send_private(to, text)

    async def rename(self, name: str) -> str:
        """Ask for another name, and return the name that the room gives you: `bob`, or `bob-2`.

        Raises:
            RejectedError: The name is invalid, or is that of an account.
            DisconnectedError: The server has ended this client for good.
            RoomClosedError: The room was closed meanwhile.

        """
        return await self._core.rename(name)

    async def kick(self, name: str) -> None:
        """Close the connection of the member *name*, who must stay out for 10 minutes.

        This and what follows is for operators: pass `operator_key` to connect. Everyone in the room
        is told of it. If the connection breaks before the answer, it is asked for again.

        Raises:
            RejectedError: Nobody has that name (`not_here`), it is that of an operator
                (`is_operator`), or you are none (`not_operator`).
            DisconnectedError: The server has ended this client for good.
            RoomClosedError: The room was closed meanwhile.

        """
        await self._core.operate(OperatorRequest("kick", name))

    async def mute(self, name: str, on: bool = True) -> None:
        """Let the messages of the member *name* be rejected, or no more. Raises as `kick` does."""
        await self._core.operate(OperatorRequest("mute", name, on))

    async def lock(self, on: bool = True) -> None:
        """Let nobody join the room any more, or everyone again. Raises as `kick` does."""
        await self._core.operate(OperatorRequest("lock", on=on))

    async def announce(self, on: bool = True) -> None:
        """Let only operators write, or everyone again. Raises as `kick` does."""
        await self._core.operate(OperatorRequest("announce", on=on))

    async def set_topic(self, text: str) -> None:
        """Set the topic of the room; an empty one removes it. Raises as `kick` does."""
        await self._core.operate(OperatorRequest("topic", text=text))

    async def set_slow_mode(self, seconds: int) -> None:
        """Let each publish one message in *seconds*; 0 is no limit. Raises as `kick` does."""
        await self._core.operate(OperatorRequest("slow", seconds=seconds))

    async def ban(self, name: str, reason: str = "") -> None:
        """Ban *name* from the room for a day; it is told the *reason*.

        Only the Django deployment has bans. Raises as `kick` does, with `no_bans` elsewhere.
        """
        await self._core.operate(OperatorRequest("ban", name, text=reason))

    async def hide(self, what: int | str) -> None:
        """Hide message number *what*, or what the author *what* has published lately.

        Raises as `kick` does, with `not_here` if there is no such message.
        """
        await self._core.operate(hide_request(what))

    async def close(self) -> None:
        """Leave the room. Whoever waits for a message or an answer gets a `RoomClosedError`.

        It takes at most about a second. The name is free for others then.
        """
        await self._core.close()
