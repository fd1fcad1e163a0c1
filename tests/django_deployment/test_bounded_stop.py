"""Stopping: a server that was told to stop ends, also while pages are being served."""

from __future__ import annotations

import asyncio
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from asgiref.sync import AsyncToSync
from conftest import DAPHNE, UVICORN
from django_client import http_request
from programs import PATIENCE, listening, running, until
from services import site_folder


@pytest.mark.parametrize("command", [DAPHNE, UVICORN], ids=["daphne", "uvicorn"])
def test_stopping_while_pages_are_served(command: tuple[str, ...], tmp_path: Path) -> None:
    """A server that stops while its threads are busy with pages ends."""
    with running(*command, BROADCAST_DATA=site_folder(tmp_path)) as site:
        host = urlsplit(listening(site)).netloc
        served: list[int] = []

        def browse() -> None:
            with suppress(OSError, HTTPException):  # until the server is gone
                while True:
                    with closing(HTTPConnection(host, timeout=PATIENCE)) as connection:
                        connection.request("GET", "/accounts/login/")
                        served.append(connection.getresponse().status)

        with ThreadPoolExecutor(20) as pool:
            for _ in range(20):
                pool.submit(browse)
            until(lambda: len(served) > 20, "pages")
            assert site.signal(signal.SIGTERM) == (0 if command == DAPHNE else -signal.SIGTERM)


def test_no_thread_of_a_page_waits_for_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that waits would wait for ever once the loop has ended, and the process with it."""
    waited: list[object] = []
    wait = AsyncToSync.__call__

    def record(self: Any, *arguments: Any, **options: Any) -> Any:
        waited.append(self.awaitable)
        return wait(self, *arguments, **options)

    async def part() -> None:
        for path in ("/", "/accounts/login/", "/admin/", "/static/admin/css/base.css"):
            assert (await http_request("GET", path))[0] in (200, 302)

    monkeypatch.setattr(AsyncToSync, "__call__", record)
    asyncio.run(part())
    assert waited == []


STUCK = """
import threading
from concurrent.futures import ThreadPoolExecutor
from django_site.transport.bounded_stop import end_soon
ThreadPoolExecutor().submit(threading.Event().wait)
end_soon(0.2)
"""


def test_a_process_whose_thread_waits_for_ever() -> None:
    """It is ended, with a line that says so, and an exit code that is no success."""
    with running(sys.executable, "-c", STUCK) as program:
        assert program.process.wait(PATIENCE) == 1
        assert program.errors == "the server did not stop within 0.2 s, so it is ended\n"
