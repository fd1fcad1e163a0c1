"""Log errors: what SQLite and the system say about a log file, as one line with a remedy."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from broadcast_server.console.os_error import describe_file_error
from broadcast_server.console.private_file import NotAFileError, resolve

from .message_log import LogFileError

DAMAGE = ("malformed", "not a database", "no such", "disk image", "corrupt")
"""Words in errors of SQLite that mean that the content of the file is damaged."""


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Turn an error of SQLite or the system about *path* into a `LogFileError`."""
    try:
        yield
    except sqlite3.Error as error:
        text = str(error)
        if "locked" in text:
            text = "is in use by another program: stop that program, or name another file"
        elif any(word in text for word in DAMAGE):
            text = "is not a log file, or is damaged: name another file"
        elif "unable to open" in text:
            # SQLite does not say why.
            number = errno.EACCES if path.parent.is_dir() else errno.ENOENT
            text = f"cannot be opened: {_describe(OSError(number, os.strerror(number)), path)}"
        elif "full" in text:
            text = "cannot be written: the disk is full"
        elif "readonly" in text:
            text = "cannot be written: the file or its disk is read-only"
        else:
            text = f"cannot be read or written: {sqlite_reason(text)}"
        raise LogFileError(f"log file {path} {text}") from None
    except UnicodeDecodeError:  # in an error of SQLite that quotes what is damaged
        text = "is not a log file, or is damaged: name another file"
        raise LogFileError(f"log file {path} {text}") from None
    except NotAFileError as error:
        raise LogFileError(f"log file {path} is {error.kind}: name a file") from None
    except OSError as error:
        raise LogFileError(f"log file {path} cannot be used: {_describe(error, path)}") from None


def sqlite_reason(text: str) -> str:
    """Return an error of SQLite or sqlite3 as one line without the content of the file."""
    return "text is not UTF-8" if "decode" in text else " ".join(text.split())


def _describe(error: OSError, path: Path) -> str:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        try:
            folder = Path(resolve(path)).parent
        except OSError:
            return "the current folder was deleted: change to another one"
        if not folder.is_dir():
            return f"there is no folder {folder}: create it, or name another file"
    return describe_file_error(error)
