"""The QR symbol: encodes an address for a phone, and draws it as text or as an image. Pure.

It implements the part of ISO/IEC 18004 that an address needs: byte mode, error correction
level L, and versions 1 to 5, up to 106 bytes. These versions have a single block of codewords
and at most one alignment pattern, which keeps the code short; a library would add 40 KiB.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

CODEWORDS = (19, 7), (34, 10), (55, 15), (80, 20), (108, 26)
"""For each version from 1: the number of data codewords and of error correction codewords."""

MAX_DATA_BYTES = CODEWORDS[-1][0] - 2
"""Bytes of data that the largest version holds."""

QUIET_ZONE_MODULES = 4
"""Width of the light border around a symbol, in modules."""

ON_LIGHT, PLAIN = "\x1b[30;47m", "\x1b[0m"
"""Escape sequences: black on white, and back to the terminal's own colours."""

Matrix = Sequence[Sequence[int]]
"""The modules of a symbol, row by row: 1 is dark, 0 is light."""

MASKS: tuple[Callable[[int, int], int], ...] = (
    lambda row, column: (row + column) % 2,
    lambda row, column: row % 2,
    lambda row, column: column % 3,
    lambda row, column: (row + column) % 3,
    lambda row, column: (row // 2 + column // 3) % 2,
    lambda row, column: row * column % 2 + row * column % 3,
    lambda row, column: (row * column % 2 + row * column % 3) % 2,
    lambda row, column: ((row + column) % 2 + row * column % 3) % 2,
)
"""The data mask patterns: a module of the data is inverted where the function returns 0."""

_RUN = re.compile("0{5,}|1{5,}")
_DARK = re.compile("1+")
_LIKE_A_FINDER = re.compile("(?=10111010000|00001011101)")


def qr_matrix(data: bytes, masks: Iterable[int] = range(len(MASKS))) -> Matrix | None:
    """Return the smallest symbol for *data*, None if it is longer than `MAX_DATA_BYTES`.

    Of the *masks* it has the one that is read most easily. To choose among all of them takes 20
    times as long as to draw one.
    """
    if len(data) > MAX_DATA_BYTES:
        return None
    version = next(n for n, (size, _) in enumerate(CODEWORDS, 1) if len(data) <= size - 2)
    words = _codewords(data, *CODEWORDS[version - 1])
    candidates = [_draw(version, words, mask) for mask in masks]
    return candidates[0] if len(candidates) == 1 else min(candidates, key=_penalty)


def half_blocks(matrix: Matrix) -> list[str]:
    """Draw a symbol with its quiet zone, two rows of modules per line of text."""
    border = [0] * QUIET_ZONE_MODULES
    size = len(matrix) + 2 * QUIET_ZONE_MODULES
    empty = [[0] * size] * QUIET_ZONE_MODULES
    rows = [*empty, *([*border, *row, *border] for row in matrix), *empty, [0] * size]
    lines = zip(rows[::2], rows[1::2], strict=True)
    return [ON_LIGHT + "".join(map(_block, *line)) + PLAIN for line in lines]


def svg_image(matrix: Matrix) -> bytes:
    """Draw a symbol with its quiet zone as an SVG image, one unit per module."""
    size = len(matrix) + 2 * QUIET_ZONE_MODULES
    runs = (
        f"M{run.start()} {y}.5h{len(run[0])}"
        for y, row in enumerate(matrix)
        for run in _DARK.finditer("".join(map(str, row)))
    )
    start = -QUIET_ZONE_MODULES
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{start} {start} {size} {size}"'
        ' shape-rendering="crispEdges">'
        f'<path fill="#fff" d="M{start} {start}h{size}v{size}h-{size}z"/>'
        f'<path stroke="#000" d="{"".join(runs)}"/></svg>'
    ).encode()


def _block(above: int, below: int) -> str:
    return " ▄▀█"[2 * above + below]


# -- the codewords ------------------------------------------------------------


def _codewords(data: bytes, size: int, correction_size: int) -> bytes:
    """Return the codewords: mode, length, *data*, padding, and error correction."""
    bits = int.from_bytes(bytes([len(data)]) + data, "big") << 4 | 0b0100 << 8 * len(data) + 12
    words = bits.to_bytes(len(data) + 2, "big")
    words += (b"\xec\x11" * size)[: size - len(words)]
    return words + _correction(words, correction_size)


def _correction(words: bytes, count: int) -> bytes:
    """Return the *count* Reed-Solomon error correction codewords of *words*."""
    divisor = [1]
    root = 1
    for _ in range(count):
        longer = [*divisor, 0]
        for place, factor in enumerate(divisor, 1):
            longer[place] ^= _product(factor, root)
        divisor, root = longer, _product(root, 2)
    rest = [*words, *[0] * count]
    for place in range(len(words)):
        first = rest[place]
        for at, factor in enumerate(divisor, place):
            rest[at] ^= _product(factor, first)
    return bytes(rest[len(words) :])


def _product(one: int, other: int) -> int:
    """Multiply in the standard's field GF(256), with the polynomial 0x11D."""
    result = 0
    while other:
        if other & 1:
            result ^= one
        one = one << 1 ^ (0x11D if one & 0x80 else 0)
        other >>= 1
    return result


# -- the modules --------------------------------------------------------------


def _draw(version: int, words: bytes, mask: int) -> list[list[int]]:
    size = 17 + 4 * version
    fixed = _patterns(version, size) | _format(size, mask)
    matrix = [[fixed.get((row, column), 0) for column in range(size)] for row in range(size)]
    bits = (word >> place & 1 for word in words for place in range(7, -1, -1))
    for row, column in _path(size):
        if (row, column) not in fixed:
            inverted = MASKS[mask](row, column) == 0
            matrix[row][column] = next(bits, 0) ^ inverted
    return matrix


def _path(size: int) -> Iterator[tuple[int, int]]:
    """Yield all modules in the order of the data: column pairs from the right, up and down."""
    up = True
    for right in (*range(size - 1, 6, -2), 5, 3, 1):
        for step in range(size):
            row = size - 1 - step if up else step
            yield row, right
            yield row, right - 1
        up = not up


def _patterns(version: int, size: int) -> dict[tuple[int, int], int]:
    """Return the modules that are the same in every symbol of a version."""
    modules = {}
    for place in range(size):  # the timing patterns
        modules[6, place] = modules[place, 6] = 1 - place % 2
    if version > 1:
        modules |= _rings(size - 7, size - 7, 2, size)
    for row, column in ((3, 3), (3, size - 4), (size - 4, 3)):
        modules |= _rings(row, column, 4, size)
    return modules


def _rings(row: int, column: int, radius: int, size: int) -> dict[tuple[int, int], int]:
    """Return concentric square rings around a module, up to *radius*.

    With radius 2 they are an alignment pattern, with 4 a finder pattern and its light separator.
    """
    light = (1,) if radius == 2 else (2, 4)
    around = range(-radius, radius + 1)
    return {
        (row + down, column + right): int(max(abs(down), abs(right)) not in light)
        for down in around
        for right in around
        if 0 <= row + down < size and 0 <= column + right < size
    }


def _format(size: int, mask: int) -> dict[tuple[int, int], int]:
    """Return the two copies of the format information (level and mask), and the dark module."""
    info = 0b01 << 3 | mask  # 0b01 is level L
    rest = info << 10
    for place in range(14, 9, -1):
        if rest >> place & 1:
            rest ^= 0b10100110111 << place - 10
    bits = (info << 10 | rest) ^ 0b101010000010010
    beside = [*range(6), 7, 8, *range(size - 7, size)]  # skips the timing pattern
    modules = {}
    for place in range(15):
        bit = bits >> place & 1
        modules[beside[place], 8] = bit
        modules[8, beside[14 - place] if place > 7 else size - 1 - place] = bit
    modules[size - 8, 8] = 1
    return modules


def _penalty(matrix: Matrix) -> int:
    """Return how hard a symbol is to read, by the standard's four rules; less is better."""
    lines = ["".join(map(str, line)) for line in (*matrix, *zip(*matrix, strict=True))]
    runs = sum(len(run) - 2 for line in lines for run in _RUN.findall(line))
    finders = sum(len(_LIKE_A_FINDER.findall(line)) for line in lines)
    blocks = sum(
        len({*above[at : at + 2], *below[at : at + 2]}) == 1
        for above, below in pairwise(matrix)
        for at in range(len(above) - 1)
    )
    dark = sum(map(sum, matrix)) / len(matrix) ** 2
    return runs + 40 * finders + 3 * blocks + 10 * int(abs(dark - 0.5) * 20)
