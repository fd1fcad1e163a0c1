"""Programs: the command line as a user runs it, in processes that are gone at the end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import IO
from urllib.parse import urlencode, urlsplit

PATIENCE = 20.0
"""Seconds after which something that should have happened is given up."""


def until(condition: Callable[[], object], what: str = "") -> None:
    """Look again and again whether *condition* holds, as nobody would tell us."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"in vain: {what}"
        time.sleep(0.005)


def assert_quiet(errors: str) -> None:
    """No program may ever show what only its authors understand."""
    for word in ("Traceback", "Exception ignored", "Warning", "never retrieved", "Fatal"):
        assert word not in errors, errors


@dataclass
class Running:
    """A program that runs, and the files that it writes to."""

    process: subprocess.Popen[bytes]
    stdout: Path
    stderr: Path

    @property
    def output(self) -> str:
        """What it has written to standard output."""
        return self.stdout.read_text("utf-8")

    @property
    def lines(self) -> list[str]:
        """What it has written to standard output, in lines."""
        return self.output.splitlines()

    @property
    def errors(self) -> str:
        """What it has written to standard error."""
        return self.stderr.read_text("utf-8")

    @property
    def url(self) -> str:
        """Where it listens, if it is a server."""
        until(lambda: "\n" in self.errors, "a server that listens")
        first = self.errors.splitlines()[0]
        assert re.fullmatch(r"listening on (wss?://(\S+):\d+/|unix:\S+)", first), self.errors
        return first.split()[-1]

    @property
    def port(self) -> str:
        """The port where it listens, if it is a server."""
        return self.url.rpartition(":")[2].rstrip("/")

    @property
    def rss(self) -> int:
        """How much memory it holds, in bytes."""
        command = ["ps", "-o", "rss=", "-p", str(self.process.pid)]
        return 1024 * int(subprocess.run(command, check=True, capture_output=True).stdout)

    def say(self, text: str) -> None:
        """Write to its standard input."""
        stdin = self.process.stdin
        assert stdin is not None
        stdin.write(text.encode())
        stdin.flush()

    def end(self) -> int:
        """Close its standard input, and return its exit code."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        return self.wait()

    def signal(self, number: int) -> int:
        """Send it a signal, and return its exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Return its exit code, when it has ended without a word too many."""
        code = self.process.wait(PATIENCE)
        assert_quiet(self.errors)
        return code


def listening(site: Running) -> str:
    """Return where a site under Daphne or uvicorn listens."""
    pattern = re.compile(r"(?:Listening on TCP address |running on http://)(\S+:\d+)")
    until(lambda: pattern.search(site.errors), "a site that listens")
    found = pattern.search(site.errors)
    assert found is not None
    return f"ws://{found[1]}/"


@contextmanager
def running(
    *command: str,
    stdin: int | IO[bytes] | None = subprocess.PIPE,
    pass_fds: Sequence[int] = (),
    **environment: str,
) -> Iterator[Running]:
    """Run a program, and kill it if need be."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=pass_fds,
                env={**os.environ, **environment},
            )
        program = Running(process, out, err)
        try:
            yield program
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()
            if process.stdin is not None:
                process.stdin.close()


def say(url: str, room: str, name: str, *texts: str) -> None:
    """Say something in a room, without a process for it."""
    for text in texts:
        _ask(url, "POST", f"?{urlencode({'room': room, 'name': name})}", text.encode())


def said(url: str, room: str) -> list[str]:
    """Return what was said in a room, without a process for it."""
    answer = _ask(url, "GET", f"stream?{urlencode({'room': room, 'history': 999, 'poll': 1})}")
    events = [json.loads(line) for line in answer.splitlines()]
    return [f"{each['name']}: {each['text']}" for each in events if each["type"] == "message"]


def _ask(url: str, method: str, target: str, body: bytes | None = None) -> str:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE)
    with closing(connection):
        connection.request(method, f"/{target}", body)
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read().decode()


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int
    output: str
    errors: str


def shell(script: str, program: Sequence[str], **variables: str) -> Finished:
    """Run a line of bash, in which "$@" is the program, to its end."""
    done = subprocess.run(
        ["bash", "-c", script, "bash", *program],
        check=False,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=PATIENCE,
        env={**os.environ, **variables},
    )
    finished = Finished(done.returncode, done.stdout.decode(), done.stderr.decode())
    assert_quiet(finished.errors)
    return finished
