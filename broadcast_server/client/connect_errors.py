"""Connect errors: why a connection could not be made, in words that WebSocket and HTTP share."""

from __future__ import annotations

import os
import socket
import ssl
from typing import NamedTuple

from .proxy import ProxyError


class ConnectFailure(NamedTuple):
    """Why a connection could not be made."""

    reason: str
    """A few words in lower case, without the address."""
    final: bool = False
    """Whether another attempt is known to fail in the same way."""
    hint: str = ""
    """A question to ask if there was no connection before, or ""."""
    remedy: str = ""
    """What helps if there was no connection before, or ""."""
    temporary: bool = False
    """Whether a server is there and says that another attempt may succeed."""
    wait: float = 0.0
    """Seconds to wait at least before that."""

    @property
    def text(self) -> str:
        """The reason and the hint."""
        return f"{self.reason}, {self.hint}" if self.hint else self.reason

    def message(self, address: str) -> str:
        """Return the whole error of a first attempt to connect to *address*."""
        text = f"Could not connect to server at {address} ({self.text})"
        return f"{text} ({self.remedy})" if self.remedy else text


CLOSED_IN_TLS_HANDSHAKE = ConnectFailure(
    "TLS failed: the server closed the connection", hint="does it use TLS?"
)
"""How a server without TLS reacts to wss://."""

CLOSED_WITHOUT_RESPONSE = ConnectFailure("the server closed the connection")
"""The server closed the connection before the end of its response to a request."""

CLOSED_WITHOUT_TLS = CLOSED_WITHOUT_RESPONSE._replace(hint="does the port use TLS (wss://)?")
"""The same for ws://, as servers with TLS react to it."""

NOT_HTTP = ConnectFailure("no web server is there", final=True)
"""The server sent something else than an HTTP response."""

INVALID_HTTP = ConnectFailure("the server's response is not valid HTTP", final=True)
"""The server sent what begins as an HTTP response, and is none."""

TOO_MANY_REDIRECTS = ConnectFailure(
    "the server redirects from one path to the next without an end", final=True
)

UNKNOWN_AUTHORITY = {2, 18, 19, 20, 21}
"""Codes of a certificate whose authority is not trusted (OpenSSL, X509_V_ERR_*). Others, such as
that of an expired certificate, stay with any authority."""


def describe_connect_error(error: Exception) -> ConnectFailure:
    """Describe an error of the host look-up, the TCP connection, or the TLS handshake."""
    match error:
        case ProxyError(reason=reason, remedy=remedy, final=final, temporary=temporary):
            return ConnectFailure(reason, final=final, remedy=remedy, temporary=temporary)
        case UnicodeError():  # the host cannot be encoded as IDNA
            return ConnectFailure("unknown host", final=True)
        case socket.gaierror(errno=number):
            return ConnectFailure("unknown host", final=number != socket.EAI_AGAIN)
        case ssl.SSLCertVerificationError(verify_message=message, verify_code=code):
            remedy = "pass it with --tls-ca FILE" if code in UNKNOWN_AUTHORITY else ""
            reason = f"its certificate is not trusted: {message}"
            return ConnectFailure(reason, final=True, remedy=remedy)
        case ssl.SSLEOFError():
            return CLOSED_IN_TLS_HANDSHAKE._replace(final=True)
        case ssl.SSLError(reason=reason):
            cause = (reason or str(error)).replace("_", " ").lower()
            return ConnectFailure(f"TLS failed: {cause}", final=True)
        case TimeoutError():
            return ConnectFailure("no answer in time")
        case ConnectionRefusedError():
            return ConnectFailure("connection refused", hint="is it running?")
        case OSError(errno=int() as number):
            return ConnectFailure(os.strerror(number).lower())
    return ConnectFailure(str(error), final=True)
