"""An outage: what does not answer, logged once when it begins and once when it ends.

However many nodes meet it and however often they try: a log that fills while a
service is away hides what happened.
"""

from __future__ import annotations

import logging

logger = logging.getLogger(__name__)


class Outage:
    """Whether *what*, which the whole process uses, is away."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._away = False

    def met(self, error: Exception) -> None:
        """Note that it did not answer."""
        if not self._away:
            self._away = True
            logger.warning("%s does not answer: %s", self._what, " ".join(str(error).split()))

    def over(self) -> None:
        """Note that it answers."""
        if self._away:
            self._away = False
            logger.warning("%s answers again", self._what)


database = Outage("the log")
layer = Outage("the bell")
