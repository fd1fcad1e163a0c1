"""Connect errors: why a connection could not be made, in words that WebSocket and HTTP share."""

from __future__ import annotations

import os
import socket
import ssl
from typing import NamedTuple


class ConnectFailure(NamedTuple):
    """Why a connection could not be made."""

    reason: str
    """A few words in lower case, without the address."""
    final: bool = False
    """Whether another attempt is known to fail in the same way."""
    hint: str = ""
    """A question to ask if there was no connection before, or ""."""

    @property
    def text(self) -> str:
        """The reason and the hint."""
        return f"{self.reason}, {self.hint}" if self.hint else self.reason


def describe_connect_error(error: Exception) -> ConnectFailure:
    """Describe an error of the host look-up, the TCP connection, or the TLS handshake."""
    match error:
        case UnicodeError():  # the host cannot be encoded as IDNA
            return ConnectFailure("unknown host", final=True)
        case socket.gaierror(errno=number):
            return ConnectFailure("unknown host", final=number != socket.EAI_AGAIN)
        case ssl.SSLCertVerificationError(verify_message=message):
            return ConnectFailure(f"its certificate is not trusted: {message}", final=True)
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
