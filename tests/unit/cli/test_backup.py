"""The backup command beside a server that runs, and a server whose log file is moved."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from programs import PATIENCE, ROOT, Running, running, say, until

SERVER = sys.executable, "-m", "broadcast_server"


def poll(server: Running, query: str = "") -> tuple[dict[str, Any], list[str]]:
    """Return the welcome and the messages that a subscriber gets."""
    with closing(HTTPConnection("127.0.0.1", int(server.port), timeout=PATIENCE)) as connection:
        connection.request("GET", f"/stream?poll=1{query}")
        first, *rest = map(json.loads, connection.getresponse().read().splitlines())
    return first, [event["text"] for event in rest if event["type"] == "message"]


def back_up(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `backup`."""
    return subprocess.run(
        [*SERVER, "backup", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_a_server_whose_file_is_deleted_and_restored(tmp_path: Path) -> None:
    """A file that is deleted comes back; a backup of it has new epochs, all said in one line."""
    path, copy = str(tmp_path / "rooms.log"), str(tmp_path / "copy.log")
    start = *SERVER, "start", "--port", "0", "--log"
    with running(*start, path) as server:
        say(server.url, "lobby", "bob", "one")
        epoch = poll(server)[0]["epoch"]
        Path(path).unlink()
        until(lambda: "was renamed or deleted: it was written anew" in server.errors, "a warning")
        say(server.url, "lobby", "bob", "two")
        done = back_up(path, copy)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"{copy}: {Path(copy).stat().st_size // 1024} KiB\n"
        say(server.url, "lobby", "bob", "three")
        server.signal(signal.SIGKILL)
    with running(*start, path) as server:
        welcome, texts = poll(server, f"&since={epoch}.1")
        assert (welcome["epoch"], welcome["recovered"], texts) == (epoch, True, ["two", "three"])
        server.signal(signal.SIGTERM)
    Path(copy).rename(path)
    with running(*start, path) as server:
        welcome, texts = poll(server, f"&since={epoch}.2")
        assert (welcome["recovered"], welcome["missed"], texts) == (False, None, ["one", "two"])
        assert welcome["epoch"] != epoch
        assert f"log file {path} is a backup, and messages may have been sent" in server.errors
        server.signal(signal.SIGTERM)


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (("nothing.log", "copy.log"), 1, "log file nothing.log does not exist\n"),
        (("nothing.log",), 2, "required: NEW-FILE (see broadcast-server backup --help)\n"),
    ],
)
def test_a_backup_that_fails(arguments: tuple[str, ...], code: int, error: str) -> None:
    """It says why in one line."""
    done = back_up(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.endswith(error)
