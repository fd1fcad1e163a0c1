"""The servers that run the Django deployment: workers, processes that start at once, failures."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import socket
import sys
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from channels_redis.pubsub import RedisPubSubChannelLayer
from conftest import DAPHNE, ROOT, Processes
from programs import PATIENCE, Running, assert_quiet, listening, running, until
from services import free_port, redis_program, redis_server, site_folder

from broadcast_server.console.time_limit import run_within
from django_site.configuration.redis_url import redis_of
from django_site.store.migration_lock import ADVISORY_KEY, WAITING

UVICORN = (sys.executable, "-m", "uvicorn", "--port", "0")
MIGRATE = (sys.executable, str(ROOT / "manage.py"), "migrate")
APPLICATION = "django_site.asgi:application"

SETTINGS = """\
from django_site.settings import *
ROOT_URLCONF = "failing_urls"
"""
URLS = """\
from django.urls import path
from django_site.urls import urlpatterns
def fail(request): raise ValueError("a page has failed")
urlpatterns = [path("admin/fail", fail), *urlpatterns]
"""
"""A site with a page that fails."""


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


@pytest.mark.parametrize(
    ("command", "code"),
    [(DAPHNE, 0), ((*UVICORN, APPLICATION), -signal.SIGTERM)],
    ids=["daphne", "uvicorn"],
)
def test_every_line_is_json_and_the_stop_is_short(
    command: tuple[str, ...], code: int, tmp_path: Path
) -> None:
    """An error of a page is logged, as JSON, and a body that is half sent delays no shutdown."""
    (tmp_path / "failing_settings.py").write_text(SETTINGS)
    (tmp_path / "failing_urls.py").write_text(URLS)
    with running(
        *command,
        BROADCAST_DATA=site_folder(tmp_path),
        BROADCAST_LOG_FORMAT="json",
        DJANGO_SETTINGS_MODULE="failing_settings",
        PYTHONPATH=str(tmp_path),
    ) as site:
        url = urlsplit(listening(site))
        assert url.port is not None
        connection = HTTPConnection(url.netloc, timeout=20)
        with closing(connection):
            for target, status in (("/admin/fail", 500), ("/healthz", 200)):
                connection.request("GET", target)
                response = connection.getresponse()
                assert response.status == status and response.read()
        with socket.create_connection((url.hostname, url.port), timeout=20) as upload:
            upload.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf")
            site.process.send_signal(signal.SIGTERM)
            answer = upload.recv(1000)  # 408 after the time that a body may take
            assert not answer or answer.startswith(b"HTTP/1.1 503 ")
        assert site.process.wait(20) == code
        lines = [json.loads(each) for each in (site.errors + site.output).splitlines()]
        assert {"at", "level", "text"} <= set.intersection(*map(set, lines))
        (failed,) = [each for each in lines if "a page has failed" in each.get("error", "")]
        assert failed["level"] == "error"
        assert [each for each in lines if "/healthz" in each["text"] and "200" in each["text"]]


def test_sentinels_know_the_redis(tmp_path: Path) -> None:
    """The channel layer finds its Redis through Sentinels, and passes over one that is away."""
    with redis_server() as server:
        port = free_port()
        config = tmp_path / "sentinel.conf"
        config.write_text(
            f"port {port}\nset-proc-title no\nsentinel monitor main 127.0.0.1 {server.port} 1\n"
        )
        url = f"redis+sentinel://127.0.0.1:1,127.0.0.1:{port}/main"

        async def part() -> None:
            layer = RedisPubSubChannelLayer(hosts=[redis_of(url)])
            channel = await layer.new_channel()
            await layer.group_add("group", channel)
            await layer.group_send("group", {"type": "it"})
            assert await layer.receive(channel) == {"type": "it"}
            pool = layer._shards[0]._redis.connection_pool
            await layer.flush()
            for sentinel in pool.sentinel_manager.sentinels:  # which it leaves open
                await sentinel.aclose()

        with running(redis_program(), str(config), "--sentinel") as sentinel:
            until(lambda: "+monitor master main" in sentinel.output, "a Sentinel")
            asyncio.run(run_within(part(), PATIENCE))


@pytest.mark.parametrize(
    "signals",
    [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT,)],
    ids=lambda numbers: "+".join(number.name for number in numbers),
)
def test_daphne_stops_at_a_signal(signals: tuple[signal.Signals, ...], tmp_path: Path) -> None:
    """Whatever signals come, and how often, Daphne closes everyone and ends with 0."""
    with running(*DAPHNE, BROADCAST_DATA=site_folder(tmp_path)) as site:
        url = listening(site)
        with closing(HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE)) as listener:
            listener.request("GET", "/stream")
            lines = listener.getresponse()
            assert json.loads(lines.readline())["type"] == "welcome"
            for number in signals:
                site.process.send_signal(number)
            rest = [json.loads(line) for line in lines.read().splitlines()]
        assert site.wait() == 0
        assert [each["type"] for each in rest] == ["error"]


def test_gunicorn(tmp_path: Path) -> None:
    """Gunicorn with workers of uvicorn serves the site, and stops while a request is half-sent."""
    pytest.importorskip("gunicorn", reason="gunicorn is not installed")
    pytest.importorskip("uvicorn_worker", reason="uvicorn-worker is not installed")
    gunicorn = (sys.executable, "-m", "gunicorn", "-k", "uvicorn_worker.UvicornWorker", "-w", "2")
    bind = f"127.0.0.1:{(port := free_port())}"
    with running(
        *(*gunicorn, "-b", bind, "--graceful-timeout", str(int(PATIENCE) * 2), APPLICATION),
        BROADCAST_DATA=str(tmp_path),
    ) as site:
        until(lambda: site.errors.count("Application startup complete") == 2, "all workers")
        with closing(HTTPConnection(bind, timeout=PATIENCE)) as sender:
            sender.request("POST", "/", b"hi")
            assert json.loads(sender.getresponse().read())["seq"] == 1
        with socket.create_connection(("127.0.0.1", port)) as half:
            half.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf")
            assert site.signal(signal.SIGTERM) == 0
