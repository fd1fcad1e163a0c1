"""The log line: what a house says of itself, on standard error, as text or as JSON."""

from __future__ import annotations

import json
import logging
import re
from datetime import datetime, timezone

FORMATS = ("text", "json")


def formatter(format: str) -> logging.Formatter:
    """Return the formatter of one of `FORMATS`."""
    if format == "json":
        return _JSON()
    return logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S")


def word(name: str) -> str:
    """Return *name* as one word of a line of text: in quotes if it would be more.

    Else someone called `eve joined ops, from 192.0.2.1` had the log say that.
    """
    return json.dumps(name, ensure_ascii=False) if re.search(r'[\s"]', name) else name


class _JSON(logging.Formatter):
    """One JSON object a line: when, how grave, the text, and the *fields* that it is made of."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, timezone.utc)
        line = {
            "at": at.isoformat(timespec="milliseconds")[:-6] + "Z",
            "level": record.levelname.lower(),
            "text": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
