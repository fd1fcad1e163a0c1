"""The handshake of a WebSocket in the library's hands, and the library's part of a connection."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from broadcast_server.http.allowed_hosts import AllowedHosts, check_host
from broadcast_server.http.own_page import check_socket
from broadcast_server.http.responses import Response as HTTPResponse
from broadcast_server.protocol.bounds import MAX_FRAME_BYTES
from broadcast_server.protocol.messages import ABNORMAL_CLOSURE, SUBPROTOCOL
from broadcast_server.protocol.session_key import SESSION_HEADER

from .upgrade_request import UpgradeRequest

INVALID_HANDSHAKE = "request is not a valid handshake\n"

# websockets logs every connection at level INFO, which the server's own log says better.
_silent_logger = logging.getLogger("websockets.broadcast")
_silent_logger.setLevel(logging.CRITICAL)


class _ServerProtocol(ServerProtocol):
    """The library's protocol, in which a client may close amid the fragments of a message."""

    def recv_frame(self, frame: Frame) -> None:
        """Process a frame."""
        # RFC 6455, section 5.4: "Control frames MAY be injected in the middle of a fragmented
        # message." The library takes a close frame there for a fault. What has come of the message
        # is never completed.
        if frame.opcode is Opcode.CLOSE:
            self.current_size = None
        super().recv_frame(frame)


def library_protocol(state: State) -> ServerProtocol:
    """Return the library's protocol for a connection in *state*: `CONNECTING` or `OPEN`."""
    return _ServerProtocol(
        subprotocols=[Subprotocol(SUBPROTOCOL)],
        select_subprotocol=select_subprotocol,
        state=state,
        max_size=MAX_FRAME_BYTES,
        logger=_silent_logger,
    )


def final_close_code(protocol: ServerProtocol) -> int:
    """Return the close code of the side that began the closing handshake, 1006 without one."""
    first = protocol.close_rcvd if protocol.close_rcvd_then_sent else protocol.close_sent
    first = first or protocol.close_rcvd
    return ABNORMAL_CLOSURE if first is None else int(first.code)


def upgrade_request(request: Request) -> UpgradeRequest:
    """Return a *request* that the library has parsed in the form of our own reader."""
    headers = request.headers
    values = ",".join(headers.get_all("Sec-WebSocket-Protocol"))
    return UpgradeRequest(
        target=request.path,
        headers={name.lower(): value for name, value in headers.raw_items()},
        hosts=headers.get_all("Host"),
        forwarded=headers.get_all("X-Forwarded-For"),
        sessions=headers.get_all(SESSION_HEADER),
        subprotocols=[value.strip() for value in values.split(",")],
    )


def check_upgrade(
    request: UpgradeRequest, hosts: AllowedHosts, origins: frozenset[str]
) -> HTTPResponse | None:
    """Return the response that rejects a request to another host or by a foreign page, or None."""
    path = request.target.partition("?")[0]
    named = request.hosts or [""]  # RFC 6455, section 4.1, requires one
    rejection = check_host(request.target, named, hosts)
    return rejection or check_socket(path, request.headers, origins)


def reject(protocol: ServerProtocol, response: HTTPResponse) -> None:
    """Let *protocol* send *response*, which rejects the handshake, and end the connection."""
    body = b"".join(response.body).decode()
    protocol.send_response(protocol.reject(response.status, body))


def accept(protocol: ServerProtocol, request: Request) -> bool:
    """Let *protocol* send the response to *request*. Return whether it accepts the handshake."""
    # If a header that it parses has non-ASCII text, websockets 16.1 responds with 500, or raises
    # UnicodeError while it builds a response that quotes the header. websockets 17.4 responds with
    # 400 by itself, but the single file contains 16.1.
    try:
        response = protocol.accept(request)
    except UnicodeError:
        response = protocol.reject(400, INVALID_HANDSHAKE)
    if response.status_code == 500:
        response = protocol.reject(400, INVALID_HANDSHAKE)
    protocol.send_response(response)
    return response.status_code == 101


def select_subprotocol(
    protocol: ServerProtocol, offered: Sequence[Subprotocol]
) -> Subprotocol | None:
    """Select JSON if the client offers it, and nothing else."""
    # By default websockets rejects a client that offers no subprotocol.
    return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in offered else None
