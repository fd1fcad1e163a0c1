"""The log format: text for people, and JSON for log collectors."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import signal

import pytest
from programs import running, said, until

from broadcast_server.server.log_format import LineHandler, formatter, quote_word


def test_a_line_of_text() -> None:
    """A text line is the time and the message."""
    record = logging.LogRecord("x", logging.INFO, "", 0, "%s joined", ("bob",), None)
    assert re.fullmatch(r"\d\d:\d\d:\d\d bob joined", formatter("text").format(record))


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("bob", "bob"),
        ("o'neill", "o'neill"),
        ("eve joined ops, from 192.0.2.1", '"eve joined ops, from 192.0.2.1"'),
        ('eve" joined ops', '"eve\\" joined ops"'),
        ("eve\u3000joined", '"eve\u3000joined"'),
        ('"', '"\\""'),
    ],
)
def test_a_name_is_one_word(name: str, quoted: str) -> None:
    """A name with spaces or quotes is quoted, so that it cannot forge a line of the log."""
    assert quote_word(name) == quoted


def test_a_server_that_logs_json(program: list[str]) -> None:
    """Each line of the log is a JSON object, with the parts of its text as fields."""
    command = *program, "start", "--port", "0", "--log-format", "json"
    with running(*command) as server:
        until(lambda: "\n" in server.errors, "a server that listens")
        url = json.loads(server.errors.splitlines()[0])["url"]
        with running(*program, "connect", url, "--name", 'b"ob') as bob:
            assert bob.end() == 0
        until(lambda: '"left"' in server.errors, "a departure")
        assert server.signal(signal.SIGTERM) == 0
        lines = [json.loads(line) for line in server.errors.splitlines()]
    assert [line["event"] for line in lines if "event" in line] == ["listening", "joined", "left"]
    joined = lines[1]
    assert (joined["name"], joined["room"], joined["here"]) == ('b"ob', "lobby", 1)
    assert joined["text"].startswith('"b\\"ob" joined lobby, from 127.0.0.1:')
    assert joined["level"] == "info"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", joined["at"])
    assert lines[-1]["text"] == "stopping"


def test_a_subscriber_in_the_log(program: list[str]) -> None:
    """The log calls a connection without a name what the documents call it: a subscriber."""
    with running(*program, "start", "--port", "0") as server:
        said(server.url, "lobby")
        until(lambda: "left" in server.errors, "a departure")
        assert " a subscriber joined lobby, from 127.0.0.1:" in server.errors
        assert " a subscriber left lobby " in server.errors
        assert server.signal(signal.SIGTERM) == 0


def test_the_lines_of_a_turn_are_written_together() -> None:
    """Lines wait for the end of the turn, but for no longer; a warning does not wait."""
    written = io.StringIO()
    handler = LineHandler()
    handler.setStream(written)

    def log(level: int, text: str) -> None:
        handler.handle(logging.LogRecord("x", level, "", 0, text, None, None))

    async def scenario() -> None:
        log(logging.INFO, "a")
        log(logging.INFO, "b")
        assert not written.getvalue()
        await asyncio.sleep(0)
        assert written.getvalue() == "a\nb\n"
        log(logging.INFO, "c")
        log(logging.WARNING, "d")
        assert written.getvalue() == "a\nb\nc\nd\n"
        log(logging.INFO, "e")

    asyncio.run(scenario())
    log(logging.INFO, "f")  # no loop runs any more
    assert written.getvalue() == "a\nb\nc\nd\ne\nf\n"
    written.close()
    log(logging.WARNING, "g")  # must not raise
