"""The close reason: why a WebSocket connection ended, in words for the client's user."""

from __future__ import annotations

from typing import NamedTuple

from websockets.exceptions import ConnectionClosed

from broadcast_server.protocol.messages import ABNORMAL_CLOSURE

PROTOCOL_ERROR, INVALID_DATA, MESSAGE_TOO_BIG = 1002, 1007, 1009
"""Codes with which a client closes a connection because of what it found (RFC 6455, 7.4.1)."""

CONNECTION_LOST = "connection lost"


class CloseReason(NamedTuple):
    """Why a connection ended."""

    code: int
    """The server's close code, `ABNORMAL_CLOSURE` if it sent none."""
    reason: str
    """In words; "" if the server gave no reason."""
    invalid: bool = False
    """Whether the server sent what no broadcast server sends."""


def describe_close(closed: ConnectionClosed) -> CloseReason:
    """Describe the end of a connection."""
    if closed.sent is not None and not closed.rcvd_then_sent:
        detail = f": {closed.sent.reason}" if closed.sent.reason else ""
        invalid = {
            PROTOCOL_ERROR: f"the server sent an invalid frame{detail}",
            INVALID_DATA: f"the server sent text that is not UTF-8{detail}",
            MESSAGE_TOO_BIG: f"the server sent too much in one message{detail}",
        }
        if closed.sent.code in invalid:
            text = invalid[closed.sent.code]
            return CloseReason(ABNORMAL_CLOSURE, text, invalid=True)
        if "ping timeout" in closed.sent.reason:  # of websockets: it waits 20 s for a pong
            return CloseReason(ABNORMAL_CLOSURE, "the server did not answer a ping within 20 s")
    if closed.rcvd is None:
        return CloseReason(ABNORMAL_CLOSURE, CONNECTION_LOST)
    return CloseReason(closed.rcvd.code, closed.rcvd.reason)
