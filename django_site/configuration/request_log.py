"""The log of requests that Django rejects."""

from __future__ import annotations

import logging


class RejectionFilter(logging.Filter):
    """Makes each rejected request one line: the traceback is ours, and the fault the client's."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Remove the traceback of an invalid request, for example one with an invalid Host."""
        if record.name.startswith("django.security."):
            record.exc_info = None
        return True
