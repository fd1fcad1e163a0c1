"""A database that is restored from a copy: no number comes twice in an epoch."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from conftest import DAPHNE
from programs import PATIENCE, ROOT, Running, listening, running, say, until
from services import postgresql_server, site_folder

COPY = "the database is a copy or was moved: all rooms have new epochs"


def welcome(url: str, since: str = "") -> dict[str, Any]:
    """Return the welcome of a subscriber who comes back with a cursor."""
    with closing(HTTPConnection(url[5:-1], timeout=PATIENCE)) as connection:
        connection.request("GET", f"/stream?poll=1&since={since}" if since else "/stream?poll=1")
        first: dict[str, Any] = json.loads(connection.getresponse().read().splitlines()[0])
    return first


def epoch_of(url: str) -> str | None:
    """Return the epoch of the lobby, None while the site is closing the room."""
    with closing(HTTPConnection(url[5:-1], timeout=PATIENCE)) as connection:
        connection.request("GET", "/stream?poll=1")
        response = connection.getresponse()
        line = response.read().splitlines()[0]
    if response.status == HTTPStatus.SERVICE_UNAVAILABLE:
        return None
    return str(json.loads(line)["epoch"])


@contextmanager
def site(**variables: str) -> Iterator[tuple[Running, str]]:
    """A site, and its address. It must exit cleanly."""
    with running(*DAPHNE, stdin=None, pass_fds=(), **variables) as process:
        yield process, listening(process)
        assert process.signal(signal.SIGTERM) == 0


def test_a_file_that_is_restored(tmp_path: Path) -> None:
    """SQLite: a file that was put back has new epochs at the next start, and keeps them then."""
    data = {"BROADCAST_DATA": site_folder(tmp_path)}
    with site(**data) as (_, url):
        say(url, "lobby", "bob", "one")
        (file,) = tmp_path.glob("*.sqlite3")
        with closing(sqlite3.connect(file)) as base:
            base.execute("VACUUM INTO ?", (str(tmp_path / "copy"),))
        say(url, "lobby", "bob", "two")
        epoch = welcome(url)["epoch"]
    with site(**data) as (process, url):
        again = welcome(url, f"{epoch}.2")
        assert (again["epoch"], again["recovered"], COPY in process.errors) == (epoch, True, False)
    (tmp_path / "copy").rename(file)
    with site(**data) as (process, url):
        say(url, "lobby", "bob", "other")
        restored = welcome(url, f"{epoch}.2")
        assert (restored["seq"], restored["recovered"], restored["missed"]) == (2, False, None)
        assert COPY in process.errors


@pytest.mark.parametrize("removed", [True, False])
def test_a_file_that_is_gone_while_the_site_runs(tmp_path: Path, removed: bool) -> None:
    """SQLite: if the file is replaced or removed, nothing is confirmed that would be lost."""
    with site(BROADCAST_DATA=site_folder(tmp_path)) as (process, url):
        say(url, "lobby", "bob", "one")
        (file,) = tmp_path.glob("*.sqlite3")
        if removed:
            file.unlink()
        else:
            with closing(sqlite3.connect(file)) as base:
                base.execute("VACUUM INTO ?", (str(tmp_path / "copy"),))
            (tmp_path / "copy").rename(file)
        what = f"the file {file} was {'removed' if removed else 'replaced'} while the site was"
        with closing(HTTPConnection(url[5:-1], timeout=PATIENCE)) as connection:
            connection.request("POST", "/", b"two")
            until(lambda: what in process.errors, "a line in the log")
        assert "Traceback" not in process.errors


def test_a_database_that_is_restored() -> None:
    """PostgreSQL: the same for rows that another transaction wrote, and while the site runs."""
    with tempfile.TemporaryDirectory() as folder, postgresql_server(Path(folder, "pg")) as server:
        variables = {"DATABASE_URL": server.url, "SECRET_KEY": "k" * 50}

        def new_epoch(url: str, before: str, seq: int) -> str:
            """Wait for a new epoch, in which message *seq* of the one before is not known."""
            until(lambda: epoch_of(url) not in (None, before), "a new epoch")
            now = welcome(url, f"{before}.{seq}")
            assert (now["recovered"], now["missed"]) == (False, None)
            return str(now["epoch"])

        with site(**variables) as (_, url):
            say(url, "lobby", "bob", "one", "two", "three")
            first = welcome(url)["epoch"]
            with closing(HTTPConnection(url[5:-1], timeout=PATIENCE)) as listener:
                listener.request("GET", "/stream")
                lines = listener.getresponse()
                assert json.loads(lines.readline())["epoch"] == first
                # A part of what a restored dump would be: the room as it was two messages before.
                server.run("DELETE FROM django_site_message WHERE seq > 1")
                server.run("UPDATE django_site_room SET head = 1")
                until(lambda: json.loads(lines.readline())["type"] == "error", "an end")
            second = new_epoch(url, first, 3)
            say(url, "lobby", "bob", "other")
            done = subprocess.run(
                [sys.executable, "manage.py", "new_epochs"],
                cwd=ROOT,
                env={**os.environ, **variables},
                capture_output=True,
                text=True,
                check=True,
            )
            assert done.stdout == "1 room has new epochs\n"
            third = new_epoch(url, second, 2)
        with site(**variables) as (process, url):
            assert welcome(url, f"{third}.2")["recovered"] and COPY not in process.errors
        server.run("CREATE TABLE dump AS SELECT * FROM django_site_origin")
        server.run("DELETE FROM django_site_origin")
        server.run("INSERT INTO django_site_origin SELECT * FROM dump")
        with site(**variables) as (process, url):
            new_epoch(url, third, 2)
            assert COPY in process.errors
