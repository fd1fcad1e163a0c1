"""Secrets that only another user can read: one line, with the path and the reason."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from certificates import write_pair

from broadcast_server.admission.token import read_token_file
from broadcast_server.server.tls import CertificateError, ReloadableCertificate
from django_site.configuration.secret_key import own_secret_key

NOBODY = 65534
"""The user id of `nobody`, or of nobody at all."""


@contextmanager
def another_user() -> Iterator[None]:
    """Have the rights of a user who owns no file, as a service has that is not started as root."""
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everyone may enter, with a certificate, its key, and files of a secret."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        write_pair(Path(name, "cert.pem"), Path(name, "key.pem"))
        Path(name, "cert.pem").chmod(0o644)
        Path(name, "token").write_text("sesame")
        for file in ("key.pem", "token"):
            Path(name, file).chmod(0o600)
        yield Path(name)


READERS: dict[str, Callable[[Path], object]] = {
    "token": lambda folder: read_token_file(str(folder / "token")),
    "key.pem": lambda folder: ReloadableCertificate(folder / "cert.pem", folder / "key.pem"),
    # It creates the file, if there is none.
    "broadcast.key": lambda folder: own_secret_key(folder / "broadcast.key"),
}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("file", READERS)
def test_a_secret_of_another_user(file: str, folder: Path) -> None:
    """The error names the file, and says that it may not be read."""
    READERS[file](folder)
    with another_user(), pytest.raises((ValueError, CertificateError)) as failed:
        READERS[file](folder)
    (line,) = str(failed.value).splitlines()
    assert str(folder / file) in line and "permission denied" in line.lower(), line
