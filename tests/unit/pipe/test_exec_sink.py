"""The exec sink: a command runs for each message, one at a time and in order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Processes
from programs import running, said, say, shell, until

from broadcast_server.cli.main import main
from broadcast_server.pipe.exec_sink import event_variables
from broadcast_server.pipe.process_text import exit_text
from broadcast_server.protocol.messages import Message

AT = "2026-11-25T09:00:00.000Z"


@pytest.fixture
def url(processes: Processes, program: list[str]) -> str:
    """The address of a server."""
    # It is not the server of the deployments' tests, which use rooms of the same names.
    return processes.url(tuple(program), ("--max-rooms", "9999"))


# -- texts --


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("hi", "hi"),
        ("one\ntwo\r\nthree", "one\ntwo\nthree"),
        ("a\x00b\x1b[31mred\x1b[0m\u202e\x07", "abred"),
        ("日本語 \U0001f600", "日本語 \U0001f600"),
        ("half \ud800", "half "),
        ("$(rm -rf ~); `id`", "$(rm -rf ~); `id`"),
    ],
)
def test_variables_are_safe_for_a_terminal(text: str, value: str) -> None:
    """The text in the environment has no control characters, is UTF-8, and is not evaluated."""
    variables = event_variables(Message(42, "ann", text, AT), "ops", "ep")
    assert os.fsencode(variables.pop("BROADCAST_EVENT_TEXT")).decode() == value
    assert variables == {
        "BROADCAST_EVENT_ROOM": "ops",
        "BROADCAST_EVENT_EPOCH": "ep",
        "BROADCAST_EVENT_SEQ": "42",
        "BROADCAST_EVENT_AT": AT,
        "BROADCAST_EVENT_NAME": "ann",
    }


@pytest.mark.parametrize(
    ("code", "text"),
    [(0, "ended with 0"), (2, "ended with 2"), (-15, "was killed by SIGTERM"),
     (-50, "was killed by signal 50")],
)  # fmt: skip
def test_exit_texts(code: int, text: str) -> None:
    """A signal is named if it has a name."""
    assert exit_text(code) == text


# -- the command --


def test_it_runs_for_each_message_of_others(program: list[str], url: str, tmp_path: Path) -> None:
    """It runs in order for the messages of others, gets the whole event, and reports failures."""
    cursor_file = tmp_path / "place"
    command = """echo "$BROADCAST_EVENT_SEQ $BROADCAST_EVENT_NAME $BROADCAST_EVENT_TEXT"
        cat; test "$BROADCAST_EVENT_SEQ" != 2"""
    listen = f'"$@" connect {url} --room handled --name ear --since {cursor_file} </dev/null'
    assert shell(listen, program).output == ""
    say(url, "handled", "ann", "one\x1b[1m", '"two"')
    say(url, "handled", "ear", "mine")
    say(url, "handled", "bob", "three")
    script = f"""{listen} --exec -- sh -c "$COMMAND" sh --"""
    done = shell(script, program, COMMAND=command)
    assert (done.code, done.errors) == (0, "* sh ended with 1 for message 2\n")
    lines = done.output.splitlines()
    assert lines[::2] == ["1 ann one", '2 ann "two"', "4 bob three"]
    events = [json.loads(line) for line in lines[1::2]]
    assert [event["text"] for event in events] == ["one\x1b[1m", '"two"', "three"]
    assert "\x1b" not in done.output
    assert cursor_file.read_text().endswith(".4\n")


def test_it_does_not_get_the_token(program: list[str], url: str) -> None:
    """The command inherits the environment, but not the token in it, which it might print."""
    say(url, "secret", "ann", "one")
    script = f"""KEPT=1 "$@" connect {url} --room secret --history 1 --exec -- \\
        sh -c 'echo $KEPT; env | grep -c s3cret' </dev/null"""
    done = shell(script, program, BROADCAST_TOKEN="s3cret")
    assert done.output == "1\n0\n"


@pytest.mark.parametrize(
    ("command", "reason"),
    [([], "no command given after it"),
     (["no-such-command"], "no-such-command is not an executable command"),
     (["/dev/null"], "/dev/null is not an executable command")],
)  # fmt: skip
def test_no_command(command: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A command that is missing or cannot be run is a usage error, before anything else is done."""
    assert main(["connect", "--exec", *command]) == 2
    assert capsys.readouterr().err == f"broadcast-server connect: error: --exec: {reason}\n"


def test_exec_and_json_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    """`--exec` prints no events, so `--json` with it is a usage error."""
    assert main(["connect", "--json", "--exec", "true"]) == 2
    reason = "--exec cannot be combined with --json or BROADCAST_JSON"
    assert capsys.readouterr().err == f"broadcast-server connect: error: {reason}\n"


def test_a_slow_command(program: list[str], url: str, tmp_path: Path) -> None:
    """Commands run one at a time, and a listener that leaves waits for the running one.

    The message of that command counts as handled: the next run continues with the message after.
    """
    cursor_file, gate = tmp_path / "place", tmp_path / "gate"
    os.mkfifo(gate)
    command = f"""echo "begun $BROADCAST_EVENT_TEXT"; read go <{gate}; echo "done $go" """
    listen = ["connect", url, "--room", "slow", "--listen", "--since", str(cursor_file), "--exec"]
    with running(*program, *listen, "sh", "-c", command) as listener:
        until(cursor_file.exists, "a listener")
        say(url, "slow", "n", "1", "2", "3")
        until(lambda: listener.lines == ["begun 1"], "the first")
        gate.write_text("first\n")
        until(lambda: listener.lines[1:] == ["done first", "begun 2"], "the second")
        listener.process.send_signal(signal.SIGTERM)
        gate.write_text("second\n")
        assert listener.wait() == 0
        assert listener.lines[3:] == ["done second"]
        assert listener.errors == ""
    assert cursor_file.read_text().endswith(".2\n")
    done = shell(f'"$@" connect {url} --since {cursor_file} </dev/null', program)
    assert done.output == "n: 3\n"


def test_a_command_that_does_not_end(program: list[str], url: str, tmp_path: Path) -> None:
    """A command that ignores SIGTERM is killed on leaving, and runs again next time."""
    cursor_file = tmp_path / "place"
    code = (
        "import sys; import broadcast_server.pipe.exec_sink as sink\n"
        "sink.EXIT_TIMEOUT_S = sink.KILL_AFTER_S = 0.05\n"
        "import broadcast_server.__main__ as program; sys.exit(program.run())"
    )
    command = 'trap "" TERM; echo begun; while :; do sleep 0.01; done'
    listen = ["connect", url, "--room", "endless", "--listen"]
    listen += ["--since", str(cursor_file), "--exec"]
    with running(program[0], "-c", code, *listen, "sh", "-c", command) as listener:
        assert listener.process.stdin is not None
        listener.process.stdin.write(b"here\n")  # sent when it is live, and no message for itself
        listener.process.stdin.flush()
        until(lambda: said(url, "endless") == ["anonymous: here"], "a listener")
        say(url, "endless", "n", "hi")
        until(lambda: listener.lines == ["begun"], "the command")
        assert listener.signal(signal.SIGTERM) == 0
    assert cursor_file.read_text().endswith(".1\n")


@pytest.mark.parametrize(
    "text", ["x" * 131_072, "é" * 65_536, "x" + "é" * 65_535, "\U0001f600" * 32_768]
)
def test_the_longest_message(text: str, program: list[str], processes: Processes) -> None:
    """The command runs for it: the variable has as much as fits, standard input all of it."""
    large = processes.url(tuple(program), ("--max-message-bytes", "131072"))
    room = f"long{len(text)}{ord(text[0])}"
    say(large, room, "ann", text)
    command = """printf %s "$BROADCAST_EVENT_TEXT" | wc -c; echo "$BROADCAST_EVENT_TEXT"; cat"""
    connect = f'"$@" connect {large} --room {room} --history 1'
    script = f'{connect} --exec -- sh -c "$COMMAND" </dev/null'
    done = shell(script, program, COMMAND=command)
    assert (done.code, done.errors) == (0, "")
    size, shown, event = done.output.splitlines()
    kept, mark = shown[:-11], shown[-11:]
    assert mark == "… (cut off)"
    assert 131_047 <= int(size) <= 131_050
    assert text.startswith(kept)
    assert json.loads(event)["text"] == text


def test_only_a_text_that_does_not_fit_is_cut_off() -> None:
    """The longest text that fits is as it was sent."""
    name = "BROADCAST_EVENT_TEXT"
    fits = "x" * (131_072 - len(f"{name}=\0"))
    for text in fits, f"{fits}x":
        variables = event_variables(Message(1, "ann", text, AT), "ops", "ep")
        assert (variables[name] == text) == (text == fits)
        subprocess.run([sys.executable, "-c", ""], check=True, env=variables)
