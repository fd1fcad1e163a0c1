"""The share: what one client may have taken in a turn."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from broadcast_server.frames import Cut
from broadcast_server.share import Share


def unmasked(data: bytes, mask: bytes) -> bytes:
    """Take a mask of zeros off."""
    assert mask == bytes(4)
    return data


def frame(text: bytes, first: int = 0x81) -> bytes:
    """Write a frame, masked by zeros."""
    size = len(text)
    length = bytes([size]) if size < 126 else bytes([127]) + size.to_bytes(8, "big")
    return bytes([first, 0x80 | length[0]]) + length[1:] + bytes(4) + text


def turns(share: Share, messages: int, size: int) -> list[list[tuple[bool, bytes]]]:
    """Take turn after turn until nothing is over."""
    found = []
    while True:
        found.append(list(share.turn(messages, size)))
        if not share.over:
            return found


def test_a_turn_takes_so_many_messages() -> None:
    """What is over the share waits for the next turn, in its order."""
    share = Share(Cut(unmasked))
    share.put(b"".join(frame(b"%d" % number) for number in range(5)))
    assert turns(share, 2, 1000) == [
        [(True, b"0"), (True, b"1")],
        [(True, b"2"), (True, b"3")],
        [(True, b"4")],
    ]


def test_a_frame_of_many_lines_is_cut_between_them() -> None:
    """A frame counts by its lines, and may take several turns."""
    share = Share(Cut(unmasked))
    share.put(frame(b"1\n2\n3\n4\n5") + frame(b"6"))
    assert turns(share, 2, 1000) == [
        [(True, b"1\n2\n")],
        [(True, b"3\n4\n")],
        [(True, b"5"), (True, b"6")],
        [],
    ]


def test_a_turn_takes_so_many_bytes() -> None:
    """Once the bytes are used up nothing more is taken, but one message always is."""
    share = Share(Cut(unmasked))
    share.put(frame(b"x" * 50 + b"\n" + b"y" * 50) + frame(b"z"))
    assert turns(share, 100, 10) == [
        [(True, b"x" * 50 + b"\n")],
        [(True, b"y" * 50)],
        [(True, b"z")],
    ]


def test_pings_count_as_well() -> None:
    """Who sends nothing but pings has no more of a turn than others."""
    share = Share(Cut(unmasked))
    ping = frame(b"", 0x89)
    share.put(ping * 5)
    assert [len(turn) for turn in turns(share, 2, 1000)] == [2, 2, 1]


def test_fragments_that_were_put_together_are_next() -> None:
    """A message of fragments is cut like any other, before what comes after it."""
    share = Share(Cut(unmasked))
    share.put(frame(b"", 0x89) + frame(b"last"))
    turn = share.turn(3, 1000)
    assert next(turn)[0] is False
    share.first(b"1\n2\n3")
    assert list(turn) == [(True, b"1\n2\n")]
    assert [list(share.turn(3, 1000)), share.over] == [[(True, b"3"), (True, b"last")], False]


def test_nothing_is_taken_without_an_allowance() -> None:
    """With an allowance of nought all of it waits."""
    share = Share(Cut(unmasked))
    share.put(frame(b"1"))
    assert list(share.turn(0)) == [] and share.over
    assert list(share.turn(1)) == [(True, b"1")]


def test_what_comes_before_a_turn_waits_for_it() -> None:
    """Of what comes in several reads before the first turn nothing is lost."""
    share = Share(Cut(unmasked))
    for number in range(3):
        share.put(frame(b"%d" % number))
    assert turns(share, 9, 1000) == [[(True, b"0"), (True, b"1"), (True, b"2")]]


def check(take: Callable[[Share], bytes], data: bytes, step: int) -> bytes:
    """Feed *data* in steps, as it is read."""
    share = Share(Cut(unmasked))
    taken = b""
    for place in range(0, len(data), step):
        share.put(data[place : place + step])
        taken += take(share)
    return taken


@given(
    st.lists(st.lists(st.binary(max_size=9).map(lambda b: b.replace(b"\n", b"")), min_size=1)),
    st.integers(1, 40),
    st.integers(1, 7),
    st.integers(1, 30),
)
def test_nothing_is_lost_or_moved(
    frames: list[list[bytes]], step: int, messages: int, size: int
) -> None:
    """However it is read and cut, every byte is taken once and in order, no line in two parts."""
    lines = [line for one in frames for line in one]
    data = b"".join(frame(b"\n".join(one)) for one in frames)
    whole = [True]

    def take(share: Share) -> bytes:
        taken = b""
        for turn in turns(share, messages, size):
            got = 0
            for ordinary, piece in turn:
                if not ordinary:  # begun in one read and ended in another
                    whole[0] = False
                    continue
                parts = piece.split(b"\n")
                got += len(parts) - (piece.endswith(b"\n") and len(parts) > 1)
                taken += piece if piece.endswith(b"\n") else piece + b"\n"
            assert got <= messages
        return taken

    taken = check(take, data, step)
    if whole[0]:
        assert taken.split() == b"\n".join(lines).split()
