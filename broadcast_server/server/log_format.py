"""The log format: how the server writes its log to standard error, as text or as JSON."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from contextlib import nullcontext
from datetime import datetime, timezone
from typing import Any

from broadcast_server.console.streams import is_utf8
from broadcast_server.protocol.timestamp import rfc3339

FORMATS = ("text", "json")


def formatter(format: str) -> logging.Formatter:
    """Return the formatter for one of `FORMATS`."""
    if format == "json":
        return _JSONFormatter()
    return _TextFormatter()


def log_lean() -> None:
    """Let records have no more than our lines show, as the documentation of `logging` advises.

    A line costs 7 us less: what called it, and in which thread and process, is not looked up.
    """
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.setLogRecordFactory(_LeanRecord)


class _LeanRecord(logging.LogRecord):
    """A record with what formatters of `logging` need, which takes 1 us less to make."""

    def __init__(
        self,
        name: str,
        level: int,
        path: str,
        line: int,
        msg: object,
        args: Any,
        error: Any,
        *_: Any,
    ) -> None:
        self.name = name
        self.levelno = level
        self.levelname = logging.getLevelName(level)
        self.msg = msg
        self.args = args
        self.exc_info = error
        self.exc_text = self.stack_info = None
        self.created = time.time()


class LineHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes lines to standard error: those of a turn of the event loop together, at its end.

    A warning is written at once, and what came before it too.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record, and schedule that it is written."""
        from asyncio import get_running_loop  # loaded by then, unless there is no loop

        try:
            self._lines.append(self.format(record))
        except Exception:
            self.handleError(record)
        if record.levelno <= logging.INFO:
            try:
                if len(self._lines) == 1:
                    get_running_loop().call_soon(self.flush)
                return
            except RuntimeError:  # no loop runs in this thread
                pass
        self.flush()

    def flush(self) -> None:
        """Write what was not written yet. What standard error does not take is lost."""
        with self.lock or nullcontext():
            lines, self._lines = self._lines, []
            try:
                if lines and self.stream is not None:
                    self.stream.write("\n".join([*lines, ""]))
                super().flush()
            except (OSError, ValueError):
                pass


class _TextFormatter(logging.Formatter):
    """Formats a record as its time and its text. The time is formatted once a second."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(message)s", "%H:%M:%S")
        self._second = -1
        self._time = ""

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of *record*."""
        if record.exc_info or record.stack_info:
            return super().format(record)
        return f"{self.formatTime(record, self.datefmt)} {record.getMessage()}"

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """Return the time of *record*."""
        second = int(record.created)
        if second != self._second:
            self._time, self._second = time.strftime(datefmt or "", time.localtime(second)), second
        return self._time


def quote_word(name: str) -> str:
    """Return *name* as one word of a log line: in quotes if it contains spaces or quotes.

    Without quotes, a client could forge a line with the name `eve joined ops, from 192.0.2.1`.
    """
    if name.isalnum():  # nearly every one, and the pattern takes longer
        return name
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
