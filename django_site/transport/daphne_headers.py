"""Daphne's headers: two of them are left out, which Daphne would decode or obey.

Daphne takes the prefix of all paths from a header, which any client can send. It decodes this
header and the subprotocols before it makes a scope, and if that fails, it logs the traceback and
answers 500. Verified with Daphne 4.2.3.
"""

from __future__ import annotations

from typing import Any

from daphne.http_protocol import WebRequest
from daphne.ws_protocol import WebSocketProtocol

ROOT_PATH = "Daphne-Root-Path"
SUBPROTOCOLS = "sec-websocket-protocol"


def ignore_odd_headers() -> None:
    """Have Daphne take a request with such a header for one without it, from now on."""
    process = WebRequest.process
    connect = WebSocketProtocol.onConnect

    def process_request(self: Any) -> Any:
        self.requestHeaders.removeHeader(ROOT_PATH)  # a handshake is a request here, too
        return process(self)

    def on_connect(self: Any, request: Any) -> Any:
        if not request.headers.get(SUBPROTOCOLS, "").isascii():
            del request.headers[SUBPROTOCOLS]
        return connect(self, request)

    WebRequest.process = process_request
    WebSocketProtocol.onConnect = on_connect
