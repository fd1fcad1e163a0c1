"""Responses of a fuzzed server: what the bytes it sent mean, and whether it may send them.

The bytes may end anywhere. Pure functions: bytes in, a description out.
"""

from __future__ import annotations

import re

from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from broadcast_server.protocol.codec import decode_event
from broadcast_server.protocol.messages import SUBPROTOCOL

EXPECTED_5XX = frozenset((501, 503, 505))
"""Statuses of 500 and above that are valid responses to bad requests."""


def classify(got: bytes, ended: bool, *, hosted: bool = False) -> str:
    """Describe the bytes *got* from a server; *ended* is whether it closed the connection.

    With *hosted*, a status of 500 is no fault: Daphne sends it by itself, and an error of our own
    code would be in the log. Raises ValueError for what no server may send.
    """
    if not got:
        return "ended" if ended else "nothing"
    line = re.match(rb"HTTP/1\.[01] (\d{3})\b", got)
    if line is None:
        raise ValueError(f"not HTTP: {got[:80]!r}")
    status = int(line[1])
    if status >= 500 and status not in EXPECTED_5XX and not hosted:
        raise ValueError(f"an internal error: {got[:80]!r}")
    if status != 101:
        return str(status)
    head, end, rest = got.partition(b"\r\n\r\n")
    if not end:
        raise ValueError("half a handshake")
    close = read_close(rest, as_json=SUBPROTOCOL.encode() in head)
    if close is not None:
        return f"101, closed with {close.code}"
    return "101, ended" if ended else "101, open"


def read_close(data: bytes, *, as_json: bool) -> Close | None:
    """Read a server's frames, the last of which may be incomplete, and return the close frame.

    Raises ValueError for frames that our servers may not send.
    """
    reader = ClientProtocol(parse_uri("ws://x/"), max_size=None, state=State.OPEN)
    reader.receive_data(data)
    for event in reader.events_received():
        assert isinstance(event, Frame)
        if event.opcode is Opcode.TEXT:
            for each in bytes(event.data).decode().split("\n"):
                if not each or (as_json and decode_event(each) is None):
                    raise ValueError(f"not a valid line: {each[:80]!r}")
        elif event.opcode not in (Opcode.CLOSE, Opcode.PING, Opcode.PONG):
            raise ValueError(f"a frame of opcode {event.opcode}")
    if reader.parser_exc is not None and not isinstance(reader.parser_exc, EOFError):
        raise ValueError(f"bad frames: {reader.parser_exc}")
    if reader.close_rcvd is not None and reader.close_rcvd.code == 1011:
        raise ValueError("closed with 1011")
    return reader.close_rcvd
