"""The log format: how the server writes its log to standard error, as text or as JSON."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import datetime, timezone

from broadcast_server.console.streams import is_utf8
from broadcast_server.protocol.timestamp import rfc3339

FORMATS = ("text", "json")


def formatter(format: str) -> logging.Formatter:
    """Return the formatter for one of `FORMATS`."""
    if format == "json":
        return _JSONFormatter()
    return logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S")


def quote_word(name: str) -> str:
    """Return *name* as one word of a log line: in quotes if it contains spaces or quotes.

    Without quotes, a client could forge a line with the name `eve joined ops, from 192.0.2.1`.
    """
    return json.dumps(name, ensure_ascii=False) if re.search(r'[\s"]', name) else name


class _JSONFormatter(logging.Formatter):
    """Formats a record as one JSON object: time, level, text, and the record's `fields` if any."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": rfc3339(datetime.fromtimestamp(record.created, timezone.utc)),
            "level": record.levelname.lower(),
            "text": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        # A name that the encoding of standard error does not have must not break the JSON.
        encoding = getattr(sys.stderr, "encoding", "") or ""
        return json.dumps(line, ensure_ascii=not is_utf8(encoding))
