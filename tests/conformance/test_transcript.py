"""The transcript: `history`, `/save` and the log have the same messages, on each kind of server."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import DAPHNE, Processes
from deployments import INSTALLED
from programs import Finished, say, shell

from broadcast_server.client.client import ReconnectingClient
from broadcast_server.client.session import ClientSession
from broadcast_server.console.time_limit import run_within
from broadcast_server.terminal.saver import Saver

COUNT = 700
"""More than one batch of the output, and more than one page of a database."""


@pytest.fixture(params=["server", "daphne"])
def url(request: pytest.FixtureRequest, processes: Processes) -> str:
    """The standalone server, or Daphne."""
    if request.param == "server":
        return processes.url(tuple(INSTALLED), ())
    return processes.django_url(DAPHNE, ())


def fill(url: str) -> str:
    """Publish messages in a room, once for each server, and return the room."""
    room = "minutes"
    if not lines_of(shell(f'"$@" history {room} {url} --last 1', list(INSTALLED))):
        say(url, room, "ann", *(f"line {number}" for number in range(COUNT - 1)), "é\x1b[2J\ntwo")
    return room


def lines_of(done: Finished) -> list[str]:
    """Return the lines of an output without errors."""
    assert (done.code, done.errors) == (0, "")
    return done.output.splitlines()


def test_history_prints_all(program: list[str], url: str) -> None:
    """As text each line has time and name, as JSON each message is a line; the last N on demand."""
    room = fill(url)
    lines = lines_of(shell(f'"$@" history {room} {url}', program, LC_ALL="C.UTF-8"))
    assert [line.partition("Z ")[2] for line in lines[-3:]] == [
        f"ann: line {COUNT - 2}",
        "ann: é\ufffd[2J",
        "ann: two",
    ]
    assert len(lines) == COUNT + 1
    events = [
        json.loads(line) for line in lines_of(shell(f'"$@" history {room} {url} --json', program))
    ]
    assert [event["seq"] for event in events] == [*range(1, COUNT + 1)]
    assert events[-1]["text"] == "é\x1b[2J\ntwo"
    host = urlsplit(url).netloc
    for words in (f"{room} {host}", f"ws://{host}/?room={room}", f"{host}/{room}"):
        last = shell(f'"$@" history {words} --last 2', program, LC_ALL="C.UTF-8")
        assert lines_of(last) == lines[-3:], words
    assert lines_of(shell(f'"$@" history nothing-here {url}', program)) == []
    done = shell(f'"$@" history {room} {url} | head -1', program)
    assert (done.output, done.errors) == (f"{lines[0]}\n", "")


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (
            "ops 127.0.0.1:1",
            1,
            "Could not connect to server at ws://127.0.0.1:1/ (connection refused",
        ),
        ("'a b'", 1, "Could not connect to server at ws://127.0.0.1:8765/"),
        ("--last 0", 2, "argument --last: 0 is not between 1 and 1000000000"),
        ("a?b", 2, "argument ROOM: room "),
    ],
)
def test_history_that_cannot_be_read(program: list[str], words: str, code: int, error: str) -> None:
    """One line says why, and the exit codes are those of the other commands."""
    done = shell(f'"$@" history {words}', program)
    assert (done.code, done.output) == (code, "")
    assert error in done.errors and done.errors.count("\n") == 1


@pytest.mark.parametrize("name", ["minutes.txt", "minutes.ndjson", "minutes.JSON"])
def test_save_in_the_terminal(url: str, tmp_path: Path, name: str) -> None:
    """`/save FILE` writes all messages, as JSON lines by the suffix, and replaces no file."""
    room = fill(url)

    async def save(file: Path) -> str:
        client = ReconnectingClient(url, {}, ClientSession("bob", room))
        told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        Saver().save(client, str(file), told.set_result)
        return await run_within(told, 30)

    path = tmp_path / name
    assert asyncio.run(save(path)) == f"saved {COUNT} messages to {path}"
    lines = path.read_text("utf-8").splitlines()
    if name.endswith(".txt"):
        assert len(lines) == COUNT + 1 and lines[-1].endswith("Z ann: two")
    else:
        assert [json.loads(line)["seq"] for line in lines] == [*range(1, COUNT + 1)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for again in (path, tmp_path):
        told = asyncio.run(save(again))
        assert told == f"not saved: {again} exists already (choose another name)"
    told = asyncio.run(save(tmp_path / "none" / "file"))
    assert told.startswith("not saved: ") and told.endswith("none/file: no such file or directory")
    assert [each.name for each in tmp_path.iterdir()] == [name]
