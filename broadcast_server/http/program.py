"""The program file: the single file that the server runs from, which it offers for download."""

from __future__ import annotations

from pathlib import Path

PROGRAM_NAME = "broadcast-server.pyz"
"""The name of the file, in its URL and for the download."""


def running_archive() -> Path | None:
    """Return the path of the single file that this code runs from, or None for an installation."""
    archive = getattr(__spec__.loader, "archive", None)
    return None if archive is None else Path(archive)


def read_program() -> bytes | None:
    """Return the bytes of the single file that this code runs from, or None for an installation.

    Call it once, at the start: the file can be replaced while the server runs, for example by its
    own download.
    """
    content = getattr(__spec__.loader, "content", None)
    if isinstance(content, bytes):
        return content  # what runs, whatever the file is now
    archive = running_archive()  # on the path of another program, which Python imports by itself
    return None if archive is None else archive.read_bytes()


def keep_compiled() -> None:
    """Let the next start have what this one has compiled, if this code runs from the single file.

    Call it when everything is loaded.
    """
    keep = getattr(__spec__.loader, "keep_compiled", None)
    if keep is not None:
        keep()
