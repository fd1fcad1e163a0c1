"""Suspending: Ctrl+Z, `kill -TSTP` and `kill -STOP` at a shell with job control, and `fg`."""

from __future__ import annotations

import os
import re
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pexpect
import pytest
from conftest import Processes
from programs import running, said, say, until
from services import free_port
from terminal_person import CTRL_C, CTRL_D, ENTER, TIME, Person, person

CTRL_Z, CTRL_Q = "\x1a", "\x11"
STOPPED = r"\[1\] ?\+? +Stopped.*"
MODE = r"[0-9a-f]+(?::[0-9a-f]+){30,}"
"""What `stty -g` prints: all modes of the terminal."""


@pytest.fixture
def url(processes: Processes, program: list[str]) -> str:
    """The address of a server."""
    return processes.url(tuple(program), ("--max-rooms", "9999"))


@contextmanager
def shell_at_terminal(name: str = "bash") -> Iterator[Person]:
    """Run a shell at a terminal of its own, and kill all of its session at the end."""
    command = ["bash", "--norc", "--noprofile", "-i"] if name == "bash" else ["dash", "-i"]
    environment = {**os.environ, "TERM": "xterm-256color", "PS1": "$ ", "BASH_SILENCE": "1"}
    child = pexpect.spawn(
        command[0], command[1:], env=environment, dimensions=(30, 120), encoding="utf-8"
    )
    child.delaybeforesend = None
    try:
        yield Person(child, 120, 30)
    finally:
        for pid in processes_of(child.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        child.close(force=True)


def processes_of(session: int | None) -> list[int]:
    """Return the processes of a *session* but its leader."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[3]) == session and int(folder.name) != session:
            found.append(int(folder.name))
    return found


def state(pid: int) -> str:
    """Return the state of a process: T if it is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def modes(person: Person) -> list[str]:
    """Return what `stty -g` has printed, for each time that it was run."""
    return re.findall(MODE, "\n".join(person.lines))


def line_of(program: list[str], *arguments: str) -> str:
    """Return the command line that a shell runs as *program*."""
    return shlex.join([*program, *arguments])


@pytest.mark.parametrize("shell", ["bash", "dash"])
@pytest.mark.parametrize("how", ["key", "TSTP", "STOP"])
def test_a_prompt_is_suspended(program: list[str], url: str, shell: str, how: str) -> None:
    """The shell gets its terminal as it was, and after `fg` the chat goes on as it was."""
    room = f"suspend-{shell}-{how.lower()}"
    with shell_at_terminal(shell) as ann:
        ann.sees(r"\$")
        ann.types("stty -g", ENTER)
        ann.sees(MODE, r"\$")
        before = modes(ann)
        ann.types(line_of(program, "connect", url, "--room", room, "--name", "ann"), ENTER)
        ann.sees("-- /help for help --")
        ann.types("half")
        ann.has_prompt("half")
        (pid,) = processes_of(ann.child.pid)
        if how == "key":
            ann.types(CTRL_Z)
        else:
            os.kill(pid, getattr(signal, f"SIG{how}"))
        until(lambda: state(pid) == "T", "a process that is stopped")
        ann.sees(f".*{STOPPED}", r".*\$")  # else the shell has not taken its terminal back
        newline = "\n" if (shell, how) == ("dash", "STOP") else ENTER  # it stays in raw mode
        ann.types("stty -g", newline)
        ann.sees(MODE, f".*{MODE}")
        if newline == ENTER:  # bash restores it by itself, dash does not
            ann.sees(STOPPED, MODE, r"\$")
            assert modes(ann) == before * 2
            assert not ann.bars or how == "STOP"  # it could not erase it before
        say(url, room, "bob", "while you were away")
        ann.types("fg", newline)
        ann.sees(TIME + "  bob: while you were away")
        ann.has_prompt("half")
        ann.has_status(f"{room} · 1 here · ann · connected")
        ann.types(" done", ENTER)
        ann.sees(TIME + "> ann: half done")
        ann.types(CTRL_D)
        ann.sees(r"\$")
        ann.types("stty -g", ENTER)
        ann.sees(MODE, f".*{MODE}", MODE, r"\$")
        assert modes(ann)[-1] == before[0]
    assert said(url, room) == ["bob: while you were away", "ann: half done"]


def test_in_the_background_it_stops_again(program: list[str], url: str) -> None:
    """After `bg` the prompt does not take the keyboard from the shell, nor wait for it after `fg`.

    What is typed while the shell does something else can be read when the program continues.
    """
    with shell_at_terminal() as ann:
        ann.sees(r"\$")
        ann.types(line_of(program, "connect", url, "--room", "bg", "--name", "ann"), ENTER)
        ann.sees("-- /help for help --")
        (pid,) = processes_of(ann.child.pid)
        for how in (signal.SIGTSTP, signal.SIGSTOP):
            os.kill(pid, how)
            ann.sees(STOPPED, r"\$")
            ann.types("clear", ENTER, "bg; sleep 0.5", ENTER, "echo $((2*21))", ENTER)
            ann.sees("42", r"\$")
            until(lambda: state(pid) == "T", "a process that is stopped again")
            ann.types("fg", ENTER)
            ann.has_prompt()
        ann.types("here", ENTER)
        ann.sees(TIME + "> ann: here")


def test_a_server_that_restarts_meanwhile(program: list[str], tmp_path: Path) -> None:
    """What was published while the client was suspended is there after `fg`, once."""
    port, log = str(free_port()), str(tmp_path / "log")
    start = (*program, "start", "--port", port, "--log", log)
    with running(*start) as server, shell_at_terminal() as ann:
        ann.sees(r"\$")
        ann.types(line_of(program, "connect", server.url, "--name", "ann"), ENTER)
        ann.sees("-- /help for help --")
        ann.types(CTRL_Z)
        ann.sees(STOPPED, r"\$")
        say(server.url, "lobby", "bob", "one")
        assert server.signal(signal.SIGKILL) == -signal.SIGKILL
        with running(*start) as again:
            say(again.url, "lobby", "bob", "two")
            ann.types("fg", ENTER)
            ann.sees(TIME + "  bob: one", TIME + "  bob: two")
            ann.types("three", ENTER)
            ann.sees(TIME + "> ann: three")
            ann.types(CTRL_D)
            assert said(again.url, "lobby") == ["bob: one", "bob: two", "ann: three"]
            assert sum("bob: " in line for line in ann.lines) == 2


def test_a_prompt_without_a_shell_is_not_suspended(program: list[str], url: str) -> None:
    """Where nobody could continue it, as in a window of its own, Ctrl+Z does nothing."""
    with person(program, url, "--room", "window", "--name", "ann") as ann:
        ann.sees("-- /help for help --")
        ann.types("a", CTRL_Z, CTRL_Q, CTRL_Z, "b")
        assert ann.child.pid is not None
        os.kill(ann.child.pid, signal.SIGTSTP)
        ann.types(ENTER)
        ann.sees(TIME + "> ann: ab")
        ann.has_prompt()


@pytest.mark.parametrize("options", [["--plain"], []])
def test_lines_are_suspended(program: list[str], url: str, options: list[str]) -> None:
    """In plain mode, and in a pipe, the shell suspends the job and continues it."""
    room = f"lines{len(options)}"
    command = line_of(program, "connect", url, "--room", room, "--name", "ann", *options)
    with shell_at_terminal() as ann:
        ann.sees(r"\$")
        ann.types(command if options else f"cat | {command}", ENTER)
        until(lambda: len(processes_of(ann.child.pid)) == 2 - len(options), "the job")
        ann.types("one", ENTER)  # before the program is there, as one does
        ann.sees("Each line is a message.*" if options else "ann: one")
        ann.types("two")
        ann.sees(".*two")
        ann.types(CTRL_Z)
        ann.sees(STOPPED)
        say(url, room, "bob", "away")
        ann.types("fg", ENTER)
        if options:
            ann.types("three", ENTER)
            ann.sees(".*three", "bob: away")
            until(lambda: len(said(url, room)) == 3, "the last line in the room")
            ann.types("/history 3", ENTER)
            ann.sees("ann: one", "bob: away", "ann: twothree")
        else:
            ann.sees("bob: away")
            ann.types("three", ENTER)
            ann.sees("ann: .*three")
        ann.types(CTRL_D)
        ann.sees(r".*\$")


@pytest.mark.parametrize("how", ["key", "TSTP to run", "TSTP to the command"])
def test_run_is_suspended_with_its_command(program: list[str], url: str, how: str) -> None:
    """A command and `run` are suspended and continued together, whichever of them is told."""
    room = f"run-{how[:8].strip().replace(' ', '-').lower()}-{len(how)}"
    command = ("--label", "it", "--", "sh", "-c", "echo up; exec cat")
    with shell_at_terminal("dash") as ann:
        ann.sees(r"\$")
        ann.types(line_of(program, "run", url, "--room", room, *command), ENTER)
        ann.sees("up")
        run, child = sorted(processes_of(ann.child.pid))
        if how == "key":
            ann.types(CTRL_Z)
        else:
            os.kill(run if how == "TSTP to run" else child, signal.SIGTSTP)
        ann.sees(STOPPED)
        until(lambda: state(run) == state(child) == "T", "both are stopped")
        ann.types("fg", ENTER)
        until(lambda: state(run) == state(child) == "S", "both continue")
        ann.types("a line", ENTER)
        ann.sees("a line", "a line")
        ann.types(CTRL_D)
        ann.sees(r".*\$")
        until(lambda: len(said(url, room)) == 2, "the end of the command")
    started, ended = said(url, room)
    assert (started, ended.partition(" after ")[0]) == (
        "anonymous: started: it",
        "anonymous: it ended with 0",
    )


def test_a_command_that_does_not_stop_is_not_left_alone(program: list[str], url: str) -> None:
    """`run` is suspended only with its command: one that ignores Ctrl+Z keeps the terminal.

    Nor is it when somebody stops the command alone, whose end it could not report then.
    """
    command = ("sh", "-c", "trap '' TSTP; echo up; exec cat")
    with shell_at_terminal("dash") as ann:
        ann.sees(r"\$")
        ann.types(line_of(program, "run", url, "--only-failures", "--", *command), ENTER)
        ann.sees("up")
        run, child = sorted(processes_of(ann.child.pid))
        ann.types(CTRL_Z, "a line", ENTER)
        ann.sees(".*a line", "a line")
        os.kill(run, signal.SIGTSTP)
        os.kill(child, signal.SIGSTOP)
        until(lambda: state(child) == "T", "a command that is stopped")
        os.kill(child, signal.SIGCONT)
        ann.types("another", ENTER)
        ann.sees("another", "another")
        assert state(run) == "S"
        ann.types(CTRL_D)
        ann.sees(r".*\$")


def test_a_command_in_a_session_of_its_own(program: list[str], url: str) -> None:
    """The keys of the terminal reach a command that has left our process group."""
    code = "trap 'echo caught; exit 5' INT; echo up; while :; do sleep 0.1; done"
    with shell_at_terminal("dash") as ann:
        ann.sees(r"\$")
        command = ("--only-failures", "--", "setsid", "sh", "-c", code)
        ann.types(line_of(program, "run", url, "--room", "own", *command), "; echo $?", ENTER)
        ann.sees("up")
        ann.types(CTRL_C)
        ann.sees(".*caught", "5")
