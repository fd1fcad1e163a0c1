"""The screen: colours, times, and what an event looks like."""

from __future__ import annotations

import re

import pytest

from broadcast_server.protocol import Error, Event, Head, Hidden, Joined, Message, Welcome
from broadcast_server.screen import clock, colour, lines


def texts(event: Event, *, again: bool = False) -> list[str]:
    """Return what *event* looks like to alice, without styles and times."""
    found = ("".join(text for _, text in line) for line in lines(event, "alice", again=again))
    return [re.sub(r"^\d\d:\d\d:\d\d", "TIME", line) for line in found]


AT = "2026-11-24T13:00:00.123Z"
WELCOME = Welcome("ops", "alice", "e", 7, True, 0, 2, ("alice", "bob"))


@pytest.mark.parametrize(
    ("event", "wanted"),
    [
        (Message(1, "bob", "hi", AT), ["TIME   bob: hi"]),
        (Message(1, "alice", "hi", AT), ["TIME > alice: hi"]),
        (Message(1, "bob", "a\nb", AT), ["TIME   bob: a", "TIME   bob: b"]),
        (Message(1, "bob", "\x1b[2Jx\u202e\x07", AT), ["TIME   bob: x"]),
        (Joined("carol", 3), ["TIME   carol joined the chat"]),
        (Error("too_long", "message is 5012 bytes"), ["TIME   * message is 5012 bytes"]),
        (Head(3), []),
        (Hidden(3), []),
        (
            Welcome("ops", "alice", "e", 7, True, 0, 102, ("alice", "bob"), ("bob",)),
            [
                "-- you are alice in ops, 102 here: alice, bob and 100 more (verified: bob) --",
                "-- /help for help --",
            ],
        ),
        (WELCOME, ["-- you are alice in ops, 2 here: alice, bob --", "-- /help for help --"]),
    ],
)
def test_what_events_look_like(event: Event, wanted: list[str]) -> None:
    """Each event is whole lines, safe to print, with one's own messages marked."""
    assert texts(event) == wanted


def test_a_welcome_back() -> None:
    """Who comes back is told so, and what is missing, in its place."""
    missed = Welcome("ops", "alice", "e", 7, False, 3, 2, ("alice",))
    assert texts(WELCOME, again=True) == ["-- connected again, you are alice in ops --"]
    assert texts(missed, again=True)[1:] == ["-- 3 messages missed --"]


def test_colours_are_stable_and_differ() -> None:
    """A name's colour depends on the name alone, and many names have many colours."""
    assert colour("Ann") == colour("ann")
    assert len({colour(str(number)) for number in range(100)}) >= 8


def test_a_clock_that_cannot_be_read() -> None:
    """A time from the network that is none is shown as none."""
    for at in ("yesterday", "9999-99-99T00:00:00Z", "0001-01-01T00:00:00+23:59"):
        assert clock(at) == "--:--:--"
    assert re.fullmatch(r"\d\d:\d\d:\d\d", clock("2026-11-24T13:00:00.123Z"))
