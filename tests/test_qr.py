"""The QR symbol: what a reader of another make reads from it."""

from __future__ import annotations

import pytest
import zxingcpp

from broadcast_server.qr import (
    CODEWORDS,
    MASKS,
    MOST,
    QUIET,
    Matrix,
    _codewords,
    _draw,
    half_blocks,
    symbol,
)

MODULE = 3
"""So many pixels wide is a module for the reader."""


def read(matrix: Matrix) -> bytes:
    """Read a symbol, as a phone would."""
    around = [0] * QUIET
    width = len(matrix) + 2 * QUIET
    empty = [[0] * width] * QUIET
    rows = [*empty, *([*around, *row, *around] for row in matrix), *empty]
    pixels = b"".join(
        bytes(255 * (1 - dark) for dark in row for _ in range(MODULE)) * MODULE for row in rows
    )
    image = memoryview(pixels).cast("B", shape=[width * MODULE, width * MODULE])
    (found,) = zxingcpp.read_barcodes(image)
    return bytes(found.bytes)


@pytest.mark.parametrize("size", [1, 17, 18, 32, 33, 53, 54, 78, 79, 106])
def test_what_is_drawn_is_read(size: int) -> None:
    """The least and the most of each version is read as it was given."""
    data = bytes(33 + (7 * place + size) % 94 for place in range(size))
    matrix = symbol(data)
    assert matrix is not None
    assert len(matrix) == next(
        17 + 4 * n for n, (most, _) in enumerate(CODEWORDS, 1) if size <= most - 2
    )
    assert read(matrix) == data


@pytest.mark.parametrize("mask", range(len(MASKS)))
def test_every_mask_is_read(mask: int) -> None:
    """Whichever mask is the best for some data, it is named in the symbol and can be read."""
    data = b"http://192.0.2.7:8765/"
    assert read(_draw(2, _codewords(data, *CODEWORDS[1]), mask)) == data


def test_a_symbol_that_is_damaged_is_read() -> None:
    """A dozen modules that a lamp outshines do no harm: the checks correct them."""
    data = b"http://192.0.2.7:8765/"
    matrix = [list(row) for row in symbol(data) or ()]
    for place in range(12):
        matrix[12 + place // 4][12 + place % 4] = 0
    assert read(matrix) == data


def test_what_does_not_fit() -> None:
    """An address that is longer than a symbol holds is not drawn."""
    assert symbol(b"x" * MOST) is not None
    assert symbol(b"x" * (MOST + 1)) is None


def test_lines_have_colours_and_quiet() -> None:
    """Each line is black on white whatever the terminal is, with light modules all around."""
    lines = half_blocks([[1, 0, 1], [0, 1, 1], [1, 1, 0]])
    assert len({len(line) for line in lines}) == 1
    for line in lines:
        assert line.startswith("\x1b[30;47m")
        assert line.endswith("\x1b[0m")
    bare = [line.removeprefix("\x1b[30;47m").removesuffix("\x1b[0m") for line in lines]
    assert bare == [" " * 11] * 2 + ["    ▀▄█    ", "    ▀▀     "] + [" " * 11] * 2
