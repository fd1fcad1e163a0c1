"""What operators do, as lines, and which topics are valid."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcast_server.protocol.codec import decode_event, decode_json, encode_json, encode_text
from broadcast_server.protocol.messages import Error, Welcome
from broadcast_server.protocol.operators import (
    ACTS,
    MAX_TOPIC_CHARS,
    OperatorEvent,
    OperatorRequest,
    validate_topic,
)

# Each event, its JSON line and its text line: the table of docs/protocol.md.
LINES = [
    (
        OperatorEvent("kick", "alice", "bob", id="k"),
        '{"type":"kicked","name":"bob","by":"alice","id":"k"}',
        "* alice kicked bob",
    ),
    (
        OperatorEvent("mute", "alice", "bob"),
        '{"type":"muted","name":"bob","on":true,"by":"alice"}',
        "* alice muted bob",
    ),
    (
        OperatorEvent("mute", "alice", "bob", on=False),
        '{"type":"muted","name":"bob","on":false,"by":"alice"}',
        "* alice unmuted bob",
    ),
    (
        OperatorEvent("lock", "alice"),
        '{"type":"locked","on":true,"by":"alice"}',
        "* alice locked the room",
    ),
    (
        OperatorEvent("lock", "alice", on=False),
        '{"type":"locked","on":false,"by":"alice"}',
        "* alice unlocked the room",
    ),
    (
        OperatorEvent("announce", "alice"),
        '{"type":"announce","on":true,"by":"alice"}',
        "* alice turned announce mode on, so only operators write",
    ),
    (
        OperatorEvent("announce", "alice", on=False),
        '{"type":"announce","on":false,"by":"alice"}',
        "* alice turned announce mode off",
    ),
    (
        OperatorEvent("topic", "alice", text="tea"),
        '{"type":"topic","text":"tea","by":"alice"}',
        "* alice set the topic: tea",
    ),
    (
        OperatorEvent("topic", "alice"),
        '{"type":"topic","text":"","by":"alice"}',
        "* alice removed the topic",
    ),
    (
        OperatorEvent("slow", "alice", seconds=30, id="s"),
        '{"type":"slow","seconds":30,"by":"alice","id":"s"}',
        "* alice turned slow mode on: one message in 30 s",
    ),
    (
        OperatorEvent("ban", "alice", "bob"),
        '{"type":"banned","name":"bob","by":"alice"}',
        "* alice banned bob",
    ),
    (
        OperatorEvent("hide", "alice", "bob", messages=3),
        '{"type":"hid","name":"bob","messages":3,"by":"alice"}',
        "* alice hid 3 messages of bob",
    ),
    (
        OperatorEvent("hide", "alice", "bob", seq=7, messages=1),
        '{"type":"hid","name":"bob","seq":7,"messages":1,"by":"alice"}',
        "* alice hid a message of bob",
    ),
    (
        OperatorEvent("slow", "alice"),
        '{"type":"slow","seconds":0,"by":"alice"}',
        "* alice turned slow mode off",
    ),
]


@pytest.mark.parametrize(("event", "line", "text"), LINES)
def test_an_act_is_written_in_both_formats(event: OperatorEvent, line: str, text: str) -> None:
    """Each event has the lines that the protocol specifies, and JSON is read back unchanged."""
    assert encode_json(event) == line
    assert encode_text(event) == text
    assert decode_event(line) == event


def test_a_welcome_says_what_operators_have_set() -> None:
    """The fields about operators are in a welcome only if they are true."""
    plain = Welcome("lobby", "alice", "e", 0, True, 0, 1, ("alice",))
    modes = {"operator": True, "topic": "tea", "locked": True, "announce": True, "muted": True}
    modes["slow"] = 30
    assert not modes.keys() & json.loads(encode_json(plain)).keys()
    line = json.dumps({**json.loads(encode_json(plain)), **modes})
    welcome = decode_event(line)
    assert welcome == Welcome(
        "lobby", "alice", "e", 0, True, 0, 1, ("alice",), None, True, "tea", True, True, True, 30
    )
    assert json.loads(encode_json(welcome)) == json.loads(line)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("seq", [0, 7])
def test_a_request_is_read_back_unchanged(act: str, seq: int) -> None:
    """What a client writes is what a server reads, with the fields of the act only.

    With the number of a message, the name of its author is not one of them.
    """
    request = OperatorRequest(act, "bob", True, "tea", "x", 30, seq)
    fields = {each: getattr(request, each) for each in ACTS[act].requested}
    if seq and "seq" in fields:
        del fields["name"]
    assert list(decode_json(encode_json(request), 100)) == [OperatorRequest(act, **fields, id="x")]
    written = {"type", "id", *fields} - ({"seq"} if not seq else set())
    assert set(json.loads(encode_json(request))) == written


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ('{"type":"kick","name":["bob"]}', "bad_name"),
        ('{"type":"mute","name":"\\ud800"}', "bad_name"),
        ('{"type":"mute","name":"bob","on":1}', "bad_on"),
        ('{"type":"lock","on":null}', "bad_on"),
        ('{"type":"topic"}', "bad_text"),
        ('{"type":"topic","text":"\\udfff"}', "bad_text"),
    ],
)
def test_invalid_requests(line: str, code: str) -> None:
    """A field of the wrong type is an error, and so is half a surrogate pair."""
    (error,) = decode_json(line, 100)
    assert isinstance(error, Error) and error.code == code


@pytest.mark.parametrize(
    "line",
    [
        '{"type":"kicked","by":"alice"}',
        '{"type":"kicked","name":"","by":"alice"}',
        '{"type":"kicked","name":"bob"}',
        '{"type":"muted","name":"bob","on":1,"by":"alice"}',
        '{"type":"locked","by":"alice"}',
        '{"type":"announce","on":"true","by":"alice"}',
        '{"type":"topic","text":null,"by":"alice"}',
        '{"type":"topic","text":"tea","by":"alice","id":7}',
    ],
)
def test_invalid_events(line: str) -> None:
    """An event with a missing or invalid field comes from no server of this protocol."""
    with pytest.raises(ValueError, match="missing or invalid"):
        decode_event(line)


@given(st.text())
def test_a_topic_is_one_safe_line(text: str) -> None:
    """Whatever is set, a topic is one line, and it is the same if it is set again."""
    topic = validate_topic(text[:MAX_TOPIC_CHARS])
    assert len(topic.splitlines()) <= 1 and topic == topic.strip()
    assert validate_topic(topic) == topic
    line = encode_text(OperatorEvent("topic", "alice", text=topic))
    assert line is not None and line.isprintable() == topic.isprintable()
    assert not set(topic) & set("\x00\x1b\x9b\u202e\u2066\ufeff\u2028\t\r\n")


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        ("  tea \r\n at\tfive ", "tea at five"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07tea", "tea"),
        ("a\u202eb\u2066c", "abc"),
        ("e\u0301", "\u00e9"),
        ("\u2028", ""),
        ("x" * MAX_TOPIC_CHARS, "x" * MAX_TOPIC_CHARS),
    ],
)
def test_what_becomes_of_a_topic(text: str, topic: str) -> None:
    """White space is joined, and what a terminal would obey is removed."""
    assert validate_topic(text) == topic


@pytest.mark.parametrize("text", ["x" * (MAX_TOPIC_CHARS + 1), "e\u0301" * 100_000])
def test_a_topic_that_is_too_long(text: str) -> None:
    """A topic over the limit is an error with its length, however long it is."""
    with pytest.raises(ValueError, match=f"topic is {len(text)} characters, limit is 200"):
        validate_topic(text)


def test_the_text_of_an_act_is_safe_to_print() -> None:
    """A client prints what a server says even if that is no server of ours."""
    event = OperatorEvent("topic", "ali\x07ce", text="a\nb\x1b[2J\u202e")
    assert encode_text(event) == "* alice set the topic: ab"
