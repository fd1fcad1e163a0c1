"""The answers: what a server sent to a client that was cut short, and whether it may send that.

Pure: bytes in, words out.
"""

from __future__ import annotations

import re

from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from broadcast_server.protocol import SUBPROTOCOL, parse_event

KNOWN = frozenset((501, 503, 505))
"""Statuses from 500 on that are answers, and no fault of the server's."""


def understood(got: bytes, ended: bool, *, hosted: bool = False) -> str:
    """Say what a server's answer was. Raises ValueError for what no server may send.

    Daphne's own 500 is no fault of ours; one of ours would be in the log.
    """
    if not got:
        return "ended" if ended else "nothing"
    line = re.match(rb"HTTP/1\.[01] (\d{3})\b", got)
    if line is None:
        raise ValueError(f"no HTTP: {got[:80]!r}")
    status = int(line[1])
    if status >= 500 and status not in KNOWN and not hosted:
        raise ValueError(f"an answer that is a fault: {got[:80]!r}")
    if status != 101:
        return str(status)
    head, end, rest = got.partition(b"\r\n\r\n")
    if not end:
        raise ValueError("half a handshake")
    close = heard(rest, as_json=SUBPROTOCOL.encode() in head)
    if close is not None:
        return f"101, closed with {close.code}"
    return "101, ended" if ended else "101, open"


def heard(data: bytes, *, as_json: bool) -> Close | None:
    """Read a server's frames, of which the last may not be whole, and return the close.

    Raises ValueError for what no server of ours may send.
    """
    reader = ClientProtocol(parse_uri("ws://x/"), max_size=None, state=State.OPEN)
    reader.receive_data(data)
    for event in reader.events_received():
        assert isinstance(event, Frame)
        if event.opcode is Opcode.TEXT:
            for each in bytes(event.data).decode().split("\n"):
                if not each or (as_json and parse_event(each) is None):
                    raise ValueError(f"no line: {each[:80]!r}")
        elif event.opcode not in (Opcode.CLOSE, Opcode.PING, Opcode.PONG):
            raise ValueError(f"a frame of opcode {event.opcode}")
    if reader.parser_exc is not None and not isinstance(reader.parser_exc, EOFError):
        raise ValueError(f"bad frames: {reader.parser_exc}")
    if reader.close_rcvd is not None and reader.close_rcvd.code == 1011:
        raise ValueError("closed with 1011")
    return reader.close_rcvd
