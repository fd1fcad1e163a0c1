"""The bounded stop: a process that was told to stop ends, whatever its threads wait for.

Python waits for the threads of executors when it ends. A thread may wait for a database that does
not answer, or for an event loop that has ended already.
"""

from __future__ import annotations

import logging
import os
import threading

logger = logging.getLogger(__name__)

STOP_TIMEOUT_S = 8.0
"""How long a stop may take. Docker kills after 10 seconds, systemd after 90."""


def end_soon(seconds: float) -> None:
    """End the process after *seconds*, unless it has ended by itself."""
    timer = threading.Timer(seconds, _end, [seconds])
    timer.daemon = True
    timer.start()


def _end(seconds: float) -> None:
    # Whatever is not stored yet was confirmed to nobody.
    logger.warning("the server did not stop within %g s, so it is ended", seconds)
    logging.shutdown()
    os._exit(1)
