"""The chat: everything about a person in the terminal that does not depend on the screen.

`ChatUI` carries out typed lines (see `commands`), shows events, and switches rooms: each room
has a `ReconnectingClient` of its own, and one of them is connected at a time. Its subclasses
read the input and print the output: `prompt.PromptUI` with a prompt that stays in place,
`plain.PlainUI` as plain lines.
"""

from __future__ import annotations

import asyncio

from broadcast_server.client.client import ClientError, ReconnectingClient
from broadcast_server.client.report_texts import left_early_text
from broadcast_server.client.session import ClientSession
from broadcast_server.console.signals import handle_signals
from broadcast_server.console.streams import note
from broadcast_server.protocol.messages import (
    Event,
    MembersRequest,
    Message,
    PrivateMessage,
    Renamed,
    Welcome,
)
from broadcast_server.protocol.sanitize import strip_control, strip_keys

from .commands import TypedCommand, help_lines, parse_command, split_recipient
from .crowd import Crowd, group_crowds
from .hidden_events import HiddenEvents
from .known_names import KnownNames
from .render import Line, dim, is_mention, local_day, today
from .room_view import RoomView, welcome_notices
from .saver import Saver
from .screen import Screen
from .status_line import Status
from .typed_texts import TypedTexts, why_not_sent

CONFIRM_TIMEOUT_S = 1.0
"""Seconds to wait for the server to confirm unconfirmed messages when the user leaves a room."""

MAX_LEFT_ROOMS = 50
"""Left rooms without unsent messages that are remembered; the oldest are forgotten first."""

BELL_INTERVAL_S = 2.0
"""Minimum number of seconds between two bells."""


class ChatUI(Screen):
    """A person's view of the rooms: base class of the two terminal interfaces."""

    def __init__(self, client: ReconnectingClient, *, bell: bool) -> None:
        self.client = client
        """The client of the current room, which typed messages go to."""
        self.interrupted = False
        # After /room this is the client of the room being left, until its connection is closed.
        self._connected_client = client
        self._left_sessions: dict[str, ClientSession] = {}  # by room, the latest one last
        self._previous_room: str | None = None  # to return to if the new room cannot be joined
        self._leaving_tasks: set[asyncio.Future[None]] = set()
        self._bell = bell
        self._next_bell = 0.0  # no bell before this time of the loop's clock
        self._welcomed = self._greeted = False  # whether this room, or any, has sent a welcome
        self._disconnected = True  # as last shown to the user
        self._live = False  # as last shown in the status line
        self._members_requested = False  # /who waits for the connection
        self._show_again_count = 0  # messages that /history asked for and that are not shown yet
        self._view = RoomView()
        self._day = today()  # of the last message shown
        self._hidden = HiddenEvents()
        self._names, self._saver = KnownNames(), Saver()
        self._reply_to = ""  # who has sent the last private message
        self._typed_texts, self._typed_line = TypedTexts(), ""  # the line that is carried out

    def _track(self, event: Event) -> None:
        """Update what the status line shows, the known names, and to whom /r answers."""
        self._names.apply(event)
        self._view.apply(event)
        match event:
            case PrivateMessage(name=name, id=None) if event not in self._hidden:
                self._reply_to = name
            case Renamed(name=self._reply_to, to=to):
                self._reply_to = to

    # -- called by the client --

    def show(self, events: list[Event]) -> None:
        """Print *events*, and ring the bell for a mention that is not part of a replay."""
        me = self._connected_client.session.name
        for event in events:
            self._track(event)
        returned = [line for event in events if (line := self._typed_texts.settle(event))]
        events = [event for event in events if event not in self._hidden]
        lines: list[Line] = []
        for item in group_crowds(events):
            if isinstance(item, Crowd):
                lines.append(self._notice_line(str(item)))
            else:
                lines += self._render_event(item, me)
        self._print(lines)
        for line in returned:
            self._put_back(line)
        if self._bell and self._live and any(is_mention(event, me) for event in events):
            self._ring_once()
        if self._live is not self._connected_client.session.live:
            self._live = self._connected_client.session.live
            self._status_changed()
        self._request_members()

    def note(self, text: str) -> None:
        """Print why the connection was lost, and how many messages wait to be sent."""
        self._disconnected, self._live = True, False
        for name in self._connected_client.session.private.take_lost():
            self.show_notice(strip_control(f"{name} may not have got your private message"))
        unsent = len(self._connected_client.session)
        waiting = f"; {_messages(unsent)} waiting to be sent" if unsent else ""
        self.show_notice(f"{strip_control(text)}{waiting}")

    async def drain(self) -> None:
        """Give the event loop a chance to handle keys between two prints."""
        await asyncio.sleep(0)

    @property
    def status(self) -> Status:
        """What the status line shows."""
        session = self.client.session
        return Status(
            room=strip_control(session.room),
            name=strip_control(session.name),
            count=self._view.count,
            topic=self._view.topic,
            mode=self._view.mode,
            connected=session.is_welcomed and self.client is self._connected_client,
            unsent=len(session),
        )

    def _render_message(self, message: Message | PrivateMessage, me: str) -> list[Line]:
        lines = self._render(message, me, again=False)
        day = local_day(message.at)
        if day and day != self._day:
            self._day = day
            return [self._notice_line(day), *lines]
        return lines

    def _render_event(self, event: Event, me: str) -> list[Line]:
        if isinstance(event, Message | PrivateMessage):
            return self._render_message(event, me)
        if not isinstance(event, Welcome):
            return self._render(event, me, again=False)
        self._disconnected = False
        if self._show_again_count and event.recovered:
            # How many follow is not known: the room may have fewer, and hidden ones are left out.
            self.show_notice(f"replaying up to {_messages(self._show_again_count)}")
            self._show_again_count = 0
            return []
        lines = self._render(event, me, again=self._welcomed)
        asked = None if self._welcomed else self._connected_client.session.requested_name
        lines += map(self._notice_line, welcome_notices(event, asked))
        self._show_again_count, self._welcomed = 0, True
        if not self._greeted:
            self._greeted = True
            lines += self._greeting()
        return lines

    def _ring_once(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._next_bell:
            self._next_bell = now + BELL_INTERVAL_S
            self._ring_bell()

    # -- from start to end --

    async def run(self) -> int:
        """Take part until the user leaves, and return the exit code."""
        reading = asyncio.ensure_future(self._read_all())
        failure = ""
        with handle_signals(self.interrupt):
            try:
                self.show_notice("connecting")
                await self._visit_rooms()
            except ClientError as error:
                failure = str(error)
            except OSError:  # the terminal went away
                pass
            for task in (reading, *self._leaving_tasks):
                task.cancel()
            await asyncio.wait({reading, *self._leaving_tasks})
        unconfirmed = sum(map(len, {self.client.session, *self._left_sessions.values()}))
        if not failure and unconfirmed:
            failure = left_early_text(unconfirmed)
        if failure:
            note(failure)
        return 1 if failure or (self.interrupted and not self._greeted) else 0

    async def _visit_rooms(self) -> None:
        """Join one room after another, until the user leaves without choosing another."""
        while True:
            client = self._connected_client = self.client
            self._welcomed = False
            try:
                await client.run(self)
            except ClientError as error:
                if client is self.client:
                    if self._welcomed or self._previous_room is None:
                        raise
                    self.show_notice(
                        f"could not join {client.session.room}: {strip_control(str(error))}"
                    )
                    self._switch_room(self._previous_room, at_once=True)
                    self._previous_room = None  # if that room cannot be joined either, give up
            if client is self.client:
                return

    async def _read_all(self) -> None:
        await self._read_input()
        if not (self.interrupted or self._disconnected):
            await _wait_confirmed(self.client)
        self.leave()

    def leave(self) -> None:
        """Make `run` return."""
        self.client.leave()
        self._connected_client.leave()

    def interrupt(self) -> None:
        """Leave at once, without waiting for confirmations."""
        self.interrupted = True
        self.leave()

    # -- typed lines --

    def handle_line(self, text: str) -> None:
        """Send *text*, or carry out the command in it."""
        self._typed_line = text
        try:
            self._carry_out(parse_command(strip_keys(text)))
        except ValueError as error:
            self.show_notice(strip_control(str(error)))

    def _carry_out(self, command: TypedCommand | None) -> None:
        match command:
            case TypedCommand("say", message):
                self._send(message)
            case TypedCommand("quit"):
                self._stop_reading()
            case TypedCommand("who"):
                self._members_requested = True
                self._request_members()
                self._notice_if_disconnected("the list will be requested")
            case TypedCommand("name", name):
                self.client.rename(name)
                self._notice_if_disconnected("the name will be requested")
            case TypedCommand("room", room):
                self._switch_room(room)
            case TypedCommand("history", count):
                self._show_again_count = int(count)
                self.client.show_again(int(count))
                self._notice_if_disconnected("the history will be shown")
            case TypedCommand("save", name):
                self._saver.save(self.client, name, self.show_notice)
            case TypedCommand("quiet"):
                self.show_notice(self._hidden.toggle_moves())
            case TypedCommand("ignore", name):
                self.show_notice(self._hidden.toggle_name(name))
            case TypedCommand("msg", rest):
                self._send_private(*split_recipient(rest, self._names.all))
            case TypedCommand("r", message):
                self._reply(message)
            case TypedCommand("clear"):
                self._clear()
            case TypedCommand("help"):
                self._print([dim(f"   {line}") for line in help_lines()])
            case TypedCommand():
                self._operate(command)

    def _operate(self, command: TypedCommand) -> None:
        """Ask for what an operator or a reporter types. It is not kept for the next connection."""
        is_live = self.client.session.live
        request = self._view.request(command, is_live=is_live, names=self._names.all)
        if isinstance(request, str):
            self.show_notice(request)
        else:
            self.client.operate(request)

    @property
    def reply_to(self) -> str:
        """The member that has sent the last private message, empty if there was none."""
        return strip_control(self._reply_to)

    def _reply(self, text: str) -> None:
        if not self._reply_to:
            raise ValueError("nobody has sent you a private message: type /msg NAME TEXT")
        self._send_private(self._reply_to, text)

    def _send_private(self, to: str, text: str) -> None:
        if too_long := why_not_sent(self.client.session, text):
            self._reject(f"not sent: {too_long}")
        elif (id := self.client.send_private(to, text)) is None:
            reason = "others have no answer yet" if self._live else "not connected"
            self._reject(f"not sent, try again: {reason}")
        else:
            self._typed_texts.add(id, self._typed_line)

    def _reject(self, notice: str) -> None:
        """Do not send what was typed, and say why."""
        self.show_notice(notice)
        self._put_back(self._typed_line)

    def _send(self, text: str) -> str | None:
        """Send *text*. Return the id of the message, None if it was not sent."""
        session = self.client.session
        if too_long := why_not_sent(session, text):
            self._reject(f"not sent: {too_long}")
            return None
        if session.full:
            self._reject(f"not sent: {len(session)} messages are waiting to be sent already")
            return None
        id = self.client.send(text)
        self._typed_texts.add(id, self._typed_line)
        self._notice_if_disconnected("the message will be sent")
        return id

    def _notice_if_disconnected(self, consequence: str) -> None:
        if self._disconnected:
            self.show_notice(f"not connected: {consequence} once connected")

    def _request_members(self) -> None:
        """Request the list of members for /who, as soon as the connection is live."""
        if self._members_requested and self.client.session.live:
            self._members_requested = False
            self.client.request(MembersRequest())

    def _switch_room(self, room: str, *, at_once: bool = False) -> None:
        """Switch to *room*. Unsent messages of this room stay in its session until we return."""
        old_client = self.client
        old = old_client.session
        if room == old.room:
            self.show_notice(f"you are already in {room}")
            return
        new = self._left_sessions.pop(room, None)
        if new is None:
            new = old.in_room(room)
        new.adopt_name(old)
        self._left_sessions[old.room] = old
        idle = [left for left, session in self._left_sessions.items() if not len(session)]
        for left in idle[:-MAX_LEFT_ROOMS]:
            del self._left_sessions[left]
        self.client, self._previous_room = old_client.in_room(new), old.room
        self._show_again_count, self._members_requested = 0, False
        self._reply_to = ""  # a name is another person in another room
        self._names.clear()
        leaving = asyncio.ensure_future(self._leave_room(old_client, at_once))
        self._leaving_tasks.add(leaving)
        leaving.add_done_callback(self._leaving_tasks.discard)

    async def _leave_room(self, old: ReconnectingClient, at_once: bool) -> None:
        if not at_once:
            await _wait_confirmed(old)
        old.leave()
        if unsent := len(old.session):
            room = old.session.room
            self.show_notice(f"{_messages(unsent)} not sent in {room}: return there to send")

    @property
    def rooms(self) -> list[str]:
        """The rooms that were left, the latest one last."""
        return [*self._left_sessions]


async def _wait_confirmed(client: ReconnectingClient) -> None:
    """Wait until every message is confirmed, at most `CONFIRM_TIMEOUT_S`."""
    if len(client.session):
        confirmed = asyncio.ensure_future(client.wait_confirmed())
        await asyncio.wait({confirmed}, timeout=CONFIRM_TIMEOUT_S)
        confirmed.cancel()


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count} messages"
