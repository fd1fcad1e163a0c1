"""TLS: the server's certificate, which can be renewed while it runs, and what a client trusts."""

from __future__ import annotations

import ssl
from pathlib import Path

from broadcast_server.console.os_error import describe_file_error


class CertificateError(Exception):
    """A certificate cannot be used. The text is for the user, and says why."""


class ReloadableCertificate:
    """A certificate in the file *cert*, and its key in *key*, or in *cert* too if that is None.

    A listener keeps using the `context` that it was given. A callback of that context makes each
    handshake use the certificate that was loaded last. So a new certificate and its key take
    effect together, or not at all.

    Raises `CertificateError` if the files cannot be used.
    """

    def __init__(self, cert: Path, key: Path | None) -> None:
        self._cert, self._key = cert, key
        self._current = self.context = self._load()
        # OpenSSL calls it also for clients that send no server name.
        self.context.sni_callback = self._choose

    def reload(self) -> None:
        """Load the files again. Raises `CertificateError`, and then keeps the old certificate."""
        self._current = self._load()

    def _choose(self, connection: ssl.SSLObject, host: str | None, _: ssl.SSLContext) -> None:
        connection.context = self._current

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            # With an encrypted key and no password, OpenSSL would ask for one at the terminal.
            context.load_cert_chain(self._cert, self._key, password="")
        except (OSError, ValueError) as error:
            raise CertificateError(f"Could not use {self._files}: {_describe(error)}") from None
        return context

    @property
    def _files(self) -> str:
        return f"{self._cert}" if self._key is None else f"{self._cert} with {self._key}"


def load_authorities(path: str) -> ssl.SSLContext:
    """Return a client's context that trusts the certificate authorities in the file *path*.

    Raises `CertificateError` if the file cannot be used.
    """
    try:
        return ssl.create_default_context(cafile=path)
    except (OSError, ValueError) as error:
        raise CertificateError(f"{path}: {_describe(error)}") from None


def _describe(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or "").replace("_", " ").lower()
        if not reason or reason in ("pem lib", "no certificate or crl found"):
            reason = "PEM data is missing or invalid"
        return f"{reason} (name a PEM file)"
    return describe_file_error(error) if isinstance(error, OSError) else str(error)
