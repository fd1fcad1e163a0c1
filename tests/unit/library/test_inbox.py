"""The inbox: what it keeps for a slow program, and from where it has the rest read again."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from broadcast_server import (
    Disconnected,
    Event,
    Gap,
    Members,
    Message,
    Notice,
    OperatorAct,
    PrivateMessage,
)
from broadcast_server.client.session import ClientSession
from broadcast_server.library import event_queue
from broadcast_server.library import inbox as inbox_module
from broadcast_server.library.event_queue import EventQueue, Item
from broadcast_server.library.inbox import Inbox
from broadcast_server.protocol import messages as wire
from broadcast_server.protocol.codec import encode_json

MANY = 16
"""Events that may wait in these tests; a program that left 2 of them has taken nearly all."""


@pytest.fixture(autouse=True)
def _little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_queue, "MAX_WAITING_EVENTS", MANY)


def welcome(seq: int = 0, missed: int = 0, names: tuple[str, ...] = ("bob",)) -> wire.Welcome:
    """Return the beginning of a connection to a room with *seq* messages."""
    return wire.Welcome("lobby", "bob", "ep", seq, missed == 0, missed, len(names), names)


class Client:
    """A session and its inbox, which receive what a test says."""

    def __init__(self) -> None:
        self.session = ClientSession("bob", None)
        self.inbox = Inbox(self.session)

    def receives(self, *events: wire.Event) -> None:
        """Receive *events* in one frame."""
        frame = "\n".join(map(encode_json, events))
        self.inbox.receive(self.session.receive(frame))

    def connects(self, event: wire.Welcome, *, asks: bool = True) -> None:
        """Begin a connection, and end its replay. It is asked for what the session wants by now."""
        self.session.connection_lost()
        if asks:
            self.session.query()
        self.receives(event)

    def replay_ends(self) -> None:
        """Receive the answer to the ping that follows a welcome."""
        frame = self.session.outgoing()
        assert frame is not None
        self.receives(wire.Pong(json.loads(frame.splitlines()[0])["id"]))

    def takes(self, count: int) -> list[int]:
        """Take *count* items, and return the numbers of the messages among them."""
        events = [self.inbox.take().event for _ in range(count)]
        return [event.seq for event in events if isinstance(event, Message)]


def said(seq: int, name: str = "ann") -> wire.Message:
    """Return message number *seq*."""
    return wire.Message(seq, name, str(seq), "2026-11-24T13:00:00.123Z", None)


def behind() -> Client:
    """Return a client whose inbox has dropped the messages 16 to 20."""
    client = Client()
    client.connects(welcome())
    client.replay_ends()
    for seq in range(1, 21):
        client.receives(said(seq))
    assert client.inbox.dropping and len(client.inbox) == MANY
    return client


def test_what_was_dropped_is_read_again_on_a_connection_that_was_asked_for_it() -> None:
    """No other welcome ends the dropping: what comes after it would be out of order."""
    client = behind()
    inbox = client.inbox
    assert client.takes(4) == [1, 2, 3]
    # The connection breaks, and the next one continues after number 20.
    client.connects(welcome(20))
    assert inbox.dropping
    client.replay_ends()
    client.receives(said(21))
    assert inbox.dropping and len(inbox) == MANY - 4
    assert inbox.read_on() is None  # it is not time for that
    assert client.takes(10) == [*range(4, 14)]
    position = inbox.read_on()
    assert position == wire.Cursor("ep", 15)
    assert inbox.read_on() is None  # it is said once
    client.session.rewind(position)
    # A connection that was opened before continues after number 21.
    client.connects(welcome(21), asks=False)
    client.receives(said(22))
    assert inbox.dropping and len(inbox) == 2
    # This one is asked for what follows number 15.
    client.connects(welcome(22))
    assert not inbox.dropping
    for seq in range(16, 23):
        client.receives(said(seq))
    client.replay_ends()
    assert client.takes(len(inbox)) == [*range(14, 23)]
    assert inbox.position == wire.Cursor("ep", 22)


def test_when_no_messages_were_dropped_nothing_is_read_again() -> None:
    """Joins are not in the log: a list of the members stands in the place of those dropped."""
    client = Client()
    client.connects(welcome())
    client.replay_ends()
    for number in range(30):
        client.receives(wire.Joined(f"m{number}", number + 2, None))
    assert client.inbox.dropping and len(client.inbox) == MANY
    client.takes(MANY - 3)
    assert client.inbox.read_on() is None and client.inbox.dropping
    client.takes(1)
    assert client.inbox.read_on() is None and not client.inbox.dropping
    client.takes(2)
    names = ("bob", *(f"m{number}" for number in range(30)))
    assert client.inbox.take().event == Members("lobby", names, 31)
    client.receives(said(1))
    assert client.takes(1) == [1]


def test_one_frame_is_not_divided() -> None:
    """A frame that begins when there is room is kept as a whole, and the next one is dropped."""
    client = Client()
    client.connects(welcome())
    client.replay_ends()
    for seq in range(1, MANY - 1):
        client.receives(said(seq))
    assert not client.inbox.full
    client.receives(said(MANY - 1), said(MANY), said(MANY + 1))
    assert client.inbox.full and not client.inbox.dropping
    assert len(client.inbox) == MANY + 2
    client.receives(said(MANY + 2))
    assert client.inbox.dropping and len(client.inbox) == MANY + 2


def test_the_position_is_after_what_was_taken() -> None:
    """Neither what waits moves it, nor an event that is not in the log."""
    client = Client()
    assert client.inbox.position is None
    client.connects(replace(welcome(7, missed=0), recovered=True))
    assert client.inbox.position == wire.Cursor("ep", 7)
    client.replay_ends()
    client.receives(said(8), wire.Joined("cid", 2, None), said(9))
    assert client.inbox.position == wire.Cursor("ep", 7)
    taken = [client.inbox.take() for _ in range(3)]  # the members, number 8, and the join
    assert client.inbox.position == wire.Cursor("ep", 8)
    client.inbox.put_back(taken[2], wire.Cursor("ep", 8))
    client.inbox.put_back(taken[1], wire.Cursor("ep", 7))
    assert client.inbox.position == wire.Cursor("ep", 7)
    assert client.takes(3) == [8, 9]


def test_a_hidden_message_moves_the_position_unless_it_is_older() -> None:
    """In a replay it stands for the message; later it may be about any message before."""
    client = Client()
    client.connects(welcome())
    client.replay_ends()
    client.receives(said(1), wire.MessageHidden(2), said(3), wire.MessageHidden(1))
    items = [client.inbox.take() for _ in range(len(client.inbox))][1:]
    assert [item.cursor and item.cursor.seq for item in items] == [1, 2, 3, None]


def test_missing_messages_come_before_the_members() -> None:
    """After a break, the gap is where the messages are missing, and its number is known."""
    client = Client()
    client.connects(welcome())
    client.replay_ends()
    client.receives(said(1))
    client.takes(2)
    client.connects(welcome(9, missed=5))
    events = [client.inbox.take().event for _ in range(2)]
    assert events == [Gap("lobby", 5), Members("lobby", ("bob",), 1)]
    assert client.inbox.position == wire.Cursor("ep", 6)


def test_own_messages_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read again is known as one's own, unless much has been sent since."""
    monkeypatch.setattr(inbox_module, "MAX_OWN_REMEMBERED", 3)
    client = Client()
    client.session.on_settled = lambda _, event: remember(client.inbox, event)
    client.connects(welcome())
    client.replay_ends()
    for seq in range(1, 6):
        client.receives(replace(said(seq, "bob"), id=client.session.send(str(seq))))
    client.session.rewind(wire.Cursor("ep", 0))
    client.connects(welcome(5))
    for seq in range(1, 6):
        client.receives(said(seq, "bob"))
    events = [client.inbox.take().event for _ in range(len(client.inbox))]
    own = [event.own for event in events if isinstance(event, Message)]
    assert own == [True] * 5 + [False] * 2 + [True] * 3


def remember(inbox: Inbox, event: wire.Event) -> None:
    """Do what a room does with the echo of a message."""
    assert isinstance(event, wire.Message)
    inbox.remember_own(event)


@pytest.mark.parametrize("limit", ["MAX_WAITING_EVENTS", "MAX_WAITING_CHARS"])
def test_the_bound_of_the_queue(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is full at the bound, not one before, and nearly empty at an eighth of it."""
    monkeypatch.setattr(event_queue, "MAX_WAITING_EVENTS", 1000)
    monkeypatch.setattr(event_queue, limit, MANY)
    queue = EventQueue()
    item = Item(Message("lobby", 1, "ann", "x", "", own=False, epoch="ep"))
    for count in range(MANY):
        assert (queue.full, queue.nearly_empty) == (False, count <= MANY // 8)
        queue.put(item)
    assert queue.full and not queue.nearly_empty
    assert queue.take() == item
    assert not queue.full
    queue.put_back(item)
    assert queue.full
    queue.clear()
    assert not queue.full and queue.nearly_empty and len(queue) == 0


LONG = "x" * 1000


@pytest.mark.parametrize(
    "event",
    [
        Message("lobby", 1, "bob", "", LONG, own=False, epoch="ep"),
        Message("lobby", 1, "bob", LONG, "", own=False, epoch="ep"),
        PrivateMessage("lobby", "bob", "ann", LONG, "", own=False),
        Members("lobby", ("x" * 500, "y" * 500), 2),
        OperatorAct("lobby", "topic", "bob", text=LONG),
        Notice("lobby", LONG, ""),
        Disconnected("lobby", LONG),
    ],
    ids=lambda event: type(event).__name__,
)
def test_every_field_counts(event: Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server can put its megabytes wherever a text is."""
    monkeypatch.setattr(event_queue, "MAX_WAITING_CHARS", 1000)
    queue = EventQueue()
    queue.put(Item(event))
    assert queue.full
    queue.take()
    assert not queue.full and queue.nearly_empty
