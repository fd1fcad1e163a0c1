"""Running out of file descriptors: logs one line instead of thousands of tracebacks.

Each connection needs a file descriptor. When none is left, asyncio logs a traceback for each
place in the backlog, some thousand a second, and has no time for anything else. This happens
under uvicorn. Under Daphne, Twisted drops new connections silently.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from typing import Any

logger = logging.getLogger(__name__)

LOG_INTERVAL_S = 60.0
"""Seconds in which the warning is not repeated."""


def report_exhaustion(loop: asyncio.AbstractEventLoop) -> None:
    """Have *loop* log a line when no file is left. Other errors are handled as before."""
    previous = loop.get_exception_handler()
    last_logged = -LOG_INTERVAL_S

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal last_logged
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            if loop.time() - last_logged >= LOG_INTERVAL_S:
                last_logged = loop.time()
                logger.warning("too many files are open, new connections wait (raise ulimit -n)")
        elif previous is None:
            loop.default_exception_handler(context)
        else:
            previous(loop, context)

    loop.set_exception_handler(handle)
