"""Outages: a service that does not answer is logged once when that begins, and once when it ends.

All replicas of a process share one outage, however often each of them tries: a log full of
repetitions would hide what happened.
"""

from __future__ import annotations

import logging

logger = logging.getLogger(__name__)


class Outage:
    """Whether *service*, which the whole process uses, does not answer."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._away = False

    def began(self, error: Exception) -> None:
        """Note that the service did not answer."""
        if not self._away:
            self._away = True
            reason = " ".join(str(error).split())
            logger.warning("%s does not answer: %s", self._service, reason)

    def ended(self) -> None:
        """Note that the service answered."""
        if self._away:
            self._away = False
            logger.warning("%s answers again", self._service)


database = Outage("the database")
channel_layer = Outage("the channel layer (REDIS_URL)")
