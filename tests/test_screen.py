"""The screen: colours, times, and what an event looks like."""

from __future__ import annotations

import re

import pytest

from broadcast_server.protocol import (
    Error,
    Event,
    Head,
    Hidden,
    Joined,
    Message,
    Renamed,
    Welcome,
)
from broadcast_server.screen import clock, colour, lines, mentioned


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
        (Message(1, "bob", "/me waves", AT), ["TIME • bob: waves"]),
        (
            Message(1, "alice", "/me waves\n/me x", AT),
            ["TIME • alice: waves", "TIME > alice: /me x"],
        ),
        (Message(1, "bob", "/mew", AT), ["TIME   bob: /mew"]),
        (Joined("carol", 3), ["TIME   carol joined the chat"]),
        (Renamed("bob", "robert"), ["TIME   bob is now robert"]),
        (Renamed("al", "alice"), ["-- you are alice --"]),
        (Error("too_long", "message is 5012 bytes"), ["TIME   * message is 5012 bytes"]),
        (Head(3), []),
        (Hidden(3), []),
        (
            Welcome("ops", "alice", "e", 7, True, 0, 102, ("alice", "bob"), ("bob",)),
            [
                "-- you are alice in ops, 102 here: alice, bob and 100 more (verified: bob) --",
            ],
        ),
        (WELCOME, ["-- you are alice in ops, 2 here: alice, bob --"]),
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


def test_nobody_can_forge_a_line_of_the_server() -> None:
    """What a member does has a mark and a colon, which no line of the server's has."""
    (act,) = texts(Message(1, "bob", "/me joined the chat", AT))
    (came,) = texts(Joined("bob", 2))
    assert act == "TIME • bob: joined the chat" and came == "TIME   bob joined the chat"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("alice?", ["alice"]),
        ("@Alice and ALICE", ["Alice", "ALICE"]),
        ("malice, alices, alice-2", []),
        ("alice- no", ["alice"]),
        ("", []),
    ],
)
def test_a_mention_stands_out(text: str, found: list[str]) -> None:
    """One's own name is set off where others say it, as a word."""
    (line,) = lines(Message(1, "bob", text, AT), "alice", again=False)
    assert [part for style, part in line if style == "class:mention"] == found
    assert mentioned(Message(1, "bob", text, AT), "alice") is bool(found)
    (line,) = lines(Message(1, "alice", text, AT), "alice", again=False)
    assert not any(style == "class:mention" for style, _ in line)
    assert not mentioned(Message(1, "alice", text, AT), "alice")


def test_colours_are_stable_and_differ() -> None:
    """A name's colour depends on the name alone, and many names have many colours."""
    assert colour("Ann") == colour("ann")
    assert len({colour(str(number)) for number in range(100)}) >= 8


def test_a_clock_that_cannot_be_read() -> None:
    """A time from the network that is none is shown as none."""
    for at in ("yesterday", "9999-99-99T00:00:00Z", "0001-01-01T00:00:00+23:59"):
        assert clock(at) == "--:--:--"
    assert re.fullmatch(r"\d\d:\d\d:\d\d", clock("2026-11-24T13:00:00.123Z"))
