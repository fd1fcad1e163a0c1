"""The server's log in JSON: each line that a server writes, and not only those of the site.

Servers set up logging before they import the application, each in its own format. Verified with
Daphne 4.2.3, uvicorn 0.54 and gunicorn 27.0.
"""

from __future__ import annotations

import logging
import sys
import threading
from typing import Any

from broadcast_server.server.log_format import formatter

logger = logging.getLogger(__name__)


def format_server_log() -> None:
    """From now on, log everything that this process logs as JSON, uncaught errors included."""
    if not logging.root.handlers:  # uvicorn and gunicorn have handlers for themselves only
        logging.root.addHandler(logging.StreamHandler())
    names = list(logging.root.manager.loggerDict)
    for each in (logging.root, *map(logging.getLogger, names)):
        for handler in each.handlers:
            handler.setFormatter(formatter("json"))
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread
    sys.unraisablehook = _log_unraisable


def _log_uncaught(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
    logger.critical("uncaught error", exc_info=(kind, error, traceback))


def _log_uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
    error = arguments.exc_value
    if not isinstance(error, SystemExit):
        logger.error("uncaught error in a thread", exc_info=error)


def _log_unraisable(arguments: Any) -> None:
    text = arguments.err_msg or "an error was ignored"
    logger.error("%s: %r", text, arguments.object, exc_info=arguments.exc_value)
