"""Frames as the server sends them: in one piece, and without a mask."""

from __future__ import annotations

from websockets.frames import Frame, Opcode

PING_FRAME = b"\x89\x00"
"""A ping without a payload."""


def encode_frame(payload: bytes) -> bytes:
    """Serialize a text frame, once for any number of connections."""
    return Frame(Opcode.TEXT, payload).serialize(mask=False)
