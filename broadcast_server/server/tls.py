"""TLS: the server's certificate, which can be renewed while it runs, and what a client trusts."""

from __future__ import annotations

import ssl
from pathlib import Path

from broadcast_server.console.os_error import describe_file_error
from broadcast_server.console.private_file import NotAFileError, check_regular

from .pem_files import PEMFile, explain_authorities, explain_mismatch, explain_pair


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
        self.warning = ""
        """Why clients will reject the certificate, "" if they will not because of its dates."""
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
            raise CertificateError(f"Could not use {self._explain(error)}") from None
        self.warning = _validity_warning(context, self._cert)
        return context

    def _explain(self, error: OSError | ValueError) -> str:
        try:
            cert = _read(self._cert)
            key = cert if self._key in (None, self._cert) else _read(self._key)
        except CertificateError as unreadable:
            return str(unreadable)
        why = explain_pair(cert, key) or _describe(error, cert, key)
        return f"the certificate: {why}"


def load_authorities(path: str) -> ssl.SSLContext:
    """Return a client's context that trusts the certificate authorities in the file *path*.

    Raises `CertificateError` if the file cannot be used.
    """
    try:
        return ssl.create_default_context(cafile=path)
    except (OSError, ValueError) as error:
        file = _read(Path(path))
        why = explain_authorities(file) or _describe(error, file, file)
        raise CertificateError(why) from None


def _read(path: Path) -> PEMFile:
    """Return what is in the file *path*, which cannot be used. Raises `CertificateError`."""
    try:
        if not path.is_dir():  # which is described as such when it is read
            check_regular(path.stat())
        return PEMFile(str(path), path.read_bytes())
    except NotAFileError as error:
        # A pipe can be used, as of `<(command)`, but read only once.
        raise CertificateError(f"{path}: it is {error.kind} (copy it to a file)") from None
    except OSError as error:
        raise CertificateError(f"{path}: {describe_file_error(error)}") from None
    except ValueError as error:  # a zero byte in the path
        raise CertificateError(f"{path}: {error}") from None


def _describe(error: OSError | ValueError, cert: PEMFile, key: PEMFile) -> str:
    """Return the reason of OpenSSL for files that have what they should have."""
    if not isinstance(error, ssl.SSLError):
        return describe_file_error(error) if isinstance(error, OSError) else str(error)
    reason = (error.reason or "").replace("_", " ").lower()
    if "mismatch" in reason or reason == "no certificate assigned":
        return explain_mismatch(cert, key)
    if reason.endswith("key too small"):
        return f"its key is too short to be secure, in {cert.name} (make a longer one)"
    if not reason or reason in ("pem lib", "no certificate or crl found"):
        names = cert.name if cert is key else f"{cert.name} or {key.name}"
        reason = f"{names} is damaged (copy it again)"
    return reason


def _validity_warning(context: ssl.SSLContext, cert: Path) -> str:
    """Return a warning if clients will reject the certificate because of its dates, else "".

    A handshake without a network is the only public way to have OpenSSL look at them.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cert)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(down, up), context.wrap_bio(up, down, server_side=True)
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                dates = {9: "is not valid yet (check the clock)", 10: "has expired (renew it)"}
                problem = dates.get(error.verify_code)
                return f"the certificate in {cert} {problem}" if problem else ""
            except ssl.SSLError:
                return ""
    return ""
