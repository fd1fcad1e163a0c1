"""Fuzzing: bytes that no client should send, against the frame splitter and a running server.

`python -m benchmarks.fuzz` does the same for longer, and against the other deployments.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.utils import apply_mask

from benchmarks.answers import classify
from benchmarks.cases import FRAMES, HEADS, PONG, Case, case, frame, frames
from benchmarks.fuzz import CLOSE_TIMEOUT_S, QUIET_S, Sender, fuzz
from benchmarks.fuzz_target import errors_in
from broadcast_server.console.time_limit import run_within
from broadcast_server.protocol.bounds import MAX_FRAME_BYTES
from broadcast_server.server.frame_splitter import FrameSplitter

CASES = 600
MAX_READ_BYTES = 2**18  # asyncio reads no more at once

Frames = list[tuple[Opcode, bool, bytes]]


# -- the frame splitter beside the library --------------------------------------


def library() -> ServerProtocol:
    """Return the library's server side of a connection after the handshake."""
    return ServerProtocol(state=State.OPEN, max_size=MAX_FRAME_BYTES)


def receive(protocol: ServerProtocol, data: bytes) -> Frames:
    """Feed *data* to the library, and return the frames that this completes, but for pongs."""
    protocol.receive_data(data)
    frames = [each for each in protocol.events_received() if isinstance(each, Frame)]
    return [(each.opcode, each.fin, bytes(each.data)) for each in frames if each.opcode != PONG]


def read_by_library(reads: Sequence[bytes]) -> tuple[Frames, object]:
    """Parse everything with the library, and return the frames and the close that it sends."""
    protocol = library()
    parsed = [each for read in reads for each in receive(protocol, read)]
    return parsed, protocol.close_sent


def read_by_splitter(reads: Sequence[bytes]) -> tuple[Frames, object]:
    """Parse as a connection does: messages with the splitter, everything else with the library."""
    protocol, splitter = library(), FrameSplitter(apply_mask)
    parsed: Frames = []
    for read in reads:
        for is_message, piece in splitter.split(read):
            if not is_message:
                parsed += receive(protocol, piece)
            elif protocol.state is State.OPEN:
                parsed.append((Opcode.TEXT, True, piece))
    return parsed, protocol.close_sent


def split_into_reads(data: bytes, places: Sequence[int]) -> Iterator[bytes]:
    """Split *data* at *places*, and where a read would be longer than asyncio's."""
    edges = sorted({0, *(place % (len(data) + 1) for place in places), len(data)})
    for begin, end in itertools.pairwise(edges):
        for at in range(begin, end, MAX_READ_BYTES):
            yield data[at : min(at + MAX_READ_BYTES, end)]


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 2**22), max_size=12))
def test_the_splitter_reads_frames_as_the_library_does(seed: int, places: list[int]) -> None:
    """Valid and invalid frames, in reads of any size, give the same frames and the same close."""
    random = Random(seed)
    data = b"".join(frames(random)[1] for _ in range(random.randint(1, 4)))
    reads = list(split_into_reads(data, places))
    assert read_by_splitter(reads) == read_by_library(reads) == read_by_library([data])


UNMASKED_HEADER = [b"\x00", b"~"]
"""Two bytes that announce a length of 16 bits, without the bit for a mask."""
RESERVED_OPCODE_HEADER = [b"\x83", b"\xfe"]
"""The same with the mask's bit, and with opcode 3."""


@settings(deadline=None, max_examples=200)
@given(st.lists(st.binary(max_size=40), max_size=10))
@example([frame(Random(0), 1, b"a")[:3], frame(Random(0), 1, b"a")[3:] + b"\x81"])
@example(UNMASKED_HEADER)
@example(RESERVED_OPCODE_HEADER)
@example([*UNMASKED_HEADER, frame(Random(0), 1, b"a")])
@example([*RESERVED_OPCODE_HEADER, frame(Random(0), 1, b"a")])
def test_the_splitter_reads_any_bytes_as_the_library_does(reads: list[bytes]) -> None:
    """Any bytes at all, in reads of any size, give the same frames and the same close."""
    parsed = read_by_splitter(reads)
    assert parsed == read_by_library(reads) == read_by_library([b"".join(reads)])


# -- a running server -----------------------------------------------------------


def test_a_server_bears_whatever_is_sent(tmp_path: Path) -> None:
    """Broken and hostile bytes harm nobody: no fault, nobody held up, and nothing left of it."""
    seed = str(time.time_ns())
    found, _ = asyncio.run(fuzz("server", seed, tmp_path, cases=CASES))
    assert found.faults == [], f"python -m benchmarks.fuzz --seed {seed}"
    assert found.cases == CASES and found.echoes > 5
    outcomes = sum(found.outcomes.values(), Counter())
    assert {"400", "101, closed with 1002", "101, closed with 1007"} <= outcomes.keys()


def test_a_client_that_waits_needs_no_quiet() -> None:
    """Who waits for an answer stops waiting in a room in which others speak without an end."""

    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while not writer.is_closing():
                writer.write(b"x")
                await asyncio.sleep(QUIET_S / 5)
        finally:
            writer.close()

    async def part() -> None:
        server = await asyncio.start_server(speak, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        async with server:
            sending = Sender(f"ws://{host}:{port}/", "s").send(Case("", (b"hi",), 0, "wait"))
            got, ended = await run_within(sending, CLOSE_TIMEOUT_S)
        assert got.startswith(b"x") and not ended

    asyncio.run(part())


def test_a_number_makes_the_same_case() -> None:
    """A case depends on its seed and number only, and every kind of case is generated."""
    assert case(Random("s/1")) == case(Random("s/1")) != case(Random("s/2"))
    kinds = {case(Random(f"s/{number}")).kind for number in range(1200)}
    assert kinds >= {*FRAMES, *HEADS}


INVALID_RESPONSES = {
    "no HTTP": b"\x81\x02hi",
    "an internal error": b"HTTP/1.1 500 Internal Server Error\r\n\r\n",
    "half a handshake": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: ",
    "a masked frame": b"HTTP/1.1 101 x\r\n\r\n" + frame(Random(0), 1, b"hi"),
    "a reserved bit": b"HTTP/1.1 101 x\r\n\r\n\xc1\x02hi",
    "an empty line": b"HTTP/1.1 101 x\r\n\r\n\x81\x03a\n\n",
    "not UTF-8": b"HTTP/1.1 101 x\r\n\r\n\x81\x01\xff",
    "not JSON": b"HTTP/1.1 101 x\r\nSec-WebSocket-Protocol: broadcast.v1.json\r\n\r\n\x81\x02hi",
    "a close with 1011": b"HTTP/1.1 101 x\r\n\r\n\x88\x02\x03\xf3",
    "binary": b"HTTP/1.1 101 x\r\n\r\n\x82\x02hi",
}


@pytest.mark.parametrize("answer", INVALID_RESPONSES.values(), ids=INVALID_RESPONSES)
def test_an_invalid_response_is_a_fault(answer: bytes) -> None:
    """A response that no server may send is detected."""
    with pytest.raises(ValueError):
        classify(answer, ended=True)


def test_responses_are_classified() -> None:
    """The outcome of a case has a short description, even if the last frame is incomplete."""
    upgraded = b"HTTP/1.1 101 x\r\n\r\n\x81\x02hi"
    assert classify(upgraded, ended=False) == "101, open"
    assert classify(upgraded + b"\x81\x05h", ended=True) == "101, ended"
    assert classify(upgraded + b"\x88\x02\x03\xea", ended=True) == "101, closed with 1002"
    assert classify(b"HTTP/1.1 404 Not Found\r\n\r\n", ended=True) == "404"
    assert classify(b"", ended=True) == "ended"


def test_errors_in_a_log_are_found() -> None:
    """Errors in a log are found; those of foreign code are set apart only on request."""
    trace = 'Traceback (most recent call last):\n  File "{}/x.py", line 1\nOSError: no 7\n'
    log = "10:00:00 bob joined lobby\n" + trace.format("daphne") + "ERROR: y\n"
    assert len(errors_in(log, None)) == 2
    others: Counter[str] = Counter()
    assert errors_in(log, others) == []
    assert others == {"OSError: no …": 1, "ERROR: y": 1}
    assert len(errors_in(log + trace.format("django_site"), others)) == 1
    assert errors_in("10:00:00 bob joined lobby\n", None) == []
