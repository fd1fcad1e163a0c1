"""A hostile server: whatever it sends, no client fails, and nothing but text is shown or stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadcast_server.client.session import ClientSession, GapError
from broadcast_server.pipe.cursor_file import CursorFile
from broadcast_server.pipe.exec_sink import event_variables
from broadcast_server.pipe.printer import _text_lines
from broadcast_server.protocol.codec import decode_event, encode_json
from broadcast_server.protocol.join import JoinRequest, parse_join
from broadcast_server.protocol.messages import Cursor, Event, Format, Message
from broadcast_server.protocol.sanitize import escape_control, strip_control
from broadcast_server.protocol.session_key import SessionKey
from broadcast_server.terminal.plain import event_text
from broadcast_server.terminal.render import is_mention, render_event

EVENTS: list[dict[str, Any]] = [
    {
        "type": "welcome",
        "room": "lobby",
        "name": "me",
        "epoch": "ep",
        "seq": 1,
        "recovered": True,
        "missed": 0,
        "count": 1,
        "members": ["me", "bob"],
        "verified": ["bob"],
    },
    {"type": "message", "seq": 2, "name": "bob", "text": "hi me", "at": "2026-11-24T13:00:00.123Z"},
    {"type": "hidden", "seq": 2, "id": "a7"},
    {"type": "joined", "name": "bob", "count": 2, "verified": True},
    {"type": "left", "name": "bob", "count": 1},
    {"type": "renamed", "name": "me", "to": "you", "verified": True},
    {"type": "error", "code": "empty", "text": "message is empty", "id": "a7"},
    {"type": "members", "count": 2, "members": ["me", "bob"], "verified": None},
    {"type": "pong", "id": "p1"},
    {"type": "head", "seq": 1},
]

VALID_LINES = [json.dumps(each) for each in EVENTS]

HALF = "\ud800"

TEXTS = st.one_of(
    st.text(),
    st.text(st.characters(codec=None), max_size=5),  # with halves of surrogate pairs
    st.sampled_from(
        [
            "",
            HALF + "x",
            "x" + HALF,
            "\x1b[2J\x1b]0;owned\x07",
            "\u202eabc me",
            "a b\nc",
            "../../etc",
            "bob: forged",
            "x\nbob: forged",
            "\u2028bob: forged",
            "\x9b31m",
            "me " * 50,
            "e" * 65,
            "0001-01-01T00:00:00Z",
            "9999-12-31T23:59:59+00:00",
        ]
    ),
)

NUMBERS = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([-1, 0, 2, 10**18 - 1, 10**18, 2**63, 10**4000, True, False, 1e308, 1.0]),
)

VALUES = st.recursive(
    st.one_of(st.none(), TEXTS, NUMBERS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@st.composite
def events(draw: st.DrawFn) -> str:
    """Return a line: mostly an event of which some fields have other values, or are missing."""
    event = dict(draw(st.sampled_from([*EVENTS[:2] * 4, *EVENTS])))
    for field in draw(st.lists(st.sampled_from(sorted(event)), max_size=2)):
        # Mostly of the right type: anything else is an error soon.
        same_type = TEXTS if isinstance(event[field], str) else NUMBERS
        event[field] = draw(st.one_of(same_type, same_type, same_type, VALUES))
    line = json.dumps(event)
    match draw(st.integers(0, 30)):
        case 0:
            return json.dumps(draw(VALUES))
        case 1:
            return line[:-1] + ',"seq":1e999}'  # a second value for a field
        case 2:
            return line[: draw(st.integers(0, len(line)))]
        case 3:
            return "[" * draw(st.integers(1, 50_000))
        case 4:
            return draw(st.text())
        case 5:
            event.popitem()
            return json.dumps(event)
    return line


def check_shown(texts: list[str]) -> None:
    """Assert that a terminal obeys nothing in *texts*, and that any stream can encode them."""
    for text in texts:
        assert strip_control(text) == text
        text.encode()


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.one_of(events(), events(), st.sampled_from(VALID_LINES)), max_size=8),
    st.sampled_from([None, Cursor("ep", 0), Cursor("ep", 10**18 - 1), Cursor("other", 7)]),
    st.sampled_from([0, 5, 10**9]),
)
def test_whatever_a_server_sends(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], since: Cursor | None, history: int
) -> None:
    """Any lines are shown without control characters, or are an error; the cursor can be read."""
    session = ClientSession("me", None, history, since)
    session.show_again(history)
    path = tmp_path_factory.getbasetemp() / "hostile-place"
    path.unlink(missing_ok=True)
    shown: list[Event] = []
    session.query()
    for line in lines:
        try:
            shown += session.receive(line)
        except (GapError, ValueError):
            session.connection_lost()
        join = parse_join(session.query(), Format.JSON, SessionKey())
        # The name is the last one that the server gave us, and up to it.
        assert isinstance(join, JoinRequest) or join.code == "bad_name"
    for event in shown:
        check_shown(
            [text for line in render_event(event, session.name, again=False) for _, text in line]
        )
        check_shown(event_text(event, again=False))
        check_shown(_text_lines(event))
        printed = escape_control(encode_json(event))
        printed.encode()
        assert json.loads(printed)["type"]
        is_mention(event, session.name)
        if isinstance(event, Message) and session.cursor is not None:
            for value in event_variables(event, session.room, session.cursor.epoch).values():
                assert "\0" not in value
    if session.cursor is not None:
        CursorFile(path).save(session.room, session.cursor)
        assert CursorFile(path).load(session.room) == (session.room, session.cursor)


@pytest.mark.parametrize(
    ("type", "field", "value"),
    [
        ("welcome", "epoch", HALF),
        ("welcome", "epoch", "a b\nc"),
        ("welcome", "epoch", "e" * 65),
        ("welcome", "epoch", ""),
        ("welcome", "room", "../../etc"),
        ("welcome", "room", HALF),
        ("welcome", "seq", 10**18),
        ("welcome", "seq", int("9" * 4000)),
        ("welcome", "seq", True),
        ("welcome", "seq", -1),
        ("welcome", "seq", 1.0),
        ("welcome", "missed", 10**18),
        ("welcome", "members", ["me", HALF]),
        ("welcome", "name", HALF),
        ("welcome", "name", "x" * 65),
        ("message", "name", HALF + "x"),
        ("message", "name", ""),
        ("message", "text", "x" + HALF),
        ("message", "at", HALF),
        ("message", "id", HALF),
        ("joined", "count", 10**18),
        ("renamed", "to", HALF),
        ("error", "text", HALF),
        ("members", "verified", [""]),
        ("pong", "id", HALF),
    ],
)
def test_invalid_fields(type: str, field: str, value: object) -> None:
    """A field of a known type with an invalid value makes the line invalid."""
    (event,) = (each for each in EVENTS if each["type"] == type)
    assert decode_event(json.dumps(event)) is not None
    with pytest.raises(ValueError, match=rf"{field} of {type} is missing or invalid"):
        decode_event(json.dumps({**event, field: value}))


@pytest.mark.parametrize("line", ['{"type":"head","seq":NaN}', '{"type":"x","y":Infinity}'])
def test_constants_that_are_not_json(line: str) -> None:
    """NaN and Infinity, which Python reads by default, are not JSON."""
    with pytest.raises(ValueError, match="is not JSON"):
        decode_event(line)


def test_more_missed_than_there_are() -> None:
    """A welcome cannot move the cursor beyond the messages that it reports."""
    session = ClientSession("me", None, since=Cursor("ep", 10**18 - 9))
    with pytest.raises(ValueError, match="more messages as missed than there are"):
        session.receive(json.dumps({**EVENTS[0], "recovered": False, "missed": 10**18 - 1}))
    assert session.cursor == Cursor("ep", 10**18 - 9)


def test_events_before_an_invalid_one_are_received_again() -> None:
    """If a frame has an invalid line, the cursor stays before the events that were not shown."""
    session = ClientSession("me", None, since=Cursor("ep", 1))
    session.receive(json.dumps(EVENTS[0]))
    message = json.dumps(EVENTS[1])
    with pytest.raises(ValueError, match="line is not an event"):
        session.receive(f"{message}\n7")
    assert session.cursor == Cursor("ep", 1)


def test_long_numbers_are_not_computed() -> None:
    """A number of a million digits is rejected by its length."""
    with pytest.raises(ValueError, match="seq of head"):
        decode_event('{"type":"head","seq":' + "9" * 10**6 + "}")


def test_the_file_of_a_hostile_server(tmp_path: Path) -> None:
    """What a session got from a server never makes a cursor file with anything but one line."""
    path = tmp_path / "place"
    session = ClientSession("me", None)
    for epoch in ("a b\nc", HALF, "../../x", "e p"):
        with pytest.raises(ValueError, match="epoch of welcome"):
            session.receive(json.dumps({**EVENTS[0], "epoch": epoch}))
        assert session.cursor is None
    session.receive(json.dumps(EVENTS[0]))
    assert session.cursor is not None
    CursorFile(path).save(session.room, session.cursor)
    assert path.read_text() == "lobby ep.1\n"
