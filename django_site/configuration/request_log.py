"""The log of requests that Django rejects."""

from __future__ import annotations

import logging

from . import file_exhaustion


class RejectionFilter(logging.Filter):
    """Makes each rejected request one line: the traceback is ours, and the fault the client's."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Remove the traceback of an invalid request, for example one with an invalid Host.

        A record of a request that failed because no file was left is counted instead.
        """
        if record.exc_info and file_exhaustion.is_exhaustion(record.exc_info[1]):
            file_exhaustion.pages.report()
            return False
        if record.name.startswith("django.security."):
            record.exc_info = None
        return True
