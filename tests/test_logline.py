"""The log line: text for people, JSON for what collects."""

from __future__ import annotations

import json
import logging
import re
import signal

import pytest
from programs import running, until

from broadcast_server.logline import formatter, word


def test_a_line_of_text() -> None:
    """People get the time and what happened."""
    record = logging.LogRecord("x", logging.INFO, "", 0, "%s joined", ("bob",), None)
    assert re.fullmatch(r"\d\d:\d\d:\d\d bob joined", formatter("text").format(record))


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("bob", "bob"),
        ("o'neill", "o'neill"),
        ("eve joined ops, from 192.0.2.1", '"eve joined ops, from 192.0.2.1"'),
        ('eve" joined ops', '"eve\\" joined ops"'),
        ("eve\u3000joined", '"eve\u3000joined"'),
        ('"', '"\\""'),
    ],
)
def test_a_name_is_one_word(name: str, written: str) -> None:
    """A name that looks like more of a line is in quotes, so that nobody writes another's."""
    assert word(name) == written


def test_a_server_that_logs_json(program: list[str]) -> None:
    """Each line of the log is a JSON object, with what its text is made of as fields."""
    command = *program, "start", "--port", "0", "--log-format", "json"
    with running(*command) as server:
        until(lambda: "\n" in server.errors, "a server that listens")
        url = json.loads(server.errors.splitlines()[0])["url"]
        with running(*program, "connect", url, "--name", 'b"ob') as bob:
            assert bob.end() == 0
        until(lambda: '"left"' in server.errors, "a departure")
        assert server.signal(signal.SIGTERM) == 0
        lines = [json.loads(line) for line in server.errors.splitlines()]
    assert [each["event"] for each in lines if "event" in each] == ["listening", "joined", "left"]
    joined = lines[1]
    assert (joined["name"], joined["room"], joined["here"]) == ('b"ob', "lobby", 1)
    assert joined["text"].startswith('"b\\"ob" joined lobby, from 127.0.0.1:')
    assert joined["level"] == "info"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", joined["at"])
    assert lines[-1]["text"] == "stopping"
