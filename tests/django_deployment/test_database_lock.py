"""A database that somebody else has locked: SQLite makes all wait, and reports nothing for long."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest
from channels.db import database_sync_to_async
from django.conf import settings
from django_client import http_request, run_async
from site_member import until


def test_an_outage_is_logged_before_sqlite_gives_up(caplog: pytest.LogCaptureFixture) -> None:
    """A database that does not answer for some seconds is logged, and so is its end."""

    async def part() -> None:
        assert (await http_request("POST", "/?room=lock", body=b"one"))[0] == 200
        path = str(settings.DATABASES["default"]["NAME"])
        other = await database_sync_to_async(sqlite3.connect)(
            path, isolation_level=None, check_same_thread=False
        )
        other.execute("BEGIN IMMEDIATE")
        posting = http_request("POST", "/?room=lock", body=b"two")
        waiting = asyncio.ensure_future(posting)
        await until(lambda: "the database does not answer: no answer for" in caplog.text, "a line")
        other.execute("ROLLBACK")
        other.close()
        assert (await waiting)[0] == 200
        assert caplog.text.count("the database answers again") == 1

    run_async(part)
