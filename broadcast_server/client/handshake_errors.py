"""Handshake errors: why the client has no WebSocket connection, in words for its user."""

from __future__ import annotations

import asyncio
import ssl

from websockets.exceptions import (
    InvalidHandshake,
    InvalidHeader,
    InvalidMessage,
    InvalidStatus,
    InvalidUpgrade,
    InvalidURI,
    NegotiationError,
)
from websockets.http11 import Response

from .connect_errors import (
    CLOSED_IN_TLS_HANDSHAKE,
    CLOSED_WITHOUT_RESPONSE,
    CLOSED_WITHOUT_TLS,
    INVALID_HTTP,
    NOT_HTTP,
    ConnectFailure,
    describe_connect_error,
)
from .http_status import describe_foreign_success, describe_status, same_server_redirect
from .response_head import ResponseHead

INSTRUCTIONS_BEGIN = b"This is a broadcast server."
"""With these words a broadcast server answers a request that asks for no WebSocket."""

UPGRADE_REMOVED = ConnectFailure(
    "a broadcast server is there, but a proxy before it removes the Upgrade header of the request",
    remedy="let the proxy pass on the headers Upgrade and Connection",
)

RESPONSE_UPGRADE_REMOVED = ConnectFailure(
    "the response has status 101 but no valid Upgrade header, a proxy may remove it",
    remedy="let the proxy pass on the headers Upgrade and Connection",
)

INVALID_HANDSHAKE = ConnectFailure(
    "no broadcast server is there: HTTP status 101 without a valid handshake"
)

NO_SUBPROTOCOL = ConnectFailure(
    "no broadcast server is there: the WebSocket server selects no subprotocol"
)


def describe_handshake_error(
    error: Exception, *, plain: bool, url: str, head: ResponseHead | None = None
) -> ConnectFailure:
    """Describe why a WebSocket connection to *url* could not be made.

    Whether it is `final` is not known. *plain* tells whether it is a TCP connection without TLS,
    and *head* has what the server sent first.
    """
    if (response := _response_of(error)) is not None:
        return _describe_response(response, url)
    match error:
        case InvalidHandshake() if head is not None and not head.is_http:
            return NOT_HTTP
        case InvalidMessage(__cause__=EOFError()) if head is not None and head.first:
            return CLOSED_WITHOUT_RESPONSE
        case InvalidMessage(__cause__=EOFError()):
            return CLOSED_WITHOUT_TLS if plain else CLOSED_WITHOUT_RESPONSE
        case InvalidUpgrade():
            return RESPONSE_UPGRADE_REMOVED
        case NegotiationError():  # another subprotocol or an extension, which it names
            return ConnectFailure(f"no broadcast server is there: {error}")
        case InvalidHeader():
            return INVALID_HANDSHAKE
        case InvalidHandshake():
            return INVALID_HTTP
        case UnicodeError() | ssl.SSLCertVerificationError():  # these are a ValueError, too
            return describe_connect_error(error)
        case InvalidURI() | ValueError():
            return ConnectFailure("not the address of a WebSocket")
        case ConnectionResetError(errno=None):
            # asyncio raises it without an error number if the server closes the connection during
            # the TLS handshake, as a server without TLS does.
            return CLOSED_IN_TLS_HANDSHAKE
        case asyncio.TimeoutError():  # until Python 3.11 this is not the built-in TimeoutError
            return describe_connect_error(TimeoutError())
    return describe_connect_error(error)


def redirect_of(error: Exception, url: str) -> str | None:
    """Return where *error* redirects to, if that is another path on the server of *url*."""
    response = _response_of(error)
    if response is None:
        return None
    return same_server_redirect(response.status_code, response.headers.get("Location"), url)


def _response_of(error: BaseException | None) -> Response | None:
    """Return the response that rejected the handshake, None if the error is another one.

    For a redirect that websockets does not follow, it raises an error about the new address, in
    the context of that response.
    """
    while error is not None:
        if isinstance(error, InvalidStatus):
            return error.response
        error = error.__cause__ or error.__context__
    return None


def _describe_response(response: Response, url: str) -> ConnectFailure:
    status, body = response.status_code, bytes(response.body or b"")
    if 200 <= status < 300:
        if body.startswith(INSTRUCTIONS_BEGIN):
            return UPGRADE_REMOVED
        return ConnectFailure(
            describe_foreign_success(status),
            hint="or does a proxy remove the Upgrade header?",
        )
    headers = {name.lower(): value for name, value in response.headers.raw_items()}
    failure = describe_status(status, headers, body, url)
    return ConnectFailure(failure.reason, temporary=failure.temporary, wait=failure.wait)
