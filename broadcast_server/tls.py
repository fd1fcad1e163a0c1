"""The certificate: by which a server proves who it is, and which may be renewed while it runs."""

from __future__ import annotations

import ssl
from pathlib import Path

from .streams import reason


class BadCertificate(Exception):
    """A certificate cannot be used; the text says why."""


class Certificate:
    """A certificate with its key, in *cert* too if there is no file *key*. Raises `BadCertificate`.

    A listener keeps the `context` that it was given, so each handshake is told by a callback
    which one counts now: a new pair comes into force in one step, or not at all.
    """

    def __init__(self, cert: Path, key: Path | None) -> None:
        self._cert, self._key = cert, key
        self._now = self.context = self._load()
        # Called for clients that name no host as well.
        self.context.sni_callback = self._choose

    def reload(self) -> None:
        """Take what is in the files now. Raises `BadCertificate`, and keeps the old pair then."""
        self._now = self._load()

    def _choose(self, connection: ssl.SSLObject, host: str | None, _: ssl.SSLContext) -> None:
        connection.context = self._now

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            # With a password of ours, or it would ask for one at the terminal.
            context.load_cert_chain(self._cert, self._key, password="")
        except (OSError, ValueError) as error:
            raise BadCertificate(f"Could not use {self._files}: {_why(error)}") from None
        return context

    @property
    def _files(self) -> str:
        return f"{self._cert}" if self._key is None else f"{self._cert} with {self._key}"


def trust(path: str) -> ssl.SSLContext:
    """Return what a client trusts: the authorities in the file *path*. Raises `BadCertificate`."""
    try:
        return ssl.create_default_context(cafile=path)
    except (OSError, ValueError) as error:
        raise BadCertificate(f"{path}: {_why(error)}") from None


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError):
        what = (error.reason or "").replace("_", " ").lower()
        return what if what and what != "pem lib" else "no PEM file with what is needed"
    return reason(error) if isinstance(error, OSError) else str(error)
