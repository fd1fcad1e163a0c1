"""Rendering at a terminal: colours, times, and the lines of each event."""

from __future__ import annotations

import re

import pytest

from broadcast_server.protocol.messages import (
    Error,
    Event,
    Heartbeat,
    Joined,
    Message,
    MessageHidden,
    Renamed,
    Welcome,
)
from broadcast_server.terminal.plain import event_text
from broadcast_server.terminal.render import colour, is_mention, local_time, render_event


def texts(event: Event, *, again: bool = False) -> list[str]:
    """Return the lines that show *event* to alice, without styles and times."""
    lines = (
        "".join(text for _, text in line) for line in render_event(event, "alice", again=again)
    )
    return [re.sub(r"^\d\d:\d\d:\d\d", "TIME", line) for line in lines]


AT = "2026-11-24T13:00:00.123Z"
WELCOME = Welcome("ops", "alice", "e", 7, True, 0, 2, ("alice", "bob"))


@pytest.mark.parametrize(
    ("event", "lines"),
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
        (Heartbeat(3), []),
        (MessageHidden(3), []),
        (
            Welcome("ops", "alice", "e", 7, True, 0, 102, ("alice", "bob"), ("bob",)),
            [
                "-- you are alice in ops, 102 here: alice, bob and 100 more (verified: bob) --",
            ],
        ),
        (WELCOME, ["-- you are alice in ops, 2 here: alice, bob --"]),
    ],
)
def test_lines_of_events(event: Event, lines: list[str]) -> None:
    """Each event is whole lines that are safe to print, with your own messages marked."""
    assert texts(event) == lines


def test_a_welcome_after_a_reconnect() -> None:
    """After a reconnect the welcome says so, and how many messages are missing."""
    missed = Welcome("ops", "alice", "e", 7, False, 3, 2, ("alice",))
    assert texts(WELCOME, again=True) == ["-- connected again, you are alice in ops --"]
    assert texts(missed, again=True)[1:] == ["-- 3 messages missed --"]


def test_a_newcomer_is_told_the_first_names() -> None:
    """A class of thirty is not listed by name, neither on the screen nor to a screen reader."""
    names = tuple(f"p{number}" for number in range(29))
    welcome = Welcome("lobby", "p28", "e", 0, True, 0, 29, names, verified=("p1", "p20"))
    present = "29 here: p0, p1, p2, p3, p4, p5, p6, p7, p8, p9 and 19 more (verified: p1)"
    assert texts(welcome) == [f"-- you are p28 in lobby, {present} --"]
    (plain,) = event_text(welcome, again=False)
    assert plain == f"Connected. You are p28 in lobby. {present}.".replace(": ", ", ")


def test_nobody_can_forge_a_line_of_the_server() -> None:
    """An action has a mark and a colon, so it cannot look like the line of a server's event."""
    (action,) = texts(Message(1, "bob", "/me joined the chat", AT))
    (joined,) = texts(Joined("bob", 2))
    assert action == "TIME • bob: joined the chat" and joined == "TIME   bob joined the chat"


@pytest.mark.parametrize(
    ("text", "mentions"),
    [
        ("alice?", ["alice"]),
        ("@Alice and ALICE", ["Alice", "ALICE"]),
        ("malice, alices, alice-2", []),
        ("alice- no", ["alice"]),
        ("", []),
    ],
)
def test_mentions_are_highlighted(text: str, mentions: list[str]) -> None:
    """Your name is highlighted where others write it as a word, and not in your own messages."""
    (line,) = render_event(Message(1, "bob", text, AT), "alice", again=False)
    assert [part for style, part in line if style == "class:mention"] == mentions
    assert is_mention(Message(1, "bob", text, AT), "alice") is bool(mentions)
    (line,) = render_event(Message(1, "alice", text, AT), "alice", again=False)
    assert not any(style == "class:mention" for style, _ in line)
    assert not is_mention(Message(1, "alice", text, AT), "alice")


def test_colours_are_stable_and_differ() -> None:
    """A name's colour depends on the name alone, and many names have many colours."""
    assert colour("Ann") == colour("ann")
    assert len({colour(str(number)) for number in range(100)}) >= 8


def test_invalid_times() -> None:
    """An invalid time from the network is shown as dashes."""
    for at in ("yesterday", "9999-99-99T00:00:00Z", "0001-01-01T00:00:00+23:59"):
        assert local_time(at) == "--:--:--"
    assert re.fullmatch(r"\d\d:\d\d:\d\d", local_time("2026-11-24T13:00:00.123Z"))
