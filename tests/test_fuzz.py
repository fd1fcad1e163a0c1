"""The fuzz: bytes that no client should send, against the cut of frames and a running server.

Ten minutes of it, and against the other houses, are `python -m benchmarks.fuzz`.
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

from benchmarks.answers import understood
from benchmarks.besieged import errors_in
from benchmarks.cases import FRAMES, HEADS, Case, case, frame, frames
from benchmarks.fuzz import END, QUIET, Sender, besiege
from broadcast_server.frames import Cut
from broadcast_server.protocol import MAX_FRAME_BYTES

CASES = 1200
READ = 2**18  # asyncio reads no more at once

Seen = list[tuple[Opcode, bool, bytes]]


# -- the cut beside the library -------------------------------------------------


def library() -> ServerProtocol:
    """Return the library's end of a connection after its handshake."""
    return ServerProtocol(state=State.OPEN, max_size=MAX_FRAME_BYTES)


def hear(protocol: ServerProtocol, data: bytes) -> Seen:
    """Let the library understand *data*."""
    protocol.receive_data(data)
    events = protocol.events_received()
    return [(each.opcode, each.fin, bytes(each.data)) for each in events if isinstance(each, Frame)]


def by_the_library(reads: Sequence[bytes]) -> tuple[Seen, object]:
    """Read it all by the library, and say what it saw and how it would close."""
    protocol = library()
    seen = [each for read in reads for each in hear(protocol, read)]
    return seen, protocol.close_sent


def by_the_cut(reads: Sequence[bytes]) -> tuple[Seen, object]:
    """Read it as a connection does: messages by the cut, the rest by the library."""
    protocol, cut = library(), Cut(apply_mask)
    seen: Seen = []
    for read in reads:
        for ordinary, piece in cut.pieces(read):
            if not ordinary:
                seen += hear(protocol, piece)
            elif protocol.state is State.OPEN:
                seen.append((Opcode.TEXT, True, piece))
    return seen, protocol.close_sent


def reads_of(data: bytes, places: Sequence[int]) -> Iterator[bytes]:
    """Split *data* at *places*, and where a read would be too long."""
    edges = sorted({0, *(place % (len(data) + 1) for place in places), len(data)})
    for begin, end in itertools.pairwise(edges):
        for at in range(begin, end, READ):
            yield data[at : min(at + READ, end)]


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 2**22), max_size=12))
def test_the_cut_reads_frames_as_the_library_does(seed: int, places: list[int]) -> None:
    """Good frames and bad, read in any pieces, come to the same frames and the same close."""
    random = Random(seed)
    data = b"".join(frames(random)[1] for _ in range(random.randint(1, 4)))
    reads = list(reads_of(data, places))
    assert by_the_cut(reads) == by_the_library(reads) == by_the_library([data])


@settings(deadline=None, max_examples=200)
@given(st.lists(st.binary(max_size=40), max_size=10))
@example([frame(Random(0), 1, b"a")[:3], frame(Random(0), 1, b"a")[3:] + b"\x81"])
@example([b"\x00", b"~"])  # unmasked, and its length still to come
@example([b"\x03", b"\xfe"])  # a reserved opcode, likewise
@example([b"\x00", b"~", frame(Random(0), 1, b"a")])
@example([b"\x03", b"\xfe", frame(Random(0), 1, b"a")])
def test_the_cut_reads_any_bytes_as_the_library_does(reads: list[bytes]) -> None:
    """Any bytes at all, in any pieces, come to the same frames and the same close."""
    assert by_the_cut(reads) == by_the_library(reads) == by_the_library([b"".join(reads)])


# -- a running server -----------------------------------------------------------


def test_a_server_bears_whatever_is_sent(tmp_path: Path) -> None:
    """Broken and hostile bytes harm nobody: no fault, nobody held up, and nothing left of it."""
    seed = str(time.time_ns())
    found, _ = asyncio.run(besiege("server", seed, tmp_path, cases=CASES))
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
                await asyncio.sleep(QUIET / 5)
        finally:
            writer.close()

    async def part() -> None:
        server = await asyncio.start_server(speak, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        async with server:
            sending = Sender(f"ws://{host}:{port}/", "s").send(Case("", (b"hi",), 0, "wait"))
            got, ended = await asyncio.wait_for(sending, END)
        assert got.startswith(b"x") and not ended

    asyncio.run(part())


def test_a_number_makes_the_same_case() -> None:
    """A case comes of its seed and number alone, and every kind comes about."""
    assert case(Random("s/1")) == case(Random("s/1")) != case(Random("s/2"))
    kinds = {case(Random(f"s/{number}")).kind for number in range(1200)}
    assert kinds >= {*FRAMES, *HEADS}


BAD = {
    "no HTTP": b"\x81\x02hi",
    "a fault of ours": b"HTTP/1.1 500 Internal Server Error\r\n\r\n",
    "half a handshake": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: ",
    "a masked frame": b"HTTP/1.1 101 x\r\n\r\n" + frame(Random(0), 1, b"hi"),
    "a reserved bit": b"HTTP/1.1 101 x\r\n\r\n\xc1\x02hi",
    "an empty line": b"HTTP/1.1 101 x\r\n\r\n\x81\x03a\n\n",
    "not UTF-8": b"HTTP/1.1 101 x\r\n\r\n\x81\x01\xff",
    "no JSON": b"HTTP/1.1 101 x\r\nSec-WebSocket-Protocol: broadcast.v1.json\r\n\r\n\x81\x02hi",
    "an error of ours": b"HTTP/1.1 101 x\r\n\r\n\x88\x02\x03\xf3",
    "binary": b"HTTP/1.1 101 x\r\n\r\n\x82\x02hi",
}


@pytest.mark.parametrize("answer", BAD.values(), ids=BAD)
def test_a_bad_answer_is_a_fault(answer: bytes) -> None:
    """What no server may send is found out."""
    with pytest.raises(ValueError):
        understood(answer, ended=True)


def test_answers_are_told_apart() -> None:
    """What a case came to is said in few words, also if the last frame was cut short."""
    upgraded = b"HTTP/1.1 101 x\r\n\r\n\x81\x02hi"
    assert understood(upgraded, ended=False) == "101, open"
    assert understood(upgraded + b"\x81\x05h", ended=True) == "101, ended"
    assert understood(upgraded + b"\x88\x02\x03\xea", ended=True) == "101, closed with 1002"
    assert understood(b"HTTP/1.1 404 Not Found\r\n\r\n", ended=True) == "404"
    assert understood(b"", ended=True) == "ended"


def test_errors_in_a_log_are_found() -> None:
    """Errors are found in a log; those of others' code are told apart only if asked for."""
    trace = 'Traceback (most recent call last):\n  File "{}/x.py", line 1\nOSError: no 7\n'
    log = "10:00:00 bob joined lobby\n" + trace.format("daphne") + "ERROR: y\n"
    assert len(errors_in(log, None)) == 2
    others: Counter[str] = Counter()
    assert errors_in(log, others) == []
    assert others == {"OSError: no …": 1, "ERROR: y": 1}
    assert len(errors_in(log + trace.format("django_site"), others)) == 1
    assert errors_in("10:00:00 bob joined lobby\n", None) == []
