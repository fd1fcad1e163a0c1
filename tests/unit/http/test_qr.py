"""The QR symbol, read by another implementation (ZXing)."""

from __future__ import annotations

import pytest
import zxingcpp

from broadcast_server.http.qr import (
    CODEWORDS,
    MASKS,
    MAX_DATA_BYTES,
    QUIET_ZONE_MODULES,
    Matrix,
    _codewords,
    _draw,
    half_blocks,
    qr_matrix,
    svg_image,
)

MODULE = 3
"""Width of a module in pixels."""


def read(matrix: Matrix) -> bytes:
    """Read a symbol, as a phone would."""
    border = [0] * QUIET_ZONE_MODULES
    width = len(matrix) + 2 * QUIET_ZONE_MODULES
    empty = [[0] * width] * QUIET_ZONE_MODULES
    rows = [*empty, *([*border, *row, *border] for row in matrix), *empty]
    pixels = b"".join(
        bytes(255 * (1 - dark) for dark in row for _ in range(MODULE)) * MODULE for row in rows
    )
    image = memoryview(pixels).cast("B", shape=[width * MODULE, width * MODULE])
    (barcode,) = zxingcpp.read_barcodes(image)
    return bytes(barcode.bytes)


@pytest.mark.parametrize("size", [1, 17, 18, 32, 33, 53, 54, 78, 79, 106])
def test_every_version_is_read(size: int) -> None:
    """The shortest and the longest data of each version is read as it was encoded."""
    data = bytes(33 + (7 * place + size) % 94 for place in range(size))
    matrix = qr_matrix(data)
    assert matrix is not None
    assert len(matrix) == next(
        17 + 4 * n for n, (words, _) in enumerate(CODEWORDS, 1) if size <= words - 2
    )
    assert read(matrix) == data


@pytest.mark.parametrize("mask", range(len(MASKS)))
def test_every_mask_is_read(mask: int) -> None:
    """A symbol can be read with each of the masks."""
    data = b"http://192.0.2.7:8765/"
    assert read(_draw(2, _codewords(data, *CODEWORDS[1]), mask)) == data


def test_a_damaged_symbol_is_read() -> None:
    """A dozen wrong modules are corrected by the error correction codewords."""
    data = b"http://192.0.2.7:8765/"
    matrix = [list(row) for row in qr_matrix(data) or ()]
    for place in range(12):
        matrix[12 + place // 4][12 + place % 4] = 0
    assert read(matrix) == data


def test_data_that_is_too_long() -> None:
    """Data that is longer than the largest version holds has no symbol."""
    assert qr_matrix(b"x" * MAX_DATA_BYTES) is not None
    assert qr_matrix(b"x" * (MAX_DATA_BYTES + 1)) is None


def test_lines_have_colours_and_a_quiet_zone() -> None:
    """Each line is explicitly black on white, and light modules surround the symbol."""
    lines = half_blocks([[1, 0, 1], [0, 1, 1], [1, 1, 0]])
    assert len({len(line) for line in lines}) == 1
    for line in lines:
        assert line.startswith("\x1b[30;47m")
        assert line.endswith("\x1b[0m")
    bare = [line.removeprefix("\x1b[30;47m").removesuffix("\x1b[0m") for line in lines]
    assert bare == [" " * 11] * 2 + ["    ▀▄█    ", "    ▀▀     "] + [" " * 11] * 2


def test_an_image_has_every_module() -> None:
    """The dark modules are lines of the image, which a quiet zone surrounds."""
    image = svg_image([[1, 0, 1, 1], [0, 1, 0, 0], [0] * 4, [1] * 4]).decode()
    assert 'viewBox="-4 -4 12 12"' in image
    assert 'd="M0 0.5h1M2 0.5h2M1 1.5h1M0 3.5h4"' in image


@pytest.mark.parametrize("mask", range(len(MASKS)))
def test_one_mask_alone_is_drawn(mask: int) -> None:
    """A caller that has no time to choose a mask gets the symbol with the given one."""
    assert qr_matrix(b"x", (mask,)) == _draw(1, _codewords(b"x", *CODEWORDS[0]), mask)
