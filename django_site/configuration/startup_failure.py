"""Startup failures: why a process of the site does not start, as one line on standard error.

The line has the format of the log, which may not be set up yet, and there is no traceback: whoever
started the process has to change a setting, or to start a service.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

from broadcast_server.console.streams import note, write_stderr
from broadcast_server.server.log_format import formatter

LOG_FORMAT_VARIABLE = "BROADCAST_LOG_FORMAT"

FINAL = 3
"""The exit code of a failure that stays. uvicorn and gunicorn stop when a worker has it; a worker
with another one they replace at once, for ever."""

PASSING = 1
"""The exit code of a failure that may pass, such as a database that does not answer. It must not
stop other workers, which may have started before it."""

FIRST_WORKER_S = 10.0
"""How long other workers leave it to the first one to report the failure that they all have."""


class StartupFailure(SystemExit):
    """Ends the process, which has printed the reason."""

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(reason)
        self.code = code


def end_start(reason: str, code: int = FINAL) -> NoReturn:
    """Print *reason* as one line, and raise `StartupFailure`."""
    text = " ".join(reason.split())
    if code == PASSING or _is_first_worker() or not _wait_to_be_stopped():
        _print(text)
    raise StartupFailure(text, code) from None


def _print(text: str) -> None:
    if os.environ.get(LOG_FORMAT_VARIABLE, "").strip() == "json":
        record = logging.LogRecord(__name__, logging.CRITICAL, "", 0, text, None, None)
        write_stderr(formatter("json").format(record))
    else:
        note(text)


def _is_first_worker() -> bool:
    """Tell whether this is the first of the workers of a server, or the only process."""
    multiprocessing = sys.modules.get("multiprocessing.process")
    if multiprocessing is not None and multiprocessing.parent_process() is not None:  # uvicorn
        identity: tuple[int, ...] = multiprocessing.current_process()._identity
        return identity[-1:] == (1,)
    if "gunicorn.arbiter" in sys.modules:
        parent = os.getppid()
        try:
            siblings = Path(f"/proc/{parent}/task/{parent}/children").read_text("ascii")
        except OSError:  # no Linux, or no worker
            return True
        return not any(int(each) < os.getpid() for each in siblings.split())
    return True


def _wait_to_be_stopped() -> bool:
    """Wait for the signal with which a server stops this worker, and tell whether it came.

    gunicorn's signal ends this process here. uvicorn's is handled by uvicorn's object.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    end = time.monotonic() + FIRST_WORKER_S
    while time.monotonic() < end and not getattr(server, "should_exit", False):
        time.sleep(0.05)
    return bool(getattr(server, "should_exit", False))
