"""Outages: a service that does not answer is logged once when that begins, and once when it ends.

All replicas of a process share one outage, however often each of them tries: a log full of
repetitions would hide what happened.
"""

from __future__ import annotations

import logging
import time

from .damage import DamagedRow

logger = logging.getLogger(__name__)


DAMAGE_INTERVAL_S = 60.0
"""How long no other line about a damaged row is logged."""

_damage_logged_at = -DAMAGE_INTERVAL_S


def _report_damage(error: DamagedRow) -> None:
    global _damage_logged_at  # noqa: PLW0603  # of the whole process, as the outages are
    now = time.monotonic()
    if now - _damage_logged_at >= DAMAGE_INTERVAL_S:
        _damage_logged_at = now
        remedy = "restore the database from a backup, then run python manage.py new_epochs"
        logger.error("the database is damaged, a room is closed: %s (%s)", error, remedy)


class Outage:
    """Whether *service*, which the whole process uses, does not answer."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._away = False

    def began(self, error: Exception) -> None:
        """Note that the service did not answer. A damaged row is an answer, and logged as one."""
        if isinstance(error, DamagedRow):
            _report_damage(error)
            return
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
