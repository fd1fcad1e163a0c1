"""The mail queue: mails are prepared and sent in a thread, after the response to their request.

Otherwise the response would take longer if there is an account, and so tell that there is one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import BoundedSemaphore

from django.db import connections
from django.http import HttpResponseRedirect

logger = logging.getLogger(__name__)

MAX_QUEUED = 100
"""How many jobs may wait. A mail server that does not answer takes `EMAIL_TIMEOUT` for each."""

_places = BoundedSemaphore(MAX_QUEUED)
_thread = ThreadPoolExecutor(1, "mail")

Job = Callable[[], None]


def queue_job(job: Job) -> None:
    """Do *job* in the thread, or drop it if too many wait. Its errors are logged in one line."""
    if not _places.acquire(blocking=False):
        logger.warning("%s mails wait to be sent, another was dropped", MAX_QUEUED)
        return
    _thread.submit(_do, job)


def _do(job: Job) -> None:
    try:
        job()
    except Exception as error:  # of the database or of the mail server
        logger.warning("a mail could not be sent: %s", " ".join(str(error).split()))
    finally:
        connections.close_all()
        _places.release()


class MailingRedirect(HttpResponseRedirect):
    """A redirect after which *job* is queued: when it has been sent."""

    def __init__(self, url: str, job: Job) -> None:
        super().__init__(url)
        self._job: Job | None = job

    def close(self) -> None:
        """Queue the job. The server calls this after it has sent the response."""
        super().close()
        job, self._job = self._job, None
        if job is not None:
            queue_job(job)
