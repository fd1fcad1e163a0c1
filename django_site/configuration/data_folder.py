"""The data folder, ``BROADCAST_DATA``: where the site keeps its own database and key."""

from __future__ import annotations

import tempfile
from pathlib import Path

from broadcast_server.console.os_error import describe_os_error


def check_data_folder(folder: Path, *, writes: bool) -> None:
    """Raise ValueError if *folder* cannot be read, or files cannot be created where it *writes*."""
    try:
        next(folder.iterdir(), None)
    except OSError as error:
        raise ValueError(f"{folder}: {describe_os_error(error)} (name a folder)") from None
    if not writes:
        return
    try:
        tempfile.TemporaryFile(dir=folder).close()  # without a name, where the system can do that
    except OSError as error:
        reason = describe_os_error(error)
        raise ValueError(f"{folder}: no file can be created in it, {reason}") from None
