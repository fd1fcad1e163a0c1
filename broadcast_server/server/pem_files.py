"""PEM files: why OpenSSL cannot use a certificate or a key, from what is in the files. Pure.

OpenSSL's own reasons do not tell an encrypted key from a file of another kind.
"""

from __future__ import annotations

import re

_LABEL = re.compile(rb"^-----BEGIN ([A-Z0-9 ]+)-----\s*$", re.MULTILINE)
_BLOCK = re.compile(
    rb"^-----BEGIN ([A-Z0-9 ]+)-----\s*$.*?^-----END \1-----", re.MULTILINE | re.DOTALL
)

CERTIFICATES = {b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE"}
OTHERS = {
    b"CERTIFICATE REQUEST": "a certificate request",
    b"NEW CERTIFICATE REQUEST": "a certificate request",
    b"PUBLIC KEY": "a public key",
    b"OPENSSH PRIVATE KEY": "a key of OpenSSH",
    b"PKCS7": "PKCS #7",
    b"X509 CRL": "a list of revoked certificates",
}
"""What may be in a PEM file instead of a certificate or a private key."""


class PEMFile:
    """The content of a file that should be in the format PEM. *name* is how to call the file."""

    def __init__(self, name: str, data: bytes) -> None:
        self.name = name
        self._data = data
        self._labels = [match[1] for match in _LABEL.finditer(data)]
        self._keys = [each for each in self._labels if each.endswith(b"PRIVATE KEY")]
        if b"OPENSSH PRIVATE KEY" in self._keys:
            self._keys.remove(b"OPENSSH PRIVATE KEY")
        self.certificates = sum(each in CERTIFICATES for each in self._labels)

    @property
    def has_key(self) -> bool:
        """Whether it has a private key."""
        return bool(self._keys)

    @property
    def has_encrypted_key(self) -> bool:
        """Whether its private key can only be used with a password."""
        return b"ENCRYPTED PRIVATE KEY" in self._keys or b"\nProc-Type: 4,ENCRYPTED" in self._data

    @property
    def problem(self) -> str:
        """Why it has neither a certificate nor a key, and the remedy; "" if it has one of them."""
        if self.certificates or self.has_key:
            if len(self._labels) > len(_BLOCK.findall(self._data)):
                return f"{self.name} is damaged or cut off (copy it again)"
            return ""
        for label, kind in OTHERS.items():
            if label in self._labels:
                return f"{self.name} has {kind} (name a file with what is needed instead)"
        if not self._data.strip():
            return f"{self.name} is empty (name a PEM file)"
        return self._binary_problem or f"{self.name} has no PEM data (name a PEM file)"

    @property
    def _binary_problem(self) -> str:
        """The problem with a file in DER, which begins with a SEQUENCE (X.690, 8.9)."""
        if self._data[:1] != b"\x30" or len(self._data) < 16:
            return ""
        begin = 2 if self._data[1] < 0x80 else 2 + self._data[1] % 0x80
        first, kind = self._data[begin : begin + 3], "DER"
        command = "x509"
        if first == b"\x02\x01\x03":  # its version (RFC 7292, 4)
            kind, command = "PKCS #12", "pkcs12 -nodes"
        elif first[:1] == b"\x02":  # a version as well (RFC 5208, 5), where a certificate has more
            command = "pkey"
        return (
            f"{self.name} is in the binary format {kind}"
            f" (convert it to PEM: openssl {command} -in {self.name} -out NEW-FILE)"
        )


def explain_pair(cert: PEMFile, key: PEMFile) -> str:
    """Return why a server cannot use *cert* with *key*, and the remedy; "" if that is not known.

    Both may be the same file.
    """
    if cert is not key and key.certificates and cert.has_key and not cert.certificates:
        return (
            f"{cert.name} has a private key and {key.name} a certificate"
            f" (swap them: --tls-cert {key.name} --tls-key {cert.name})"
        )
    if problem := cert.problem or key.problem:
        return problem
    if not cert.certificates:
        return f"{cert.name} has a private key, and no certificate (name its file with --tls-cert)"
    if not key.has_key:
        return f"{key.name} has a certificate, and no private key (name its file with --tls-key)"
    if key.has_encrypted_key:
        return (
            f"the private key in {key.name} is encrypted"
            f" (store it without a password: openssl pkey -in {key.name} -out NEW-FILE)"
        )
    return ""


def explain_mismatch(cert: PEMFile, key: PEMFile) -> str:
    """Return that the key of *key* belongs to another certificate than the first of *cert*."""
    which = "the first certificate" if cert.certificates > 1 else "the certificate"
    remedy = (
        "the server's own comes first, then its issuers"
        if cert.certificates > 1
        else ("name the key that it was made with")
    )
    return f"the private key in {key.name} does not belong to {which} in {cert.name} ({remedy})"


def explain_authorities(file: PEMFile) -> str:
    """Return why *file* has no certificate authorities, and the remedy; "" if not known."""
    if file.problem or file.certificates:
        return file.problem
    return f"{file.name} has a private key, and no certificate (name the authority's certificate)"
