"""The files: that none are left is one line in the hosted site's log, and all else as before."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import hosted  # noqa: F401  # before anything of Django's
import pytest

from django_site import files


@contextmanager
def lines_of(logger: logging.Logger) -> Iterator[list[str]]:
    """Keep what is logged meanwhile."""
    found: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)


@pytest.mark.parametrize("own", [True, False])
def test_no_files_are_said_once(own: bool, caplog: pytest.LogCaptureFixture) -> None:
    """However often there is no file it is one line, and another fault goes where it went."""
    full = {"message": "no", "exception": OSError(errno.EMFILE, "Too many open files")}
    other = {"message": "another fault"}
    elsewhere: list[dict[str, Any]] = []

    async def part() -> None:
        loop = asyncio.get_running_loop()
        if own:
            loop.set_exception_handler(lambda _, context: elsewhere.append(context))
        files.watch(loop)
        for context in (full, full, other):
            loop.call_exception_handler(context)

    with lines_of(files.logger) as lines:
        asyncio.run(part())
    assert lines == ["too many files are open, who comes now waits (raise ulimit -n)"]
    assert elsewhere == ([other] if own else [])
    theirs = [record.getMessage() for record in caplog.records if record.name == "asyncio"]
    assert theirs == ([] if own else ["another fault"])
