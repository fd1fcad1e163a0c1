"""A listener that ends: after messages that it waits for, or after a time."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest
from programs import Running, running, say, shell, until

from broadcast_server.pipe.message_filter import MessageFilter
from broadcast_server.protocol.messages import Cursor, Error, Event, Joined, Message, Welcome

LOG = "log"
JOINED = Joined("ann", 2)
GAP = Welcome("ops", "me", LOG, 9, recovered=False, missed=3, count=1, members=("me",))
WELCOME = Welcome("ops", "me", LOG, 9, recovered=True, missed=0, count=1, members=("me",))
REJECTED = Error("too_long", "message is too long")


def message(seq: int, text: str, name: str = "ann") -> Message:
    """Return a message with a number."""
    return Message(seq, name, text, "2026-01-01T00:00:00.000Z")


EVENTS: list[Event] = [
    WELCOME,
    GAP,
    JOINED,
    message(1, "build 1 failed"),
    message(2, "failed as well", "me"),
    REJECTED,
    message(3, "fine"),
    message(4, "failed again"),
    message(5, "after that"),
]


@pytest.mark.parametrize("frame", [1, 2, 3, len(EVENTS)])
@pytest.mark.parametrize(
    ("pattern", "count", "expected", "end"),
    [
        (None, None, EVENTS, 99),
        (None, 2, EVENTS[:7], 3),
        ("failed", None, [GAP, EVENTS[3], REJECTED, EVENTS[7]], 99),
        ("failed", 1, [GAP, EVENTS[3]], 1),
        ("failed$", 1, [GAP, EVENTS[3]], 1),
        ("^FAILED(?i:X)?", 1, [GAP, REJECTED], 99),
        ("(?i)^FAILED", 1, [GAP, REJECTED, EVENTS[7]], 4),
        ("failed", 3, [GAP, EVENTS[3], REJECTED, EVENTS[7]], 99),
    ],
)
def test_selected_events(
    frame: int, pattern: str | None, count: int | None, expected: list[Event], end: int
) -> None:
    """However events are split into frames, the same are selected, and the position is theirs."""
    wanted = MessageFilter(re.compile(pattern) if pattern else None, count)
    selected = [
        event
        for start in range(0, len(EVENTS), frame)
        for event in wanted.select(EVENTS[start : start + frame], "me", LOG)
    ]
    assert selected == expected
    assert wanted.limit(Cursor(LOG, 99)) == Cursor(LOG, end)
    assert wanted.done == (end != 99)


def test_waiting_for_a_message(program: list[str], server: Running) -> None:
    """A listener leaves with 0 after the message that it waits for, and prints no other."""
    options = ["--room", "waits", "--match", "^deployed", "--count", "1", "--history", "9"]
    with running(*program, "connect", server.url, *options, "--json") as listener:
        say(server.url, "waits", "ci", "deploying", "deployed 7", "deployed 8")
        assert listener.wait() == 0
        assert [json.loads(line)["text"] for line in listener.lines] == ["deployed 7"]


def test_the_next_run_continues_after_the_last_message(
    program: list[str], server: Running, tmp_path: Path
) -> None:
    """With --count and --since, each run takes the next messages of what has come at once."""
    cursor_file = tmp_path / "cursor"
    listen = f'"$@" connect {server.url} --room turns --since {cursor_file} --count 2 --match .'
    assert shell(f"{listen} --timeout 1", program).code == 124
    say(server.url, "turns", "ann", *"12345")
    runs = [shell(f"{listen} --timeout {seconds}", program) for seconds in (60, 60, 1)]
    assert [(done.code, done.output, done.errors) for done in runs] == [
        (0, "ann: 1\nann: 2\n", ""),
        (0, "ann: 3\nann: 4\n", ""),
        (124, "ann: 5\n", "* left after 1 s with 1 of 2 messages\n"),
    ]


def test_input_is_confirmed_before_the_listener_leaves(program: list[str], server: Running) -> None:
    """A listener that has its message ends although its input goes on, and loses none of it."""
    asks = [*program, "connect", server.url, "--room", "asks", "--name", "asks", "--count", "1"]
    with running(*asks) as listener:
        listener.say("a question\n")
        until(lambda: "asks: a question\n" in listener.output, "the question")
        say(server.url, "asks", "ann", "an answer")
        assert listener.wait() == 0
        assert listener.lines == ["asks: a question", "ann: an answer"]


def test_each_selected_message_runs_the_command(program: list[str], server: Running) -> None:
    """The command of --exec runs for the messages that are waited for, and has ended at the end."""
    say(server.url, "runs", "ann", "one", "two", "three", "twelve", "twenty")
    listen = f'"$@" connect {server.url} --room runs --history 9 --match ^tw --count 2'
    done = shell(f"{listen} --exec sh -c 'sleep 0.1; echo $BROADCAST_EVENT_TEXT'", program)
    assert (done.code, done.output, done.errors) == (0, "two\ntwelve\n", "")


@pytest.mark.parametrize(("limit", "code"), [("--timeout=1", 124), ("--timeout=600", 0)])
def test_exit_codes(program: list[str], server: Running, limit: str, code: int) -> None:
    """124 says that the time is over; a listener that is told to stop ends with 0."""
    say(server.url, "codes", "ann", "hello")
    options = ["--room", "codes", "--history", "1", "--count", "2", limit]
    with running(*program, "connect", server.url, *options) as listener:
        until(lambda: listener.output == "ann: hello\n", "a message")
        assert (listener.signal(signal.SIGTERM) if code == 0 else listener.wait()) == code


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("--match '('", "invalid regular expression: missing ), unterminated subpattern at pos"),
        ("--count 0", "--count: 0 is not between 1 and"),
        ("--timeout never", "--timeout: 'never' is not"),
    ],
)
def test_invalid_values(program: list[str], option: str, reason: str) -> None:
    """A value that cannot be used is a usage error."""
    done = shell(f'"$@" connect 127.0.0.1:1 {option}', program)
    assert (done.code, done.output) == (2, "")
    assert reason in done.errors.splitlines()[-1]
