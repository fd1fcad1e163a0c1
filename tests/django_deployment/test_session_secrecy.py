"""Sessions in the Django deployment: in no access log, and in the tables only as digests."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psycopg
import pytest
from client_harness import member
from conftest import DAPHNE, ROOT, UVICORN
from deployments import INSTALLED
from programs import listening, running
from services import postgresql, site_folder

HEADER = "Broadcast-Session"
SESSION = "QQsecretQQ0123456789"


def files_with(folder: Path, text: str) -> list[str]:
    """Return the names of the files in *folder* that contain *text*."""
    return [each.name for each in folder.iterdir() if text.encode() in each.read_bytes()]


@pytest.mark.parametrize("command", [DAPHNE, UVICORN], ids=["daphne", "uvicorn"])
def test_our_clients_keep_the_session_out_of_every_file(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    """Neither the access log nor the database has the session of our client or of `send`."""
    sessions: list[str] = []

    async def chat(url: str) -> None:
        async with member(url) as (client, _):
            client.send("hi")
            await client.wait_confirmed()
            sessions.extend(client.session.headers.values())

    with running(*command, BROADCAST_DATA=site_folder(tmp_path), BROADCAST_TLS="no") as site:
        url = listening(site)
        asyncio.run(chat(url))
        send = [*INSTALLED, "send", "--name", "ci", "done"]
        subprocess.run(send, check=True, timeout=30, env={**os.environ, "BROADCAST_URL": url})
        request = Request(url.replace("ws", "http", 1) + f"?id=1&session={SESSION}", b"hi")
        with urlopen(request, timeout=10) as response:
            assert json.load(response)["seq"] == 3
        (session,) = sessions
        log = site.output + site.errors
        assert "POST /?name=ci" in log
        assert "POST /?id=1" in log
        assert session not in log
        assert SESSION not in log
        assert files_with(tmp_path, session) == files_with(tmp_path, SESSION) == []
        with closing(sqlite3.connect(tmp_path / "broadcast.sqlite3")) as base:
            rows = base.execute("SELECT source FROM django_site_message ORDER BY seq").fetchall()
    assert [row[0][0] for row in rows] == ["=", "=", "="]


class OldSite:
    """A database with the tables of version 0002, which has sessions in clear."""

    def __init__(self, data: Path, url: str | None) -> None:
        self.data = data
        self.environment: dict[str, Any] = {"BROADCAST_DATA": str(data), "SECRET_KEY": "k" * 50}
        if url is not None:
            self.environment["DATABASE_URL"] = url
        self._url = url
        self.migrate("django_site", "0002")

    def migrate(self, *to: str) -> None:
        """Apply the migrations, up to that one or all."""
        command = [sys.executable, str(ROOT / "manage.py"), "migrate", "--verbosity", "0", *to]
        subprocess.run(command, check=True, env={**os.environ, **self.environment}, timeout=60)

    def execute(self, statement: str, *rows: tuple[Any, ...]) -> list[Any]:
        """Execute a statement for each row, and return what the last one selects."""
        connect: Any = psycopg.connect if self._url else sqlite3.connect
        with closing(connect(self._url or self.data / "broadcast.sqlite3")) as base:
            cursor = base.cursor()
            for row in rows or [()]:
                cursor.execute(statement.replace("?", "%s") if self._url else statement, row)
            found = list(cursor.fetchall()) if statement.startswith("SELECT") else []
            base.commit()
            return found


@pytest.fixture(params=["sqlite", "postgresql"])
def old_site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OldSite]:
    """A site that was never migrated further than 0002."""
    with ExitStack() as stack:
        url = None
        if request.param == "postgresql":
            # Not in pytest's folder: PostgreSQL's user cannot read that if pytest runs as root.
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            url = stack.enter_context(postgresql(Path(folder, "postgresql"), empty=True))
        yield OldSite(tmp_path, url)


def source_of(seq: int) -> str:
    """Return the source of a message in the old table: of a session, or of a connection."""
    session = SESSION + "x" * (seq % 30)
    return [session, f"~{session}", f"#{seq}", f"~#{seq}"][seq % 4]


def test_stored_sessions_become_digests(old_site: OldSite) -> None:
    """The migration keeps all rows, recognises resent messages, and leaves no session in SQLite."""
    old_site.execute(
        "INSERT INTO django_site_room (name, epoch, head, roster, edits, closed_why)"
        " VALUES ('lobby', 'e', 2499, 0, 0, '')"
    )
    ((room,),) = old_site.execute("SELECT id FROM django_site_room")
    old_site.execute(
        "INSERT INTO django_site_message (room_id, seq, name, text, at, source, client_id)"
        " VALUES (?, ?, 'bob', 'hi', '2026-11-24 13:00:00+00:00', ?, ?)",
        *((room, seq, source_of(seq), str(seq)) for seq in range(2500)),
    )
    old_site.execute("DELETE FROM django_site_message WHERE seq >= 1000 AND seq < 1200")
    old_site.migrate()
    rows = old_site.execute("SELECT seq, source FROM django_site_message ORDER BY seq")
    assert [seq for seq, _ in rows] == [*range(1000), *range(1200, 2500)]
    for seq, source in rows:
        if seq % 4 > 1:
            assert source == source_of(seq)
        else:
            assert re.fullmatch(("=", "~=")[seq % 4] + "[A-Za-z0-9_-]{24}", source)
    assert len({source for _, source in rows if source[0] == "="}) == 15  # one for each session
    if "DATABASE_URL" not in old_site.environment:
        assert files_with(old_site.data, SESSION) == []
    with running(*DAPHNE, **old_site.environment) as site:
        url = listening(site).replace("ws", "http", 1)
        for seq, repeated in ((0, True), (60, True), (4, False)):
            request = Request(f"{url}?id={seq}", b"hi", {HEADER: SESSION})
            with urlopen(request, timeout=10) as response:
                answer = json.load(response)
            assert (answer.get("repeated", False), answer["seq"]) == (
                repeated,
                seq if repeated else 2500,
            )
