"""The codec: lines in all formats and both directions, and what becomes of hostile ones."""

import json
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broadcast_server.protocol.codec import (
    decode_event,
    decode_json,
    decode_text,
    encode_json,
    encode_sse,
    encode_text,
    plain_lines,
)
from broadcast_server.protocol.messages import (
    CloseCode,
    Error,
    Event,
    Heartbeat,
    Joined,
    Left,
    Members,
    MembersRequest,
    Message,
    MessageHidden,
    PingRequest,
    Pong,
    Renamed,
    RenameRequest,
    Request,
    SayRequest,
    Welcome,
    limit_text,
    validate_message,
)

AT = "2026-11-24T13:00:00.123Z"
WELCOME = Welcome("lobby", "alice", "e", 41, True, 0, 2, ("alice", "bob"))

# Each event, its JSON line and its text line: the table of docs/protocol.md.
LINES: list[tuple[Event, str, str | None]] = [
    (
        WELCOME,
        (
            '{"type":"welcome","room":"lobby","name":"alice","epoch":"e","seq":41,'
            '"recovered":true,"missed":0,"count":2,"members":["alice","bob"]}'
        ),
        None,
    ),
    (
        Message(42, "bob", "hi", AT, "x"),
        f'{{"type":"message","seq":42,"name":"bob","text":"hi","at":"{AT}","id":"x"}}',
        "bob: hi",
    ),
    (
        Message(42, "bob", "hi", AT),
        f'{{"type":"message","seq":42,"name":"bob","text":"hi","at":"{AT}"}}',
        "bob: hi",
    ),
    (Joined("carol", 3), '{"type":"joined","name":"carol","count":3}', "carol joined the chat"),
    (
        Renamed("alice", "alicia"),
        '{"type":"renamed","name":"alice","to":"alicia"}',
        "alice is now alicia",
    ),
    (
        Renamed("alice", "alice", True),
        '{"type":"renamed","name":"alice","to":"alice","verified":true}',
        "alice is now alice",
    ),
    (Left("carol", 2), '{"type":"left","name":"carol","count":2}', "carol left the chat"),
    (
        Joined("ci", 3, None, True),
        '{"type":"joined","name":"ci","count":3,"quiet":true}',
        None,
    ),
    (
        Joined("ci", 3, True, True),
        '{"type":"joined","name":"ci","count":3,"verified":true,"quiet":true}',
        None,
    ),
    (Left("ci", 2, True), '{"type":"left","name":"ci","count":2,"quiet":true}', None),
    (
        Error("too_long", "message is 5012 bytes, limit is 4096", "x"),
        '{"type":"error","code":"too_long","text":"message is 5012 bytes, limit is 4096","id":"x"}',
        "* message is 5012 bytes, limit is 4096",
    ),
    (
        Members(2, ("alice", "bob")),
        '{"type":"members","count":2,"members":["alice","bob"]}',
        "* 2 here: alice, bob",
    ),
    (
        Members(9, ("alice", "bob")),
        '{"type":"members","count":9,"members":["alice","bob"]}',
        "* 9 here: alice, bob and 7 more",
    ),
    (
        Members(3, ("alice", "bob"), ("bob",)),
        '{"type":"members","count":3,"members":["alice","bob"],"verified":["bob"]}',
        "* 3 here: alice, bob and 1 more (verified: bob)",
    ),
    (
        Joined("carol", 3, True),
        '{"type":"joined","name":"carol","count":3,"verified":true}',
        "carol joined the chat",
    ),
    (MessageHidden(42, "x"), '{"type":"hidden","seq":42,"id":"x"}', None),
    (MessageHidden(42), '{"type":"hidden","seq":42}', None),
    (Pong("x"), '{"type":"pong","id":"x"}', None),
    (Pong(), '{"type":"pong"}', None),
    (Heartbeat(42), '{"type":"head","seq":42}', None),
]


@pytest.mark.parametrize(("event", "line", "text"), LINES)
def test_an_event_is_written_in_both_formats(event: Event, line: str, text: str | None) -> None:
    """Each event has the lines that the protocol specifies, and JSON is read back unchanged."""
    assert encode_json(event) == line
    assert encode_text(event) == text
    assert decode_event(line) == event


def test_an_unknown_number_of_missed_messages_is_null() -> None:
    """In a welcome, an unknown number is null and not left out."""
    welcome = Welcome("lobby", "alice", "e", 41, False, None, 1, ())
    assert json.loads(encode_json(welcome))["missed"] is None
    assert decode_event(encode_json(welcome)) == welcome


@given(st.text(), st.text(), st.text(), st.none() | st.text())
def test_a_message_is_valid_json_on_one_line(name: str, text: str, at: str, id: str | None) -> None:
    """A message, which json.dumps does not write, is one line of JSON with the right fields."""
    message = Message(7, name, text, at, id)
    line = encode_json(message)
    assert "\n" not in line
    assert "\r" not in line
    expected: dict[str, Any] = {"type": "message", "seq": 7, "name": name, "text": text, "at": at}
    assert json.loads(line) == (expected if id is None else {**expected, "id": id})


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", *"\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"])
def test_a_message_cannot_forge_a_line(end: str) -> None:
    """After everything that a terminal takes for a line break, the author's name is repeated."""
    line = encode_text(Message(1, "bob", f"hi{end}root: hi{end}{end}* bye", AT))
    assert line == "bob: hi\nbob: root: hi\nbob: \nbob: * bye"


@given(st.text(), st.text(alphabet="\r\n\x0c\x85\u2028 a", max_size=9))
def test_every_line_of_a_message_begins_with_its_author(text: str, ends: str) -> None:
    """However a message is split into lines, there is at least one, and each has the name."""
    line = encode_text(Message(1, "bob", ends.join([text, text]), AT))
    assert line
    assert all(part.startswith("bob: ") for part in line.splitlines())


@pytest.mark.parametrize("char", [*map(chr, [*range(0x20), *range(0x7F, 0xA0)])])
def test_a_text_client_gets_no_control_character(char: str) -> None:
    """A control character in a message or an error is seen as one, or ends a line."""
    ends_line = len(f"a{char}b".splitlines()) > 1
    shown = " " if char == "\t" else "\ufffd"
    line = encode_text(Message(1, "eve", f"a{char}[2K{char}bob: hi", AT))
    between = "\neve: " if ends_line else shown
    assert line == f"eve: a{between}[2K{between}bob: hi"
    assert encode_text(Error("x", f"a{char}bob: hi")) == f"* a{' ' if ends_line else shown}bob: hi"


@pytest.mark.parametrize(
    "char", "\u061c\u200e\u200f\u202a\u202d\u202e\u2066\u2069\u206f\ufeff\ufffb"
)
def test_a_text_client_gets_nothing_that_reorders(char: str) -> None:
    """A bidirectional control could make the author's name of another, and is left out."""
    assert encode_text(Message(1, "eve", f"{char}a{char}", AT)) == "eve: a"
    assert encode_text(Error("banned", f"a{char}b")) == "* ab"


@pytest.mark.parametrize(
    "text",
    ["\U0001f469\u200d\u2764\ufe0f\u200d\U0001f469", "می\u200cخواهم", "a\u00a0b\u3000c", "", " "],
)
def test_a_text_client_gets_ordinary_text_as_it_is(text: str) -> None:
    """Joiners, selectors and spaces are kept."""
    assert encode_text(Message(1, "eve", text, AT)) == f"eve: {text}"


@given(st.text(), st.none() | st.text(min_size=1))
def test_json_has_nothing_that_a_terminal_obeys(text: str, id: str | None) -> None:
    """A line of JSON can be printed as it is, and means the same: controls are escaped."""
    characters = "\x00\x1b\x7f\x85\x9b\u2028\u202e\u2066\ufeff"
    for message in (
        Message(1, "eve", text + characters, AT, id),
        Message(1, "eve", "a", AT, "\x9b"),
        Message(1, "eve", "\x7f", AT),
        Message(1, "eve", "a", AT, "\x7f"),
    ):
        line = encode_json(message)
        assert not re.search(
            "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u206f\ufeff]", line
        )
        assert decode_event(line) == message
    for event in (Error("x", characters), Pong(characters), MessageHidden(1, characters)):
        assert decode_event(encode_json(event)) == event
        assert not set(encode_json(event)) & set(characters)


@pytest.mark.parametrize(
    ("frame", "requests"),
    [
        ("hi", [SayRequest("hi")]),
        ("hi\r\n", [SayRequest("hi")]),
        ("one\ntwo\r\nthree\n", [SayRequest("one"), SayRequest("two"), SayRequest("three")]),
        ("", []),
        ("\r\n\n\r\n", []),
        ("/who\r\n", [MembersRequest()]),
        ("/who is there", [SayRequest("/who is there")]),
        (" ", [SayRequest(" ")]),
        ('{"type":"say"}', [SayRequest('{"type":"say"}')]),
        ("hi\x0cho", [SayRequest("hi\x0cho")]),
    ],
)
def test_a_line_of_text_is_a_message(frame: str, requests: list[Request]) -> None:
    """Each line that is not empty is a message, except /who."""
    assert list(decode_text(frame, 4096)) == requests


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        ('{"type":"say","text":"hi"}', SayRequest("hi")),
        ('{"type":"say","text":"hi","id":"x"}\r', SayRequest("hi", "x")),
        ('{"type":"say","text":"hi","id":null}', SayRequest("hi")),
        ('{"type":"say","text":"a\\nb","id":"' + "x" * 64 + '"}', SayRequest("a\nb", "x" * 64)),
        ('{"type":"say","text":"\\ud83d\\ude00"}', SayRequest("\U0001f600")),
        ('{"type":"ping","type":"say","text":1,"text":"hi","more":NaN}', SayRequest("hi")),
        ('{"type":"members","id":"x"}', MembersRequest()),
        ('{"type":"name","name":" a:b","id":"x"}', RenameRequest(" a:b", "x")),
        ('{"type":"name","name":"bob"}', RenameRequest("bob")),
        ('{"type":"ping"}', PingRequest()),
        ('{"type":"ping","id":"é"}', PingRequest("é")),
    ],
)
def test_a_json_line_is_a_request(line: str, request_: Request) -> None:
    """Each type of request is read; of equal keys the last counts, unknown keys are ignored."""
    assert list(decode_json(line, 4096)) == [request_]


@pytest.mark.parametrize(
    ("line", "code", "id"),
    [
        ("hi", "bad_json", None),
        ("{", "bad_json", None),
        ("\ufeff{}", "bad_json", None),
        ("{} {}", "bad_json", None),
        ("[" * 100_000, "bad_json", None),
        ('{"a":' * 100_000, "bad_json", None),
        ("null", "bad_json", None),
        ("[]", "bad_json", None),
        ("NaN", "bad_json", None),
        ('"say"', "bad_json", None),
        ("{}", "bad_type", None),
        ('{"type":"shout","id":"x"}', "bad_type", "x"),
        ('{"type":{},"id":"x"}', "bad_type", "x"),
        ('{"type":[]}', "bad_type", None),
        ('{"type":true}', "bad_type", None),
        ('{"type":1e999}', "bad_type", None),
        ('{"type":"name","name":7,"id":"x"}', "bad_name", "x"),
        ('{"type":"name"}', "bad_name", None),
        ('{"type":"say","id":"x"}', "bad_text", "x"),
        ('{"type":"say","text":7,"id":"x"}', "bad_text", "x"),
        ('{"type":"say","text":true,"id":"x"}', "bad_text", "x"),
        ('{"type":"say","text":NaN,"id":"x"}', "bad_text", "x"),
        ('{"type":"say","text":["hi"],"id":"x"}', "bad_text", "x"),
        ('{"type":"say","text":"\\ud800","id":"x"}', "bad_text", "x"),
        ('{"type":"say","text":"\\ude00\\ud83d","id":"x"}', "bad_text", "x"),
        ('{"type":"say","text":"","id":"x"}', "empty", "x"),
        ('{"type":"say","text":"hi","id":""}', "bad_id", None),
        ('{"type":"say","text":"hi","id":7}', "bad_id", None),
        ('{"type":"say","text":"hi","id":true}', "bad_id", None),
        ('{"type":"say","text":"hi","id":{}}', "bad_id", None),
        ('{"type":"say","text":"hi","id":"\\udfff"}', "bad_id", None),
        ('{"type":"say","text":"hi","id":"' + "x" * 65 + '"}', "bad_id", None),
    ],
)
def test_an_invalid_json_line_is_an_error(line: str, code: str, id: str | None) -> None:
    """The error names the problem, has the id of the line if it has one, and can be encoded."""
    (error,) = decode_json(line, 4096)
    assert isinstance(error, Error)
    assert (error.code, error.id) == (code, id)
    assert encode_json(error).encode()


def test_a_very_long_number_is_one_error() -> None:
    """A number with more digits than Python converts is one error."""
    (error,) = decode_json(f'{{"type":"say","text":{"9" * 5000}}}', 4096)
    assert isinstance(error, Error)
    assert error.code in ("bad_json", "bad_text")  # depends on the limit of the interpreter


def test_an_invalid_line_does_not_affect_the_others() -> None:
    """The lines of a frame before and after an invalid one are read."""
    frame = '{"type":"ping"}\n\n oops \n \r\n{"type":"members"}\n'
    assert list(decode_json(frame, 9)) == [
        PingRequest(),
        Error("bad_json", "line is not JSON"),
        MembersRequest(),
    ]


@pytest.mark.parametrize("text", ["xxxx", "éé", "\U0001f600", "aéb"])
def test_the_limit_counts_bytes_and_may_be_reached(text: str) -> None:
    """A message of exactly the limit in bytes of UTF-8 is accepted; one byte more is an error."""
    line = json.dumps({"type": "say", "text": text, "id": "x"})
    too_long = Error("too_long", f"message is 4 bytes, {limit_text(3)}")
    assert list(decode_text(text, 4)) == [SayRequest(text)]
    assert list(decode_json(line, 4)) == [SayRequest(text, "x")]
    assert list(decode_text(text, 3)) == [too_long]
    assert list(decode_json(line, 3)) == [Error(too_long.code, too_long.text, "x")]


@pytest.mark.parametrize(
    "request_",
    [SayRequest("a\nb", "x"), SayRequest("hi"), MembersRequest(), PingRequest("x"), PingRequest()],
)
def test_a_request_is_read_back_unchanged(request_: Request) -> None:
    """A client writes a request on one line, and the server reads the same request."""
    assert list(decode_json(encode_json(request_), 4096)) == [request_]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "hi",
        "null",
        "7",
        "[]",
        '"type"',
        "{}",
        '{"type":null}{}',
        '{"type":[]}',
        '{"type":{}}',
        "[" * 100_000,
        '{"type":"head"}',
        '{"type":"head","seq":"1"}',
        '{"type":"head","seq":true}',
        '{"type":"head","seq":-1}',
        '{"type":"head","seq":1.0}',
        '{"type":"head","seq":NaN}',
        '{"type":"head","seq":' + "9" * 5000 + "0.5}",
        '{"type":"pong","id":7}',
        '{"type":"members","count":1,"members":"bob"}',
        '{"type":"members","count":1,"members":[7]}',
        '{"type":"members","count":1,"members":{"bob":1}}',
        '{"type":"members","count":1,"members":["bob"],"verified":true}',
        '{"type":"joined","name":"bob","count":1,"verified":["bob"]}',
        '{"type":"joined","name":"bob","count":1,"verified":false}',
        '{"type":"renamed","name":"bob","to":"b","verified":false}',
        '{"type":"renamed","name":"bob"}',
        '{"type":"error","code":"x"}',
        '{"type":"message","seq":1,"name":"bob","text":"hi"}',
        '{"type":"message","seq":1,"name":null,"text":"hi","at":""}',
        encode_json(WELCOME).replace("true", "1"),
        encode_json(WELCOME).replace('"missed":0', '"missed":false'),
    ],
)
def test_a_line_that_is_not_an_event_is_a_value_error(line: str) -> None:
    """A client that is connected to something else gets one kind of error."""
    with pytest.raises(ValueError, match=r"."):
        decode_event(line)


def test_an_event_of_a_later_version_is_none() -> None:
    """An event of an unknown type is skipped, and so is an unknown field."""
    assert decode_event('{"type":"typing","name":7}') is None
    assert decode_event('{"type":"head","seq":1,"mood":"good"}') == Heartbeat(1)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from([event for event, _, _ in LINES]), st.data())
def test_a_corrupted_event_is_an_event_or_a_value_error(event: Event, data: st.DataObject) -> None:
    """Whatever one field contains, the result is a complete event or a ValueError."""
    value = json.loads(encode_json(event))
    value[data.draw(st.sampled_from([*value]))] = data.draw(JUNK)
    try:
        decoded = decode_event(json.dumps(value))
    except ValueError:
        return
    assert decoded is None or decode_event(encode_json(decoded)) == decoded


@pytest.mark.parametrize("code", [4500, 4501, 4502, 4503, 4504, 1003, 1007, 1009])
def test_a_client_gives_up_where_it_would_fail_again(code: int) -> None:
    """Codes from 4500 on are final, and so are those of RFC 6455 about what the client sent."""
    assert CloseCode.is_final(code)


@pytest.mark.parametrize("code", [1000, 1001, 1005, 1006, 1011, 1012, 1013, 4001, 4008, 4013])
def test_a_client_reconnects_after_a_temporary_failure(code: int) -> None:
    """A restart, a full server, a lost connection, and a close without a code are not final."""
    assert not CloseCode.is_final(code)


def test_daphne_can_send_every_code() -> None:
    """Each close code is in a range that Daphne lets an application use."""
    assert all(3000 <= code <= 4999 for code in CloseCode)


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r", "\v", "\x1c", "\x85", "\u2028"])
def test_the_lines_of_a_message_are_limited(line_break: str) -> None:
    """A message may have one line for each 16 bytes of the limit, whatever breaks the lines."""
    for count, allowed in ((256, True), (257, False)):
        text = line_break.join(["x"] * count)
        (request,) = decode_json(encode_json(SayRequest(text)), 4096)
        if allowed:
            assert request == SayRequest(text)
        else:
            assert request == Error("too_many_lines", f"message is 257 lines, {limit_text(256)}")


def test_server_sent_events() -> None:
    """The id of a message is its cursor; other events, which may be about the past, have none."""
    message = Message(7, "bob", "a\nb", "2026-11-25T09:00:00.000Z")
    assert encode_sse(message, "e") == f"id: e.7\ndata: {encode_json(message)}\n"
    assert encode_sse(MessageHidden(3), "e") == 'data: {"type":"hidden","seq":3}\n'
    assert encode_sse(Left("bob", 1), "e") == 'data: {"type":"left","name":"bob","count":1}\n'


@pytest.mark.parametrize("name", ["bob", 'b"o\\b', "Zoë", "\x7f", "\x1b[2J", "\u202ebob", "\u2028"])
def test_a_join_is_one_safe_line(name: str) -> None:
    """A join, which is written without json.dumps, is the same JSON, and safe at a terminal."""
    line = encode_json(Joined(name, 3))
    assert line.isprintable()
    assert list(json.loads(line).items()) == [("type", "joined"), ("name", name), ("count", 3)]
    assert encode_json(Joined(name, 3, True)) == line[:-1] + ',"verified":true}'


@given(
    st.lists(
        st.text(max_size=40) | st.sampled_from(["/who", "a\vb", "x" * 300, "\r", "\ud800"])
    ).map("\n".join),
    st.integers(1, 4096),
)
def test_a_short_line_of_text_breaks_no_rule(frame: str, limit: int) -> None:
    """What `decode_text` passes without a look is what `validate_message` says of it."""
    lines = [line.rstrip("\r") for line in frame.split("\n")]
    assert list(decode_text(frame, limit)) == [
        MembersRequest() if line == "/who" else validate_message(line, None, limit)
        for line in lines
        if line
    ]


@given(
    st.lists(
        st.text("ab/ w\t", max_size=4)
        | st.sampled_from(["hi", "/who", "a\vb", "x" * 300, "a\r", "\u00e9", "", "\x7f", "\ud800"])
    ).map("\n".join),
    st.integers(1, 4096),
)
@example("hi\n*", 4096)
def test_plain_lines_are_messages(frame: str, limit: int) -> None:
    """What `plain_lines` returns is what `decode_text` says, and each of it is shown as it is."""
    texts = plain_lines(frame, limit)
    if texts is not None:
        assert list(decode_text(frame, limit)) == [SayRequest(text) for text in texts]
        assert [encode_text(Message(1, "bob", each, "")) for each in texts] == [
            f"bob: {each}" for each in texts
        ]


@pytest.mark.parametrize(
    ("frame", "texts"),
    [
        ("a\nb", ["a", "b"]),
        ("a/\n b?", ["a/", " b?"]),
        ("a", None),
        ("a\n", None),
        ("a\n/who", None),
        ("/who\na", None),
        ("a\nb\r", None),
        ("a\nb\t", None),
        ("a\n\u00e9", None),
        ("a\n" + "x" * 257, None),
        ("", None),
    ],
)
def test_which_lines_are_plain(frame: str, texts: list[str] | None) -> None:
    """Several short lines of printable ASCII, none of which can be a command."""
    assert plain_lines(frame, 4096) == texts
