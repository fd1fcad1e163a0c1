"""Child processes: the command line as a user runs it. No process outlives its test."""

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

ROOT = Path(__file__).resolve().parent.parent
"""The project's root directory."""

PATIENCE = 60.0
"""Seconds that a test waits for a condition before it fails."""


def pause(waited: float) -> float:
    """Return how long to sleep until a condition is asked again, after *waited* seconds.

    A condition may cost another process a request, so the longer it takes the less it is asked.
    """
    return min(0.005 + waited / 10, 0.05)


def until(condition: Callable[[], object], what: str = "") -> None:
    """Poll until *condition* holds. *what* names it in the failure."""
    begin = time.monotonic()
    while not condition():
        waited = time.monotonic() - begin
        assert waited < PATIENCE, f"timed out: {what}"
        time.sleep(pause(waited))


def assert_quiet(errors: str) -> None:
    """Assert that a program printed no traceback or warning."""
    for word in ("Traceback", "Exception ignored", "Warning", "never retrieved", "Fatal"):
        assert word not in errors, errors


@dataclass
class Running:
    """A running program, and the files that hold its output."""

    process: subprocess.Popen[bytes]
    stdout: Path
    stderr: Path

    @property
    def output(self) -> str:
        """What the program has written to standard output."""
        return self.stdout.read_text("utf-8")

    @property
    def lines(self) -> list[str]:
        """The lines that the program has written to standard output."""
        return self.output.splitlines()

    @property
    def errors(self) -> str:
        """What the program has written to standard error."""
        return self.stderr.read_text("utf-8")

    @property
    def url(self) -> str:
        """The address at which the standalone server listens."""
        until(lambda: "\n" in self.errors, "a server that listens")
        first = self.errors.splitlines()[0]
        assert re.fullmatch(r"listening on (wss?://(\S+):\d+/|unix:\S+)", first), self.errors
        return first.split()[-1]

    @property
    def port(self) -> str:
        """The port at which the standalone server listens."""
        return self.url.rpartition(":")[2].rstrip("/")

    @property
    def rss(self) -> int:
        """The resident memory of the process, in bytes."""
        command = ["ps", "-o", "rss=", "-p", str(self.process.pid)]
        return 1024 * int(subprocess.run(command, check=True, capture_output=True).stdout)

    def say(self, text: str) -> None:
        """Write to the program's standard input."""
        stdin = self.process.stdin
        assert stdin is not None
        stdin.write(text.encode())
        stdin.flush()

    def end(self) -> int:
        """Close the program's standard input, wait for its end, and return its exit code."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        return self.wait()

    def signal(self, number: int) -> int:
        """Send the program a signal, wait for its end, and return its exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the program's end, and return its exit code. It must not print a traceback."""
        code = self.process.wait(PATIENCE)
        assert_quiet(self.errors)
        return code


def listening(site: Running) -> str:
    """Return the address at which a Django deployment listens under Daphne or uvicorn."""
    pattern = re.compile(r"(?:Listening on TCP address |running on http://)(\S+:\d+)")
    try:
        until(lambda: pattern.search(site.errors) or site.process.poll(), "a server that listens")
        match = pattern.search(site.errors)
    except AssertionError:
        # Its faulthandler prints where each thread is.
        site.process.send_signal(signal.SIGABRT)
        site.process.wait(PATIENCE)
        raise AssertionError(f"a server does not listen:\n{site.errors}") from None
    assert match is not None, f"a server ended with {site.process.poll()}:\n{site.errors}"
    return f"ws://{match[1]}/"


@contextmanager
def running(
    *command: str,
    stdin: int | IO[bytes] | None = subprocess.PIPE,
    pass_fds: Sequence[int] = (),
    **environment: str,
) -> Iterator[Running]:
    """Run a program; kill it at the end if it still runs. *environment* adds variables."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=pass_fds,
                env={**os.environ, "PYTHONFAULTHANDLER": "1", **environment},
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
    """Publish messages in a room over the HTTP API."""
    for text in texts:
        _request(url, "POST", f"?{urlencode({'room': room, 'name': name})}", text.encode())


def said(url: str, room: str) -> list[str]:
    """Return the messages of a room as ``name: text``, over the HTTP API."""
    body = _request(url, "GET", f"stream?{urlencode({'room': room, 'history': 999, 'poll': 1})}")
    events = [json.loads(line) for line in body.splitlines()]
    return [f"{each['name']}: {each['text']}" for each in events if each["type"] == "message"]


def _request(url: str, method: str, target: str, body: bytes | None = None) -> str:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE)
    with closing(connection):
        connection.request(method, f"/{target}", body)
        response = connection.getresponse()
        assert response.status == 200
        return response.read().decode()


@dataclass(frozen=True)
class Finished:
    """The result of a command that has ended."""

    code: int
    output: str
    errors: str


def shell(script: str, program: Sequence[str], **variables: str) -> Finished:
    """Run a bash script, in which ``"$@"`` is the program, to its end."""
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
