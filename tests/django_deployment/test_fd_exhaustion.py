"""Running out of file descriptors: one line in the log, and other errors are handled as before."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import django_client  # noqa: F401  # it sets Django up
import pytest

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
def test_exhaustion_is_logged_once(own: bool, caplog: pytest.LogCaptureFixture) -> None:
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

    with lines_of(fd_exhaustion.logger) as lines:
        asyncio.run(part())
    assert lines == ["too many files are open, new connections wait (raise ulimit -n)"]
    assert elsewhere == ([other] if own else [])
    theirs = [record.getMessage() for record in caplog.records if record.name == "asyncio"]
    assert theirs == ([] if own else ["another fault"])
