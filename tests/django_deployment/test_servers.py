"""The servers that run the Django deployment: workers, processes that start at once, failures."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from pathlib import Path

import psycopg
import pytest
from conftest import ROOT, Processes
from programs import Running, assert_quiet, running, until

from django_site.store.migration_lock import ADVISORY_KEY, WAITING

UVICORN = (sys.executable, "-m", "uvicorn", "--port", "0")
MIGRATE = (sys.executable, str(ROOT / "manage.py"), "migrate")
APPLICATION = "django_site.asgi:application"


def test_workers_that_start_at_once(tmp_path: Path) -> None:
    """Workers of uvicorn import the application in their event loop, and all on an empty folder."""
    with running(*UVICORN, "--workers", "2", APPLICATION, BROADCAST_DATA=str(tmp_path)) as site:
        until(lambda: site.errors.count("startup complete") == 2, "all workers")
        assert site.signal(signal.SIGTERM) == 0
        assert site.errors.count("Started server process") == 2


def test_a_worker_that_cannot_start_stops_all() -> None:
    """One of the workers says why, and uvicorn does not replace it."""
    with running(*UVICORN, "--workers", "3", APPLICATION, BROADCAST_DATA="/nonexistent") as site:
        site.wait()
        assert "stopping the parent process" in site.errors
        assert site.errors.count("/nonexistent") == 1


def waits(migration: Running) -> None:
    """Wait until a migration waits for another one."""
    until(lambda: WAITING in migration.errors or migration.process.poll() is not None)
    assert_quiet(migration.errors)
    assert migration.process.poll() is None, migration.output


def test_one_process_at_a_time_migrates(tmp_path: Path) -> None:
    """With SQLite, the folder of the database is locked."""
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    with running(*MIGRATE, BROADCAST_DATA=str(tmp_path)) as migration:
        waits(migration)
        os.close(folder)
        assert migration.wait() == 0


@pytest.mark.parametrize("_", ["cluster"])  # the parameter puts it into that group
def test_one_process_at_a_time_migrates_postgresql(_: str, processes: Processes) -> None:
    """With PostgreSQL, a transaction has an advisory lock."""
    processes.cluster_urls(())
    with psycopg.connect(processes.services["DATABASE_URL"]) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [ADVISORY_KEY])
        with running(*MIGRATE, **processes.services) as migration:
            waits(migration)
            other.rollback()
            assert migration.wait() == 0
