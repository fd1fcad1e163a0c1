"""The files: that there are no more of them is said once, and takes nobody's time.

Each connection is an open file. When there are none left, asyncio logs a traceback for each
place of its queue, some thousand a second, and has no time for anything else; that is how it
is under uvicorn. Twisted, under Daphne, turns away who comes without a word.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from typing import Any

logger = logging.getLogger(__name__)

AGAIN = 60.0
"""Seconds after which it is worth another line."""


def watch(loop: asyncio.AbstractEventLoop) -> None:
    """Have *loop* say in a line that there are no files, and everything else as before."""
    before = loop.get_exception_handler()
    told = -AGAIN

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal told
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            if loop.time() - told >= AGAIN:
                told = loop.time()
                logger.warning("too many files are open, who comes now waits (raise ulimit -n)")
        elif before is None:
            loop.default_exception_handler(context)
        else:
            before(loop, context)

    loop.set_exception_handler(handle)
