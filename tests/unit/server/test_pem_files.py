"""TLS files that cannot be used: the error says what they are, and what helps."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs12,
)
from cryptography.x509.oid import NameOID

from broadcast_server.server.tls import CertificateError, ReloadableCertificate, load_authorities

NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
LOCKED = BestAvailableEncryption(b"secret")


def certificate(
    key: ec.EllipticCurvePrivateKey, since: int = -1, until: int = 1
) -> x509.Certificate:
    """Return a certificate that is valid from *since* to *until*, in days from now."""
    now = datetime.now(timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(NAME)
        .issuer_name(NAME)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now + timedelta(since))
        .not_valid_after(now + timedelta(until))
        .sign(key, hashes.SHA256())
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with good and bad files."""
    folder = tmp_path_factory.mktemp("pem")
    key, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    cert, pem = certificate(key), Encoding.PEM
    plain = key.private_bytes(pem, PrivateFormat.PKCS8, NoEncryption())
    whole = cert.public_bytes(pem)
    request = x509.CertificateSigningRequestBuilder().subject_name(NAME).sign(key, hashes.SHA256())
    files = {
        "cert": whole,
        "key": plain,
        "both": plain + whole,
        "chain": certificate(other).public_bytes(pem) + whole,
        "other-key": other.private_bytes(pem, PrivateFormat.PKCS8, NoEncryption()),
        "rsa-key": rsa.generate_private_key(65537, 2048).private_bytes(
            pem, PrivateFormat.PKCS8, NoEncryption()
        ),
        "locked": key.private_bytes(pem, PrivateFormat.PKCS8, LOCKED),
        "locked-old": key.private_bytes(pem, PrivateFormat.TraditionalOpenSSL, LOCKED),
        "both-locked": whole + key.private_bytes(pem, PrivateFormat.PKCS8, LOCKED),
        "cert.der": cert.public_bytes(Encoding.DER),
        "key.der": key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        "cert.p12": pkcs12.serialize_key_and_certificates(b"", key, cert, None, LOCKED),
        "request": request.public_bytes(pem),
        "public": key.public_key().public_bytes(pem, PublicFormat.SubjectPublicKeyInfo),
        "ssh": key.private_bytes(pem, PrivateFormat.OpenSSH, NoEncryption()),
        "cut-cert": whole[:200],
        "cut-key": plain[:100],
        "damaged": whole.replace(b"M", b"!", 1),
        "damaged-key": plain.replace(b"MIG", b"AAA", 1),
        "empty": b"",
        "text": b"hello\n",
        "zeros": bytes(100),
        "expired": certificate(key, -3, -1).public_bytes(pem),
        "early": certificate(key, 2, 3).public_bytes(pem),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "folder").mkdir()
    return folder


CONVERT = "(convert it to PEM: openssl"
INSTEAD = "(name a file with what is needed instead)"


@pytest.mark.parametrize(
    ("cert", "key", "error"),
    [
        ("cert", "locked", ("the private key in locked is encrypted (store it without a password:"
         " openssl pkey -in locked -out NEW-FILE)")),
        ("cert", "locked-old", ("the private key in locked-old is encrypted (store it without a"
         " password: openssl pkey -in locked-old -out NEW-FILE)")),
        ("both-locked", None, ("the private key in both-locked is encrypted (store it without a"
         " password: openssl pkey -in both-locked -out NEW-FILE)")),
        ("key", "cert", ("key has a private key and cert a certificate"
         " (swap them: --tls-cert cert --tls-key key)")),
        ("cert", "other-key", ("the private key in other-key does not belong to the certificate in"
         " cert (name the key that it was made with)")),
        ("cert", "rsa-key", ("the private key in rsa-key does not belong to the certificate in"
         " cert (name the key that it was made with)")),
        ("chain", "key", ("the private key in key does not belong to the first certificate in chain"
         " (the server's own comes first, then its issuers)")),
        ("cert.der", "key", (f"cert.der is in the binary format DER {CONVERT}"
         " x509 -in cert.der -out NEW-FILE)")),
        ("cert", "key.der", (f"key.der is in the binary format DER {CONVERT}"
         " pkey -in key.der -out NEW-FILE)")),
        ("cert.p12", None, (f"cert.p12 is in the binary format PKCS #12 {CONVERT}"
         " pkcs12 -nodes -in cert.p12 -out NEW-FILE)")),
        ("cert", None, ("cert has a certificate, and no private key"
         " (name its file with --tls-key)")),
        ("cert", "cert", ("cert has a certificate, and no private key"
         " (name its file with --tls-key)")),
        ("key", None, "key has a private key, and no certificate (name its file with --tls-cert)"),
        ("request", "key", f"request has a certificate request {INSTEAD}"),
        ("cert", "public", f"public has a public key {INSTEAD}"),
        ("cert", "ssh", f"ssh has a key of OpenSSH {INSTEAD}"),
        ("cut-cert", "key", "cut-cert is damaged or cut off (copy it again)"),
        ("cert", "cut-key", "cut-key is damaged or cut off (copy it again)"),
        ("damaged", "key", "damaged or key is damaged (copy it again)"),
        ("cert", "damaged-key", "cert or damaged-key is damaged (copy it again)"),
        ("empty", "key", "empty is empty (name a PEM file)"),
        ("cert", "empty", "empty is empty (name a PEM file)"),
        ("text", "key", "text has no PEM data (name a PEM file)"),
        ("cert", "zeros", "zeros has no PEM data (name a PEM file)"),
    ],
)  # fmt: skip
def test_a_pair_that_cannot_be_used(
    folder: Path, cert: str, key: str | None, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says which file is at fault, what it is, and what helps."""
    monkeypatch.chdir(folder)
    with pytest.raises(CertificateError) as raised:
        ReloadableCertificate(Path(cert), None if key is None else Path(key))
    assert str(raised.value) == f"Could not use the certificate: {error}"


@pytest.mark.parametrize(
    ("cert", "key", "error"),
    [
        ("folder", "key", "folder: is a directory (name a file in it)"),
        ("cert", "folder", "folder: is a directory (name a file in it)"),
        ("no", "key", "no: no such file or directory (check the path)"),
        ("cert", "no", "no: no such file or directory (check the path)"),
    ],
)
def test_a_file_that_cannot_be_read(
    folder: Path, cert: str, key: str, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the one of the two files that cannot be read."""
    monkeypatch.chdir(folder)
    with pytest.raises(CertificateError) as raised:
        ReloadableCertificate(Path(cert), Path(key))
    assert str(raised.value) == f"Could not use {error}"


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("key", "key has a private key, and no certificate (name the authority's certificate)"),
        ("cert.der", (f"cert.der is in the binary format DER {CONVERT} x509 -in cert.der"
         " -out NEW-FILE)")),
        ("request", f"request has a certificate request {INSTEAD}"),
        ("cut-cert", "cut-cert is damaged or cut off (copy it again)"),
        ("damaged", "damaged is damaged (copy it again)"),
        ("text", "text has no PEM data (name a PEM file)"),
    ],
)  # fmt: skip
def test_authorities_that_cannot_be_used(
    folder: Path, name: str, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does the error about the file of --tls-ca."""
    monkeypatch.chdir(folder)
    with pytest.raises(CertificateError) as raised:
        load_authorities(name)
    assert str(raised.value) == error


@pytest.mark.parametrize(
    ("cert", "warning"),
    [
        ("cert", ""),
        ("expired", "the certificate in {} has expired (renew it)"),
        ("early", "the certificate in {} is not valid yet (check the clock)"),
    ],
)
def test_the_dates_of_a_certificate(folder: Path, cert: str, warning: str) -> None:
    """A certificate that clients will reject because of its dates is used, with a warning."""
    used = ReloadableCertificate(folder / cert, folder / "key")
    assert used.warning == warning.format(folder / cert)
    (folder / "renewed").write_bytes((folder / cert).read_bytes())
    renewed = ReloadableCertificate(folder / "renewed", folder / "key")
    (folder / "renewed").write_bytes((folder / "cert").read_bytes())
    renewed.reload()
    assert renewed.warning == ""


def test_files_that_can_be_used(folder: Path) -> None:
    """A key and its certificate in one file can be used, in any order, and so can a pipe."""
    assert ReloadableCertificate(folder / "both", None).warning == ""
    read, write = os.pipe()
    try:
        os.write(write, (folder / "key").read_bytes())
        os.close(write)
        ReloadableCertificate(folder / "cert", Path(f"/dev/fd/{read}"))
    finally:
        os.close(read)
    load_authorities(str(folder / "both"))
