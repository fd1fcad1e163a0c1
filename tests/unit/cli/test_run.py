"""The run command: reports a command to a room, without affecting the command."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
from conftest import Processes
from programs import PATIENCE, assert_quiet, running, said, shell, until
from services import free_port

from broadcast_server.cli.main import main
from broadcast_server.pipe.process_text import command_text, duration_text


@pytest.fixture(autouse=True)
def restored_signals() -> Iterator[None]:
    """Give back the handlers of signals: `run` leaves them ignored, since its process ends then."""
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    yield
    for number, handler in before.items():
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@pytest.fixture
def url(processes: Processes, program: list[str]) -> str:
    """The address of a server."""
    # A server of its own, because the deployments' tests use rooms of the same names.
    return processes.url(tuple(program), ("--max-rooms", "9999"))


def reports(url: str, room: str) -> list[str]:
    """Return the messages of a room, without the durations in them."""
    return [re.sub(r" after \d+\.\d s$", "", line) for line in said(url, room)]


# -- texts --


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 0 s"),
     (192.3, "3 min 12 s"), (3599.6, "1 h 0 min"), (90_061, "25 h 1 min")],
)  # fmt: skip
def test_duration_text(seconds: float, text: str) -> None:
    """A longer duration is shown with less precision."""
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (["make", "test"], "make test"),
        (["sh", "-c", "a\nb   c"], "sh -c 'a b c'"),
        (["x" * 300], "x" * 199 + "…"),
        (["\udcff"], "'\ufffd'"),
    ],
)
def test_command_text(command: list[str], text: str) -> None:
    """A command is shown as it is typed, in one line of bounded length."""
    assert command_text(command) == text


# -- the command --


def test_the_exit_code_is_the_commands(program: list[str], url: str, tmp_path: Path) -> None:
    """The exit code is the command's, or the one a shell would return, and the room sees it."""
    (tmp_path / "text").write_text("no program")
    script = f"""run="run {url} --room codes --name ci"
        "$@" $run -- true; echo $?
        "$@" $run -- sh -c 'exit 3'; echo $?
        "$@" $run -- sh -c 'kill -KILL $$' -- --name x; echo $?
        "$@" $run -- no-such-command; echo $?
        "$@" $run --label 'the  nightly' -- {tmp_path}/text; echo $?"""
    done = shell(script, program)
    assert done.output.split() == ["0", "3", "137", "127", "126"]
    assert done.errors.splitlines() == [
        "broadcast-server run: no-such-command: command not found",
        f"broadcast-server run: {tmp_path}/text: permission denied",
    ]
    assert reports(url, "codes") == [
        "ci: started: true",
        "ci: true ended with 0",
        "ci: started: sh -c 'exit 3'",
        "ci: sh -c 'exit 3' ended with 3",
        "ci: started: sh -c 'kill -KILL $$' -- --name x",
        "ci: sh -c 'kill -KILL $$' -- --name x was killed by SIGKILL",
        "ci: no-such-command did not start: command not found",
        "ci: the nightly did not start: permission denied",
    ]


def test_only_failures(program: list[str], url: str) -> None:
    """With ``--only-failures`` nothing is reported about a command that exits with 0."""
    script = f"""run="run {url} --room failures --only-failures"
        "$@" $run -- true; "$@" $run -- false"""
    done = shell(script, program)
    assert (done.code, done.output, done.errors) == (1, "", "")
    assert reports(url, "failures") == ["anonymous: false ended with 1"]


def test_the_command_inherits_streams(program: list[str], url: str) -> None:
    """The command inherits all open files, and none of our output goes into them."""
    script = f"""exec 3>&1; echo in | "$@" run {url} --room streams --only-failures -- \\
        sh -c 'cat; echo e >&2; echo 3 >&3'"""
    done = shell(script, program)
    assert (done.code, done.output, done.errors) == (0, "in\n3\n", "e\n")


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("BROADCAST_PORT", "70000", "--port: 70000 is not between 1 and 65535"),
        ("BROADCAST_ROOM", "The Lobby!", "--room: room is not 1 to 64 of"),
        ("BROADCAST_NAME", "*", "--name: name begins with *"),
        ("BROADCAST_ONLY_FAILURES", "maybe", "--only-failures: 'maybe' is not one of 1"),
        ("BROADCAST_TIMEOUT", "soon", "--timeout: 'soon' is not a whole number"),
        ("BROADCAST_URL", "ftp://h/", "ftp://h/ is not a valid address: scheme is ftp"),
        ("BROADCAST_HOST", "a b", "ws://a b:8765/ is not a valid address"),
        ("BROADCAST_UNIX", "/etc/passwd", "--unix /etc/passwd: it is no socket"),
        ("BROADCAST_TOKEN", "a b", "BROADCAST_TOKEN: a token is one line of visible"),
        ("BROADCAST_TOKEN_FILE", "/nonexistent", "token file /nonexistent: no such file"),
    ],
)
def test_no_variable_keeps_the_command_from_running(
    variable: str,
    value: str,
    problem: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A variable that cannot be used is named once, and the exit code is the command's."""
    for name in [each for each in os.environ if each.startswith("BROADCAST_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv(variable, value)
    assert main(["run", "--", "sh", "-c", "echo ran; exit 3"]) == 3
    shown = capfd.readouterr()
    assert shown.out == "ran\n"
    assert shown.err.startswith(f"* nothing is reported to the room: {problem}")
    assert variable in shown.err and shown.err.count("\n") == 1
    assert os.environ[variable] == value


def test_what_is_typed_wrong_is_an_error_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A typed address that cannot be used is wrong usage, whatever the variables are."""
    monkeypatch.setenv("BROADCAST_TOKEN", "a b")
    assert main(["run", "ftp://h/", "--", "echo", "ran"]) == 2
    shown = capfd.readouterr()
    assert "ftp://h/ is not a valid address" in shown.err and shown.out == ""


def test_the_command_does_not_get_the_token(program: list[str], url: str) -> None:
    """The command inherits the environment, but not the token in it, which it might print."""
    script = f"""KEPT=1 "$@" run {url} --room secret --only-failures -- \\
        sh -c 'echo $KEPT $BROADCAST_TOKEN_FILE; env | grep -c s3cret'"""
    done = shell(script, program, BROADCAST_TOKEN="s3cret", BROADCAST_TOKEN_FILE="/a/file")
    assert done.output == "1 /a/file\n0\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_is_forwarded(program: list[str], url: str, number: signal.Signals) -> None:
    """A signal to us alone ends the command, and the report and the exit code say so."""
    room = f"signal-{number}"
    # In a session of its own and without a terminal, so that only we get the signal.
    new_session = "import os, sys; os.setsid(); os.execv(sys.argv[1], sys.argv[1:])"
    command = ["run", url, "--room", room, "--", "sh", "-c", "echo up; exec sleep 60"]
    with running(program[0], "-c", new_session, *program, *command) as wrapper:
        until(lambda: wrapper.lines == ["up"], "the command")
        assert wrapper.signal(number) == 128 + number
        assert wrapper.errors == ""
    (started, ended) = reports(url, room)
    assert started == "anonymous: started: sh -c 'echo up; exec sleep 60'"
    assert ended == f"anonymous: sh -c 'echo up; exec sleep 60' was killed by {number.name}"


def test_ignored_signals_stay_ignored(program: list[str], url: str) -> None:
    """A signal that is ignored, as under ``nohup``, is ignored by the command as well."""
    script = f"""trap '' INT HUP
        "$@" run {url} --room ignored -- sh -c 'kill -INT $$; kill -HUP $$; echo alive; kill $$'"""
    done = shell(script, program)
    assert (done.code, done.output, done.errors) == (128 + signal.SIGTERM, "alive\n", "")


SLOW_START = """
import os, signal, subprocess, sys, time
from broadcast_server.cli.main import main

readable, writable = os.pipe()
os.set_blocking(writable, False)
signal.set_wakeup_fd(writable)

class SlowStart(subprocess.Popen):
    def __init__(self, *given, **more):
        super().__init__(*given, **more)
        os.read(readable, 1)
        time.sleep(0.3)  # so that a second signal is not one with the first

subprocess.Popen = SlowStart
sys.exit(main())
"""
"""The program, which learns of the start of a command only after a signal has arrived."""


@pytest.mark.parametrize("start", ["slow", "quick"])
def test_ctrl_c_reaches_both_once(start: str, program: list[str], url: str) -> None:
    """Ctrl+C at a terminal reaches the command once; it may continue, and its end is reported."""
    code = "trap 'echo caught' INT; echo up; for n in 1 2 3 4; do sleep 0.2; done; exit 5"
    if start == "slow":
        program = [sys.executable, "-c", SLOW_START]
    room = f"keys-{start}"
    child = pexpect.spawn(
        program[0],
        [*program[1:], "run", url, "--room", room, "--label", "it", "--", "bash", "-c", code],
        encoding="utf-8",
        timeout=PATIENCE,
    )
    try:
        child.expect_exact("up\r\n")
        child.sendintr()
        child.expect(pexpect.EOF)
        assert child.before is not None
        assert_quiet(child.before)
        assert child.before.count("caught") == 1
        child.wait()
        assert child.exitstatus == 5
    finally:
        child.close(force=True)
    assert reports(url, room) == ["anonymous: started: it", "anonymous: it ended with 5"]


# -- the room --


def test_a_server_that_is_away(program: list[str]) -> None:
    """A server that is away, or does not answer, costs one line and a bounded time."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        script = f"""
            "$@" run --port 1 --timeout 3 -- sh -c 'echo ran; exit 4'; echo $?
            SECONDS=0; "$@" run --port {port} --timeout 1 -- sh -c 'echo ran'; echo $?
            test $SECONDS -lt 10"""
        done = shell(script, program)
    assert done.output.split() == ["ran", "4", "ran", "0"]
    assert done.code == 0  # it did not wait for the response timeout
    refused, unanswered = done.errors.splitlines()
    assert refused.startswith(
        "* could not report to the room: Could not connect to server at ws://127.0"
    )
    assert unanswered == "* could not report to the room: no answer in time"


def test_a_server_that_starts_while_the_command_runs(program: list[str]) -> None:
    """Reports that could not be published at once are published later, in order."""
    port = str(free_port())
    with running(*program, "run", "--port", port, "--", "cat") as wrapper:
        wrapper.say("on\n")
        until(lambda: wrapper.output == "on\n", "a command that runs without a server")
        with running(*program, "start", "--port", port) as server:
            assert server.url
            assert wrapper.end() == 0
            assert wrapper.errors == ""
            reported = reports(server.url, "lobby")
            assert reported == ["anonymous: started: cat", "anonymous: cat ended with 0"]
            assert server.signal(signal.SIGTERM) == 0


def test_ctrl_c_ends_the_wait_for_the_server(program: list[str]) -> None:
    """Ctrl+C after the end of the command ends the wait, with the command's exit code."""
    with running(*program, "run", "--port", "1", "--timeout", "60", "--", "sh", "-c",
                 "echo up; exit 3") as wrapper:  # fmt: skip
        until(lambda: wrapper.lines == ["up"], "the command")
        pid = wrapper.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children")
        until(lambda: not children.read_text(), "its end")

        def ended() -> bool:
            # A signal that comes while the end is being noticed is for the command, and lost.
            wrapper.process.send_signal(signal.SIGINT)
            return wrapper.process.poll() is not None

        until(ended, "the end of the wait")
        assert wrapper.wait() == 3
        assert wrapper.errors == "* could not report to the room: interrupted\n"
