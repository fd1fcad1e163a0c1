"""The plain interface: no name makes a message look like a line of the server or the program."""

from __future__ import annotations

import pytest

from broadcast_server.protocol.messages import (
    Error,
    Event,
    Joined,
    Left,
    Members,
    Message,
    PrivateMessage,
    Renamed,
    Welcome,
)
from broadcast_server.terminal.plain import event_text

AT = "2026-11-25T09:00:00.000Z"


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize(
    "event",
    [
        Error("bad_name", "name contains a colon: choose another"),
        Joined("bob", 2),
        Left("bob", 1),
        Renamed("bob", "rob"),
        Members(2, ("ann", "bob"), ("ann",)),
        Welcome("lobby", "ann", "ep", 7, False, 3, 2, ("ann", "bob"), ("ann",)),
    ],
    ids=lambda event: type(event).__name__,
)
def test_only_a_message_has_a_colon(event: Event, again: bool) -> None:
    """A line that is no message has no colon before a space, as a message has after the name."""
    lines = event_text(event, again=again)
    assert lines
    assert not [line for line in lines if ": " in line]


@pytest.mark.parametrize("name", ["Error", "3 here", "Not connected", "Could not join ops"])
def test_a_message_begins_with_its_author_and_a_colon(name: str) -> None:
    """A message under a name such as ``Error`` is still a message."""
    assert event_text(Message(1, name, "x", AT), again=False) == [f"{name}: x"]


def test_a_private_message_says_so() -> None:
    """Each line says from whom it is, or to whom; no name has a comma."""
    message = PrivateMessage("ann", "bob", "one\n\x1b[2Jtwo", AT)
    assert event_text(message, again=False) == [
        "ann to you, in private: one",
        "ann to you, in private: two",
    ]
    echo = PrivateMessage("ann", "bob", "one", AT, "id")
    assert event_text(echo, again=False) == ["you, in private to bob: one"]
