"""The handshake of a WebSocket, as far as the library leaves it to us."""

from __future__ import annotations

from collections.abc import Sequence

from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from broadcast_server.protocol.messages import SUBPROTOCOL

INVALID_HANDSHAKE = "request is not a valid handshake\n"


def offered_subprotocols(request: Request) -> list[str]:
    """Return the subprotocols that the client offers, those with a secret too."""
    values = ",".join(request.headers.get_all("Sec-WebSocket-Protocol"))
    return [value.strip() for value in values.split(",")]


def accept(protocol: ServerProtocol, request: Request) -> Response:
    """Return the response that accepts *request*, or rejects what the library cannot parse."""
    # If a header that it parses has non-ASCII text, websockets 16.1 responds with 500, or raises
    # UnicodeError while it builds a response that quotes the header. websockets 17.4 responds with
    # 400 by itself, but the single file contains 16.1.
    try:
        response = protocol.accept(request)
    except UnicodeError:
        return protocol.reject(400, INVALID_HANDSHAKE)
    if response.status_code == 500:
        return protocol.reject(400, INVALID_HANDSHAKE)
    return response


def select_subprotocol(
    protocol: ServerProtocol, offered: Sequence[Subprotocol]
) -> Subprotocol | None:
    """Select JSON if the client offers it, and nothing else."""
    # By default websockets rejects a client that offers no subprotocol.
    return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in offered else None
