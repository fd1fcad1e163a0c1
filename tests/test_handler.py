"""The handler: a command is run for each message, one at a time and in order."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from conftest import Processes
from programs import running, say, shell, until

from broadcast_server.cli import main
from broadcast_server.ending import ended_words
from broadcast_server.handler import variables
from broadcast_server.protocol import Message

AT = "2026-11-25T09:00:00.000Z"


@pytest.fixture
def url(processes: Processes, program: list[str]) -> str:
    """The address of a server."""
    # Not the one of the houses' tests: they are in rooms of the same names.
    return processes.url(tuple(program), ("--max-rooms", "9999"))


# -- what it is told --


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("hi", "hi"),
        ("one\ntwo\r\nthree", "one\ntwo\nthree"),
        ("a\x00b\x1b[31mred\x1b[0m\u202e\x07", "abred"),
        ("日本語 \U0001f600", "日本語 \U0001f600"),
        ("half \ud800", "half "),
        ("$(rm -rf ~); `id`", "$(rm -rf ~); `id`"),
    ],
)
def test_variables_hold_what_may_reach_a_terminal(text: str, shown: str) -> None:
    """The text is in the environment as a terminal may show it, in UTF-8, and is no program."""
    found = variables(Message(42, "ann", text, AT), "ops", "ep")
    assert os.fsencode(found.pop("BROADCAST_EVENT_TEXT")).decode() == shown
    assert found == {
        "BROADCAST_EVENT_ROOM": "ops",
        "BROADCAST_EVENT_EPOCH": "ep",
        "BROADCAST_EVENT_SEQ": "42",
        "BROADCAST_EVENT_AT": AT,
        "BROADCAST_EVENT_NAME": "ann",
    }


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "ended with 0"), (2, "ended with 2"), (-15, "was killed by SIGTERM"),
     (-50, "was killed by signal 50")],
)  # fmt: skip
def test_words_for_how_a_command_ended(code: int, words: str) -> None:
    """It is said how a command ended, by a signal's name where it has one."""
    assert ended_words(code) == words


# -- the command --


def test_it_runs_for_each_message_of_others(program: list[str], url: str, tmp_path: Path) -> None:
    """It runs in order for what others said, gets the event whole, and is told of its failures."""
    place = tmp_path / "place"
    command = """echo "$BROADCAST_EVENT_SEQ $BROADCAST_EVENT_NAME $BROADCAST_EVENT_TEXT"
        cat; test "$BROADCAST_EVENT_SEQ" != 2"""
    hear = f'"$@" connect {url} --room handled --name ear --since {place} </dev/null'
    assert shell(hear, program).output == ""
    say(url, "handled", "ann", "one\x1b[1m", '"two"')
    say(url, "handled", "ear", "mine")
    say(url, "handled", "bob", "three")
    script = f"""{hear} --exec -- sh -c "$COMMAND" sh --"""
    done = shell(script, program, COMMAND=command)
    assert (done.code, done.errors) == (0, "* sh ended with 1 for message 2\n")
    lines = done.output.splitlines()
    assert lines[::2] == ["1 ann one", '2 ann "two"', "4 bob three"]
    events = [json.loads(line) for line in lines[1::2]]
    assert [event["text"] for event in events] == ["one\x1b[1m", '"two"', "three"]
    assert "\x1b" not in done.output
    assert place.read_text().endswith(".4\n")


@pytest.mark.parametrize(
    ("command", "why"),
    [([], "there is no command behind it"),
     (["no-such-command"], "no-such-command is no command that can be run here"),
     (["/dev/null"], "/dev/null is no command that can be run here")],
)  # fmt: skip
def test_no_command(command: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A command that is not there is told before anything else is done."""
    assert main(["connect", "--exec", *command]) == 2
    assert capsys.readouterr().err == f"broadcast-server connect: error: --exec: {why}\n"


def test_what_prints_nothing_prints_no_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Who asks for the events themselves and for a command that gets them is told to choose."""
    assert main(["connect", "--json", "--exec", "true"]) == 2
    why = "--exec and --json (BROADCAST_JSON) are too much, give one"
    assert capsys.readouterr().err == f"broadcast-server connect: error: {why}\n"


def test_a_command_that_is_slow(program: list[str], url: str, tmp_path: Path) -> None:
    """A listener runs one at a time however fast messages come; on leaving it waits for that one.

    The one that it waited for is done with, and who comes back begins with the next.
    """
    place, gate = tmp_path / "place", tmp_path / "gate"
    os.mkfifo(gate)
    command = f"""echo "begun $BROADCAST_EVENT_TEXT"; read go <{gate}; echo "done $go" """
    hear = ["connect", url, "--room", "slow", "--listen", "--since", str(place), "--exec"]
    with running(*program, *hear, "sh", "-c", command) as ear:
        until(place.exists, "a listener")
        say(url, "slow", "n", "1", "2", "3")
        until(lambda: ear.lines == ["begun 1"], "the first")
        gate.write_text("first\n")
        until(lambda: ear.lines[1:] == ["done first", "begun 2"], "the second")
        ear.process.send_signal(signal.SIGTERM)
        gate.write_text("second\n")
        assert ear.wait() == 0
        assert ear.lines[3:] == ["done second"]
        assert ear.errors == ""
    assert place.read_text().endswith(".2\n")
    done = shell(f'"$@" connect {url} --since {place} </dev/null', program)
    assert done.output == "n: 3\n"


def test_a_command_that_does_not_end(program: list[str], url: str, tmp_path: Path) -> None:
    """What runs when its listener leaves is ended after a while, and is run again next time."""
    place = tmp_path / "place"
    code = (
        "import sys; import broadcast_server.handler as handler\n"
        "handler.PATIENCE = handler.MERCY = 0.05\n"
        "import broadcast_server.__main__ as program; sys.exit(program.run())"
    )
    command = 'trap "" TERM; echo begun; while :; do sleep 0.01; done'
    hear = ["connect", url, "--room", "endless", "--listen", "--since", str(place), "--exec"]
    with running(program[0], "-c", code, *hear, "sh", "-c", command) as ear:
        until(place.exists, "a listener")
        say(url, "endless", "n", "hi")
        until(lambda: ear.lines == ["begun"], "the command")
        assert ear.signal(signal.SIGTERM) == 0
    assert place.read_text().endswith(".0\n")
