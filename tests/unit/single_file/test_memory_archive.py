"""The archive: reads what the build and Python's zipapp write, and nothing that is cut off."""

from __future__ import annotations

import io
import zipfile

import pytest

from broadcast_server.single_file.archive import Archive

FILES = {"__main__.py": b"print()\n" * 99, "a/empty.py": b"", "a/ü.html": bytes(range(256)) * 9}


def zipped(before: bytes = b"#!/usr/bin/env python3\n", comment: bytes = b"") -> bytes:
    """Return a zip file with `FILES`, each compressed and stored in turn."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for index, (name, content) in enumerate(FILES.items()):
            archive.writestr(name, content, zipfile.ZIP_STORED if index % 2 else 8)
        archive.comment = comment
    return before + buffer.getvalue()


@pytest.mark.parametrize("content", [zipped(), zipped(b""), zipped(comment=b"signed")])
def test_it_reads_what_is_inside(content: bytes) -> None:
    """Each file is as it was, whatever stands before and after the archive."""
    archive = Archive(content)
    assert {name: archive.read(name) for name in FILES} == FILES
    assert "a/empty.py" in archive
    assert "a" not in archive
    with pytest.raises(KeyError):
        archive.read("a")


def test_a_file_that_is_cut_off() -> None:
    """A file that is cut off anywhere, as by a download, is no archive."""
    content = zipped()
    for size in range(len(content)):
        with pytest.raises(ValueError, match=r"it is no zip file|its directory is cut off"):
            Archive(content[:size])


def test_a_directory_that_is_not_there() -> None:
    """An end whose directory is elsewhere is an error, and not another place in the file."""
    content = zipped()
    with pytest.raises(ValueError, match=r"its directory|no place"):
        Archive(content[content.rindex(b"PK\5\6") :])
