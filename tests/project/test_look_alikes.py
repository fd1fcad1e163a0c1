"""The table of look-alikes is what its generator makes of Unicode's data."""

from __future__ import annotations

import re
import sys

import make_look_alikes
import pytest

from broadcast_server.protocol.appearance import IGNORED
from broadcast_server.protocol.names import validate_name

icu = pytest.importorskip("icu", reason="pip install pyicu-wheels==2.15.2")


@pytest.fixture(scope="module")
def unicode() -> make_look_alikes.Unicode:
    """The properties of characters, in the version of Unicode that the table is made from."""
    found = make_look_alikes.Unicode()
    text = make_look_alikes.TARGET.read_text(encoding="utf-8")
    (version,) = re.findall(r"Unicode (\d+\.\d+) \(UTS #39\)", text)
    if found.version != version:
        pytest.skip(f"this ICU has Unicode {found.version}, and the table is of {version}")
    return found


def test_the_table_is_generated(unicode: make_look_alikes.Unicode) -> None:
    """The module is, byte for byte, what the generator writes."""
    assert make_look_alikes.generate() == make_look_alikes.TARGET.read_text(encoding="utf-8")


def test_no_ignorable_character_is_in_a_name(unicode: make_look_alikes.Unicode) -> None:
    """Of all Default_Ignorable_Code_Points, only joiners and variation selectors are accepted."""
    for char in map(chr, range(sys.maxunicode + 1)):
        if "\ud800" <= char <= "\udfff" or not unicode.is_ignorable(char) or IGNORED.match(char):
            continue
        with pytest.raises(ValueError, match="cannot be seen"):
            validate_name(f"\u4e00{char}\u4e00")
