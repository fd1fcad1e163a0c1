"""Daphne's handshake: subprotocols that are not ASCII offer nothing, instead of a traceback.

Daphne decodes the header as ASCII before it makes a scope. If that fails, it logs the traceback and
answers 500. Verified with Daphne 4.2.3.
"""

from __future__ import annotations

from typing import Any

from daphne.ws_protocol import WebSocketProtocol

HEADER = "sec-websocket-protocol"


def ignore_odd_subprotocols() -> None:
    """Have Daphne take a handshake with such a header for one without it, from now on."""
    connect = WebSocketProtocol.onConnect

    def on_connect(self: Any, request: Any) -> Any:
        if not request.headers.get(HEADER, "").isascii():
            del request.headers[HEADER]
        return connect(self, request)

    WebSocketProtocol.onConnect = on_connect
