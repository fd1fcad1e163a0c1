"""What lines say, in both formats and both directions, and what hostile ones come to."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcast_server.protocol import (
    CloseCode,
    Error,
    Event,
    Head,
    Hidden,
    Joined,
    Left,
    Members,
    Message,
    Ping,
    Pong,
    Rename,
    Renamed,
    Request,
    Say,
    Welcome,
    Who,
    json_line,
    parse_event,
    parse_json,
    parse_text,
    sse_line,
    text_line,
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
    (Hidden(42, "x"), '{"type":"hidden","seq":42,"id":"x"}', None),
    (Hidden(42), '{"type":"hidden","seq":42}', None),
    (Pong("x"), '{"type":"pong","id":"x"}', None),
    (Pong(), '{"type":"pong"}', None),
    (Head(42), '{"type":"head","seq":42}', None),
]


@pytest.mark.parametrize(("event", "line", "text"), LINES)
def test_an_event_is_written_in_both_formats(event: Event, line: str, text: str | None) -> None:
    """Each event has the lines that the protocol says, and JSON is read back as it was."""
    assert json_line(event) == line
    assert text_line(event) == text
    assert parse_event(line) == event


def test_a_loss_of_unknown_size_is_null() -> None:
    """What cannot be known is null in a welcome, and not left out."""
    welcome = Welcome("lobby", "alice", "e", 41, False, None, 1, ())
    assert json.loads(json_line(welcome))["missed"] is None
    assert parse_event(json_line(welcome)) == welcome


@given(st.text(), st.text(), st.text(), st.none() | st.text())
def test_a_message_in_json_is_what_json_makes_of_it(
    name: str, text: str, at: str, id: str | None
) -> None:
    """The line that is written by hand is one line of JSON and says what the message does."""
    message = Message(7, name, text, at, id)
    line = json_line(message)
    assert "\n" not in line
    assert "\r" not in line
    expected: dict[str, Any] = {"type": "message", "seq": 7, "name": name, "text": text, "at": at}
    assert json.loads(line) == (expected if id is None else {**expected, "id": id})


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", *"\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"])
def test_nobody_can_forge_a_line(end: str) -> None:
    """Whatever ends a line for somebody, the next one has the speaker's name in front too."""
    line = text_line(Message(1, "bob", f"hi{end}root: hi{end}{end}* bye", AT))
    assert line == "bob: hi\nbob: root: hi\nbob: \nbob: * bye"


@given(st.text(), st.text(alphabet="\r\n\x0c\x85\u2028 a", max_size=9))
def test_every_line_of_a_message_begins_with_its_speaker(text: str, ends: str) -> None:
    """However a message is cut into lines, none is without the name, and there is one at least."""
    line = text_line(Message(1, "bob", ends.join([text, text]), AT))
    assert line
    assert all(each.startswith("bob: ") for each in line.splitlines())


@pytest.mark.parametrize(
    ("frame", "requests"),
    [
        ("hi", [Say("hi")]),
        ("hi\r\n", [Say("hi")]),
        ("one\ntwo\r\nthree\n", [Say("one"), Say("two"), Say("three")]),
        ("", []),
        ("\r\n\n\r\n", []),
        ("/who\r\n", [Who()]),
        ("/who is there", [Say("/who is there")]),
        (" ", [Say(" ")]),
        ('{"type":"say"}', [Say('{"type":"say"}')]),
        ("hi\x0cho", [Say("hi\x0cho")]),
    ],
)
def test_a_text_line_is_what_it_says(frame: str, requests: list[Request]) -> None:
    """Each line that is not empty is a message, but for /who."""
    assert list(parse_text(frame, 4096)) == requests


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        ('{"type":"say","text":"hi"}', Say("hi")),
        ('{"type":"say","text":"hi","id":"x"}\r', Say("hi", "x")),
        ('{"type":"say","text":"hi","id":null}', Say("hi")),
        ('{"type":"say","text":"a\\nb","id":"' + "x" * 64 + '"}', Say("a\nb", "x" * 64)),
        ('{"type":"say","text":"\\ud83d\\ude00"}', Say("\U0001f600")),
        ('{"type":"ping","type":"say","text":1,"text":"hi","more":NaN}', Say("hi")),
        ('{"type":"members","id":"x"}', Who()),
        ('{"type":"name","name":" a:b","id":"x"}', Rename(" a:b", "x")),
        ('{"type":"name","name":"bob"}', Rename("bob")),
        ('{"type":"ping"}', Ping()),
        ('{"type":"ping","id":"é"}', Ping("é")),
    ],
)
def test_a_json_line_is_a_request(line: str, request_: Request) -> None:
    """Each type of request is read; the last of two keys counts, what is unknown is ignored."""
    assert list(parse_json(line, 4096)) == [request_]


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
def test_a_json_line_that_is_no_request_is_an_error(line: str, code: str, id: str | None) -> None:
    """What is wrong in a line is named, under the line's id if it has one, and can be written."""
    (error,) = parse_json(line, 4096)
    assert isinstance(error, Error)
    assert (error.code, error.id) == (code, id)
    assert json_line(error).encode()


def test_a_number_of_any_length_does_no_harm() -> None:
    """A number longer than Python converts is one error, in one line."""
    (error,) = parse_json(f'{{"type":"say","text":{"9" * 5000}}}', 4096)
    assert isinstance(error, Error)
    assert error.code in ("bad_json", "bad_text")  # a limit of the interpreter's


def test_a_fault_spoils_its_own_line_only() -> None:
    """The lines of a frame before and after one that is wrong are done."""
    frame = '{"type":"ping"}\n\n oops \n \r\n{"type":"members"}\n'
    assert list(parse_json(frame, 9)) == [Ping(), Error("bad_json", "line is not JSON"), Who()]


@pytest.mark.parametrize("text", ["xxxx", "éé", "\U0001f600", "aéb"])
def test_the_limit_counts_bytes_and_may_be_reached(text: str) -> None:
    """A message of just so many bytes of UTF-8 is taken, with one more it is an error."""
    line = json.dumps({"type": "say", "text": text, "id": "x"})
    long = Error("too_long", "message is 4 bytes, limit is 3")
    assert list(parse_text(text, 4)) == [Say(text)]
    assert list(parse_json(line, 4)) == [Say(text, "x")]
    assert list(parse_text(text, 3)) == [long]
    assert list(parse_json(line, 3)) == [Error(long.code, long.text, "x")]


@pytest.mark.parametrize("request_", [Say("a\nb", "x"), Say("hi"), Who(), Ping("x"), Ping()])
def test_a_request_that_we_write_is_the_one_that_is_read(request_: Request) -> None:
    """What our client writes is one line, and our server reads the same request."""
    assert list(parse_json(json_line(request_), 4096)) == [request_]


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
        json_line(WELCOME).replace("true", "1"),
        json_line(WELCOME).replace('"missed":0', '"missed":false'),
    ],
)
def test_a_line_that_no_server_of_ours_sends_is_a_value_error(line: str) -> None:
    """A client that talks to something else finds out, by one kind of error."""
    with pytest.raises(ValueError, match=r"."):
        parse_event(line)


def test_an_event_of_a_later_version_is_none() -> None:
    """A type that we do not know is passed over, and so is a field."""
    assert parse_event('{"type":"typing","name":7}') is None
    assert parse_event('{"type":"head","seq":1,"mood":"good"}') == Head(1)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from([event for event, _, _ in LINES]), st.data())
def test_a_spoilt_event_is_an_event_or_a_value_error(event: Event, data: st.DataObject) -> None:
    """Whatever stands in one field, a whole event or a ValueError comes out."""
    value = json.loads(json_line(event))
    value[data.draw(st.sampled_from([*value]))] = data.draw(JUNK)
    try:
        found = parse_event(json.dumps(value))
    except ValueError:
        return
    assert found is None or parse_event(json_line(found)) == found


@pytest.mark.parametrize("code", [4500, 4501, 4502, 4503, 4504, 1003, 1007, 1009])
def test_a_client_gives_up_where_it_would_fail_again(code: int) -> None:
    """Our codes from 4500 on, and the library's for what the client itself sent, are final."""
    assert CloseCode.final(code)


@pytest.mark.parametrize("code", [1000, 1001, 1005, 1006, 1011, 1012, 1013, 4001, 4008, 4013])
def test_a_client_comes_back_after_what_may_pass(code: int) -> None:
    """A restart, a full server, a cut connection, and a close without a reason are not final."""
    assert not CloseCode.final(code)


def test_daphne_can_send_every_code() -> None:
    """Each code of ours lies where an application may choose one."""
    assert all(3000 <= code <= 4999 for code in CloseCode)


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r", "\v", "\x1c", "\x85", "\u2028"])
def test_a_message_has_few_lines_for_its_length(line_break: str) -> None:
    """Whatever a terminal takes for a line break counts: one line for each 16 bytes allowed."""
    for count, allowed in ((256, True), (257, False)):
        text = line_break.join(["x"] * count)
        (found,) = parse_json(json_line(Say(text)), 4096)
        if allowed:
            assert found == Say(text)
        else:
            assert found == Error("too_many_lines", "message is 257 lines, limit is 256")


def test_server_sent_events() -> None:
    """A message's id is its cursor; what may be about the past has none."""
    message = Message(7, "bob", "a\nb", "2026-11-25T09:00:00.000Z")
    assert sse_line(message, "e") == f"id: e.7\ndata: {json_line(message)}\n"
    assert sse_line(Hidden(3), "e") == 'data: {"type":"hidden","seq":3}\n'
    assert sse_line(Left("bob", 1), "e") == 'data: {"type":"left","name":"bob","count":1}\n'
