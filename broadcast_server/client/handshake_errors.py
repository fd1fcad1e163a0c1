"""Handshake errors: why the client has no WebSocket connection, in words for its user."""

from __future__ import annotations

import asyncio
import ssl

from websockets.exceptions import InvalidHandshake, InvalidMessage, InvalidStatus, InvalidURI

from .connect_errors import (
    CLOSED_IN_TLS_HANDSHAKE,
    CLOSED_WITHOUT_RESPONSE,
    CLOSED_WITHOUT_TLS,
    ConnectFailure,
    describe_connect_error,
)


def describe_handshake_error(error: Exception, *, plain: bool) -> ConnectFailure:
    """Describe why a WebSocket connection could not be made. Whether it is `final` is not known.

    *plain* tells whether it is a TCP connection without TLS.
    """
    match error:
        case InvalidStatus(response=response):
            body = bytes(response.body or b"").decode(errors="replace").strip()
            if response.status_code in (401, 403, 421) and body:
                return ConnectFailure(body.splitlines()[0])
            return ConnectFailure(
                f"no broadcast server is there: HTTP status {response.status_code}"
            )
        case InvalidMessage(__cause__=EOFError()):
            return CLOSED_WITHOUT_TLS if plain else CLOSED_WITHOUT_RESPONSE
        case InvalidHandshake():
            return ConnectFailure("no WebSocket server is there")
        case UnicodeError() | ssl.SSLCertVerificationError():  # these are a ValueError, too
            return describe_connect_error(error)
        case InvalidURI() | ValueError():  # the latter for a redirect to another host
            return ConnectFailure("not the address of a WebSocket")
        case ConnectionResetError(errno=None):
            # asyncio raises it without an error number if the server closes the connection during
            # the TLS handshake, as a server without TLS does.
            return CLOSED_IN_TLS_HANDSHAKE
        case asyncio.TimeoutError():  # until Python 3.11 this is not the built-in TimeoutError
            return describe_connect_error(TimeoutError())
    return describe_connect_error(error)
