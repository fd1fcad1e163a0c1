"""The cut: whatever the pieces that bytes come in, nothing is lost and nothing is taken amiss."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.utils import apply_mask

from broadcast_server.frames import Cut


def whole(opcode: Opcode, payload: bytes, fin: bool = True) -> bytes:
    """Serialise a frame as a client sends it."""
    return Frame(opcode, payload, fin=fin).serialize(mask=True)


def pieces(*reads: bytes) -> list[tuple[bool, bytes]]:
    """Cut what comes in these reads, and put the library's pieces together."""
    cut = Cut(apply_mask)
    found: list[tuple[bool, bytes]] = []
    for read in reads:
        for ordinary, piece in cut.pieces(read):
            if not ordinary and found and not found[-1][0]:
                found[-1] = False, found[-1][1] + piece
            else:
                found.append((ordinary, piece))
    return found


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_an_ordinary_message(size: int) -> None:
    """A masked text in one frame is read at once, whatever its length."""
    text = b"x" * size
    assert pieces(whole(Opcode.TEXT, text) * 2) == [(True, text), (True, text)]


FRAMES = {
    "a ping": whole(Opcode.PING, b"p"),
    "a close": whole(Opcode.CLOSE, b""),
    "binary": whole(Opcode.BINARY, b"b"),
    "without a mask": Frame(Opcode.TEXT, b"x").serialize(mask=False),
    "with a reserved bit": b"\xc1\x80abcd",
    "of no known kind": b"\x83\x80abcd",
    "a text that is not whole yet": whole(Opcode.TEXT, b"x" * 200)[:150],
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_everything_else_goes_to_the_library(frame: bytes) -> None:
    """What is no ordinary message is left as it came."""
    assert pieces(whole(Opcode.TEXT, b"a") + frame) == [(True, b"a"), (False, frame)]


def test_a_text_amid_fragments_goes_to_the_library() -> None:
    """A whole message between the fragments of another is a fault that the library must see."""
    begun = whole(Opcode.TEXT, b"a", fin=False)
    ping = whole(Opcode.PING, b"")
    amid = whole(Opcode.TEXT, b"b")
    assert pieces(begun + ping + amid) == [(False, begun + ping + amid)]
    ended = whole(Opcode.CONT, b"c")
    assert pieces(begun + ended + amid) == [(False, begun + ended), (True, b"b")]


TEXTS = st.binary(max_size=300).map(lambda text: (Opcode.TEXT, text))
PINGS = st.binary(max_size=125).map(lambda text: (Opcode.PING, text))


@given(st.lists(TEXTS | PINGS, max_size=8), st.lists(st.integers(0, 3000), max_size=12))
def test_reads_of_any_size(frames: list[tuple[Opcode, bytes]], places: list[int]) -> None:
    """However the bytes are split into reads, texts come out or go to the library, in order."""
    data = b"".join(whole(*frame) for frame in frames)
    cuts = sorted({0, *(place for place in places if place < len(data))})
    reads = [data[start:end] for start, end in zip(cuts, [*cuts[1:], len(data)], strict=True)]
    again = b"".join(
        whole(Opcode.TEXT, piece) if ordinary else piece for ordinary, piece in pieces(*reads)
    )
    assert unmasked(again) == frames


def unmasked(data: bytes) -> list[tuple[Opcode, bytes]]:
    """Read whole frames, none of them long."""
    found = []
    while data:
        header = 6 if data[1] & 127 < 126 else 8
        size = data[1] & 127 if header == 6 else int.from_bytes(data[2:4], "big")
        payload = apply_mask(data[header : header + size], data[header - 4 : header])
        found.append((Opcode(data[0] & 15), payload))
        data = data[header + size :]
    return found
