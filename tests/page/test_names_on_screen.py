"""Names in Chromium: each character leaves a trace, and none is taken for another of ASCII."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import Any

from browsing import browser, needed

from broadcast_server.protocol.appearance import IGNORED
from broadcast_server.protocol.names import name_key, validate_name

__all__ = ["browser"]  # a fixture
pytestmark = needed

DRAW = """(texts) => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [100, 50];
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.font = "24px system-ui, sans-serif";
    return texts.map((text) => {
        context.clearRect(0, 0, 100, 50);
        context.fillText(text, 20, 35);
        const { data } = context.getImageData(0, 0, 100, 50);
        const pixels = new Uint32Array(data.buffer);
        return pixels.reduce((hash, pixel) => (hash * 31 + (pixel % 65521)) | 0);
    });
}"""
"""Return a hash of the picture of each text."""


def accepted() -> Iterator[tuple[str, str]]:
    """Return characters that a name may contain, each with a letter that it may follow.

    Without joiners and variation selectors, which do not count, and without large scripts.
    """
    for code in (*range(0x80, 0x3000), *range(0xA000, 0xAC00), *range(0xF900, 0x10000)):
        char = chr(code)
        for letter in "x\u044f":
            try:
                validate_name(letter + char)
            except ValueError:
                continue
            if not IGNORED.match(char):
                yield letter, char
            break


def draw(browser: Any, texts: list[str]) -> list[int]:
    """Return a hash of the picture of each text."""
    context = browser.new_context()
    hashes: list[int] = context.new_page().evaluate(DRAW, texts)
    context.close()
    return hashes


def test_every_accepted_character_leaves_a_trace(browser: Any) -> None:
    """Between two letters, each character that a name may contain changes the picture."""
    found = [*accepted()]
    assert len(found) > 10_000
    pictures = draw(browser, [f"{letter}{char}{letter}" for letter, char in found])
    empty = dict(zip("x\u044f", draw(browser, ["xx", "\u044f\u044f"]), strict=True))
    unseen = [
        char
        for (letter, char), picture in zip(found, pictures, strict=True)
        if picture == empty[letter]
    ]
    assert unseen == []


def test_what_looks_like_ascii_has_its_key(browser: Any) -> None:
    """A character with the same picture as one of ASCII is the same to a name."""
    ascii_chars = [chr(code) for code in range(0x21, 0x7F)]
    by_picture = dict(zip(draw(browser, ascii_chars), ascii_chars, strict=True))
    chars = [char for _, char in accepted() if unicodedata.category(char)[0] != "M"]
    twins = [
        (char, by_picture[picture])
        for char, picture in zip(chars, draw(browser, chars), strict=True)
        if picture in by_picture
    ]
    assert len(twins) > 20
    assert [(char, twin) for char, twin in twins if name_key(char) != name_key(twin)] == []
