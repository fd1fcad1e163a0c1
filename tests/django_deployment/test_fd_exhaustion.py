"""Running out of file descriptors: one line in the log, and other errors are handled as before."""

from __future__ import annotations

import asyncio
import errno
import logging
import sqlite3
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import django_client  # noqa: F401  # it sets Django up
import pytest
from conftest import DAPHNE, UVICORN
from programs import PATIENCE, listening, running, until
from services import site_folder

from django_site.configuration import file_exhaustion
from django_site.configuration.file_exhaustion import RepeatedWarning, is_exhaustion
from django_site.configuration.request_log import RejectionFilter
from django_site.transport import fd_exhaustion


@contextmanager
def lines_of(logger: logging.Logger) -> Iterator[list[str]]:
    """Collect what is logged in the meantime."""
    found: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)


@pytest.mark.parametrize("own", [True, False])
def test_exhaustion_is_logged_once(
    own: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Repeated exhaustion is logged once, and other errors go to the previous handler."""
    full = {"message": "no", "exception": OSError(errno.EMFILE, "Too many open files")}
    other = {"message": "another fault"}
    elsewhere: list[dict[str, Any]] = []

    async def part() -> None:
        loop = asyncio.get_running_loop()
        if own:
            loop.set_exception_handler(lambda _, context: elsewhere.append(context))
        fd_exhaustion.report_exhaustion(loop)
        for context in (full, full, other):
            loop.call_exception_handler(context)

    monkeypatch.setattr(file_exhaustion, "new_connections", RepeatedWarning("new connections wait"))
    with lines_of(file_exhaustion.logger) as lines:
        asyncio.run(part())
    assert lines == ["too many files are open, new connections wait (raise ulimit -n)"]
    assert elsewhere == ([other] if own else [])
    theirs = [record.getMessage() for record in caplog.records if record.name == "asyncio"]
    assert theirs == ([] if own else ["another fault"])


def test_a_warning_comes_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was left out is counted in the next line."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    warning = RepeatedWarning("nothing works")
    with lines_of(file_exhaustion.logger) as lines:
        for now[0] in (100.0, 100.1, 159.9, 160.0, 161.0, 221.0):
            warning.report()
    hint = "(raise ulimit -n)"
    assert lines == [
        f"too many files are open, nothing works {hint}",
        f"too many files are open, nothing works, and 2 more since the last line {hint}",
        f"too many files are open, nothing works, and 1 more since the last line {hint}",
    ]


def chained(*errors: Exception) -> Exception:
    """Return the last of *errors*, which follows from those before it."""
    for index, error in enumerate(errors[1:]):
        error.__context__ = errors[index]
    return errors[-1]


FULL = OSError(errno.EMFILE, "Too many open files")


@pytest.mark.parametrize(
    ("error", "short", "found"),
    [
        (FULL, False, True),
        (OSError(errno.ENFILE, "Too many open files in system"), False, True),
        (chained(FULL, KeyError("x"), ImportError("y")), False, True),
        (RuntimeError("could not create socket: Too many open files"), False, True),
        (sqlite3.OperationalError("unable to open database file"), True, True),
        (sqlite3.OperationalError("unable to open database file"), False, False),
        (OSError(errno.ENOENT, "No such file"), True, False),
        (ValueError("x"), True, False),
    ],
)  # fmt: skip
def test_which_errors_mean_that_no_file_is_left(
    error: Exception, short: bool, found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors of Python, of databases, and what follows from them. The log has no traceback then."""
    monkeypatch.setattr(file_exhaustion, "max_clients_for", lambda files: 0 if short else files)
    monkeypatch.setattr(file_exhaustion, "_last_short", float("-inf"))
    assert is_exhaustion(error) is found
    record = logging.LogRecord(
        "django.request", logging.ERROR, "", 0, "x", (), (type(error), error, None)
    )
    monkeypatch.setattr(file_exhaustion, "pages", RepeatedWarning("x"))
    assert RejectionFilter().filter(record) is not found


def statuses(url: str, count: int, at_once: int) -> set[int]:
    """Request a page *count* times, and return the statuses, 0 for a connection that is closed."""

    def get(_: int) -> int:
        try:
            with closing(HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE)) as connection:
                connection.request("GET", "/accounts/login/")
                response = connection.getresponse()
                response.read()
                return response.status
        except (OSError, HTTPException):
            return 0

    with ThreadPoolExecutor(at_once) as pool:
        return set(pool.map(get, range(count)))


@pytest.mark.skipif(sys.platform == "win32", reason="it has no limit of open files")
@pytest.mark.parametrize("command", [DAPHNE, UVICORN], ids=["daphne", "uvicorn"])
def test_a_server_with_few_files(command: tuple[str, ...], tmp_path: Path) -> None:
    """Pages are rejected while files are short; there is a line and no traceback."""
    limited = ("bash", "-c", 'ulimit -n 40 && exec "$@"', "bash", *command)
    with running(*limited, BROADCAST_DATA=site_folder(tmp_path)) as site:
        url = listening(site)
        assert 503 in statuses(url, 300, 80)
        until(lambda: statuses(url, 1, 1) == {200}, "a page")
        line = "too many files are open, a page was not served (raise ulimit -n)"
        assert site.errors.count(line) == 1
        assert "Traceback" not in site.errors
