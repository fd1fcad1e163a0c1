"""Connect errors: the words for a failed connection, and whether a retry can help."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest

from broadcast_server.client.connect_errors import ConnectFailure, describe_connect_error


def tls_error(reason: str) -> ssl.SSLError:
    """Return an error as the TLS library raises it."""
    error = ssl.SSLError(1, f"[SSL] {reason} (_ssl.c:1006)")
    error.reason = reason
    return error


def certificate_error(message: str, code: int) -> ssl.SSLCertVerificationError:
    """Return an error of the verification of a certificate, with OpenSSL's *code*."""
    error = ssl.SSLCertVerificationError(1, message)
    error.verify_message, error.verify_code = message, code
    return error


@pytest.mark.parametrize(
    ("error", "text", "final"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "unknown host", True),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), "unknown host", False),
        (UnicodeError("label empty or too long"), "unknown host", True),
        (certificate_error("self-signed", 18), "its certificate is not trusted: self-signed", True),
        (
            ssl.SSLEOFError(8, "unexpected eof while reading"),
            "TLS failed: the server closed the connection, does it use TLS?",
            True,
        ),
        (tls_error("WRONG_VERSION_NUMBER"), "TLS failed: wrong version number", True),
        (TimeoutError(), "no answer in time", False),
        (ConnectionRefusedError(), "connection refused, is it running?", False),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "no route to host", False),
        (FileNotFoundError(errno.ENOENT, "x"), "no such file or directory", False),
        (OSError("the host has no address"), "the host has no address", True),
    ],
)
def test_connect_errors(error: Exception, text: str, final: bool) -> None:
    """Each kind of error has its words, and is final if another attempt would fail as well."""
    failure = describe_connect_error(error)
    assert (failure.text, failure.final) == (text, final)


def test_the_hint_is_separate_from_the_reason() -> None:
    """A client that reconnects shows the reason alone; the hint is for the first attempt."""
    assert describe_connect_error(ConnectionRefusedError()).reason == "connection refused"
    assert ConnectFailure("lost").text == "lost"


@pytest.mark.parametrize(
    ("message", "code", "end"),
    [
        ("self-signed certificate", 18, "self-signed certificate) (pass it with --tls-ca FILE)"),
        ("unable to get local issuer", 20, "local issuer) (pass it with --tls-ca FILE)"),
        ("certificate has expired", 10, "certificate has expired)"),
        ("Hostname mismatch", 62, "Hostname mismatch)"),
    ],
)
def test_the_remedy_for_an_unknown_authority(message: str, code: int, end: str) -> None:
    """The error ends with --tls-ca only if another authority would help."""
    text = describe_connect_error(certificate_error(message, code)).message("wss://h:1/")
    assert text.startswith("Could not connect to server at wss://h:1/ (its certificate is not ")
    assert text.endswith(end)
