"""The close reason: who closed a connection, and why."""

from __future__ import annotations

import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close

from broadcast_server.client.close_reason import CloseReason, describe_close


@pytest.mark.parametrize(
    ("received", "sent", "received_first", "reason"),
    [
        (None, None, None, CloseReason(1006, "connection lost")),
        (Close(4001, "stopping"), Close(4001, ""), True, CloseReason(4001, "stopping")),
        (Close(1007, "no"), Close(1007, "no"), True, CloseReason(1007, "no")),
        (
            Close(1007, ""),
            Close(1007, "invalid start byte at position 0"),
            False,
            CloseReason(
                1006,
                "the server sent text that is not UTF-8: invalid start byte at position 0",
                invalid=True,
            ),
        ),
        (
            None,
            Close(1011, "keepalive ping timeout"),
            None,
            CloseReason(1006, "the server did not answer a ping within 20 s"),
        ),
        (None, Close(1011, ""), None, CloseReason(1006, "connection lost")),
    ],
)
def test_close_reasons(
    received: Close | None, sent: Close | None, received_first: bool | None, reason: CloseReason
) -> None:
    """What the server closes with is told apart from what the client found out itself."""
    closed = ConnectionClosedError(received, sent, received_first)
    assert describe_close(closed) == reason
