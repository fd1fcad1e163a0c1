"""The frame splitter: in whatever reads bytes arrive, none is lost and none is misread."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.utils import apply_mask

from broadcast_server.server.frame_splitter import FrameSplitter


def serialize(opcode: Opcode, payload: bytes, fin: bool = True) -> bytes:
    """Serialize a frame as a client sends it."""
    return Frame(opcode, payload, fin=fin).serialize(mask=True)


def split(*reads: bytes) -> list[tuple[bool, bytes]]:
    """Split *reads*, and join adjacent pieces that are for the library."""
    splitter = FrameSplitter(apply_mask)
    pieces: list[tuple[bool, bytes]] = []
    for read in reads:
        for is_message, piece in splitter.split(read):
            if not is_message and pieces and not pieces[-1][0]:
                pieces[-1] = False, pieces[-1][1] + piece
            else:
                pieces.append((is_message, piece))
    return pieces


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_a_complete_message(size: int) -> None:
    """A masked text in one frame is decoded at once, whatever its length."""
    text = b"x" * size
    assert split(serialize(Opcode.TEXT, text) * 2) == [(True, text), (True, text)]


FRAMES = {
    "ping": serialize(Opcode.PING, b"p"),
    "close": serialize(Opcode.CLOSE, b""),
    "binary": serialize(Opcode.BINARY, b"b"),
    "unmasked": Frame(Opcode.TEXT, b"x").serialize(mask=False),
    "reserved bit": b"\xc1\x80abcd",
    "reserved opcode": b"\x83\x80abcd",
    "incomplete text": serialize(Opcode.TEXT, b"x" * 200)[:150],
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_everything_else_goes_to_the_library(frame: bytes) -> None:
    """Bytes that are no complete message are passed on unchanged."""
    assert split(serialize(Opcode.TEXT, b"a") + frame) == [(True, b"a"), (False, frame)]


def test_a_pong_is_a_piece_without_bytes() -> None:
    """A whole pong counts for the read budget, and does without the library."""
    pong = serialize(Opcode.PONG, b"x" * 125)
    splitter = FrameSplitter(apply_mask)
    assert list(splitter.split(pong * 3 + serialize(Opcode.TEXT, b"a"))) == [
        *[(False, b"")] * 3,
        (True, b"a"),
    ]


@pytest.mark.parametrize(
    "frame",
    [
        Frame(Opcode.PONG, b"x").serialize(mask=False),
        b"\x0a\x80abcd",
        b"\x8a\xfe\x00\x7e" + bytes(4 + 126),
        b"\xca\x80abcd",
        serialize(Opcode.PONG, b"x" * 100)[:50],
    ],
    ids=["unmasked", "fragmented", "too long", "reserved bit", "incomplete"],
)
def test_any_other_pong_goes_to_the_library(frame: bytes) -> None:
    """A pong that is invalid, or that is cut off by the end of a read, is passed on unchanged."""
    assert split(frame) == [(False, frame)]


@pytest.mark.parametrize("header", [b"\x81\x7e", b"\x83\xfe", b"\x8b\xff"])
def test_an_invalid_header_goes_to_the_library_at_once(header: bytes) -> None:
    """An unmasked frame or a reserved opcode is passed on before its length, and all after it."""
    assert split(header[:1]) == []
    assert split(header[:1], header[1:]) == [(False, header)]
    message = serialize(Opcode.TEXT, b"a")
    assert split(message + header, message, message) == [
        (True, b"a"),
        (False, header + 2 * message),
    ]


def test_an_incomplete_valid_header_is_held_back() -> None:
    """A message whose length arrives in a later read is still decoded in one step."""
    frame = serialize(Opcode.TEXT, b"x" * 200)
    assert split(frame[:3]) == []
    assert split(frame[:3], frame[3:]) == [(True, b"x" * 200)]


def test_a_text_between_fragments_goes_to_the_library() -> None:
    """A complete message between the fragments of another is a fault that the library must see."""
    first = serialize(Opcode.TEXT, b"a", fin=False)
    ping = serialize(Opcode.PING, b"")
    text = serialize(Opcode.TEXT, b"b")
    assert split(first + ping + text) == [(False, first + ping + text)]
    last = serialize(Opcode.CONT, b"c")
    assert split(first + last + text) == [(False, first + last), (True, b"b")]


TEXTS = st.binary(max_size=300).map(lambda text: (Opcode.TEXT, text))
PINGS = st.binary(max_size=125).map(lambda text: (Opcode.PING, text))


@given(st.lists(TEXTS | PINGS, max_size=8), st.lists(st.integers(0, 3000), max_size=12))
def test_reads_of_any_size(frames: list[tuple[Opcode, bytes]], places: list[int]) -> None:
    """However bytes are divided into reads, all frames come out in order."""
    data = b"".join(serialize(*frame) for frame in frames)
    starts = sorted({0, *(place for place in places if place < len(data))})
    reads = [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]
    reassembled = b"".join(
        serialize(Opcode.TEXT, piece) if is_message else piece
        for is_message, piece in split(*reads)
    )
    assert parse(reassembled) == frames


def parse(data: bytes) -> list[tuple[Opcode, bytes]]:
    """Parse complete frames of less than 64 KiB each."""
    frames = []
    while data:
        header = 6 if data[1] & 127 < 126 else 8
        size = data[1] & 127 if header == 6 else int.from_bytes(data[2:4], "big")
        payload = apply_mask(data[header : header + size], data[header - 4 : header])
        frames.append((Opcode(data[0] & 15), payload))
        data = data[header + size :]
    return frames
