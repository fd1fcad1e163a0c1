"""The archive: what the single file contains, read once. It imports nothing of this package."""

from __future__ import annotations

import struct
import zlib

END = struct.Struct("<4s4H2IH")
ENTRY = struct.Struct("<4s6H3I5H2I")
LOCAL_HEADER = struct.Struct("<4s5H3I2H")
"""The records of a zip file (PKWARE's APPNOTE.TXT, sections 4.3.16, 4.3.12 and 4.3.7)."""

STORED = 0
"""The method of a file that is not compressed; all others are deflated."""


class Archive:
    """The files in a zip file such as `build_zipapp.py` and `zipapp` write.

    Args:
        content: The bytes of the zip file. More may stand before it, such as a first line `#!`.

    Raises:
        ValueError: It is no such file.

    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._entries: dict[str, tuple[int, int, int]] = {}
        try:
            self._read_directory()
        except struct.error:
            raise ValueError("its directory is cut off") from None

    def _read_directory(self) -> None:
        end = self._content.rfind(b"PK\5\6")
        if end < 0:
            raise ValueError("it is no zip file")
        _, _, _, _, count, size, offset, _ = END.unpack_from(self._content, end)
        at = end - size
        before = at - offset
        if before < 0:
            raise ValueError("it has no place for its directory")
        for _ in range(count):
            entry = ENTRY.unpack_from(self._content, at)
            method, packed_size, name_size = entry[4], entry[8], entry[10]
            begin = at + ENTRY.size
            name = self._content[begin : begin + name_size].decode()
            self._entries[name] = method, packed_size, before + entry[16]
            at = begin + name_size + entry[11] + entry[12]  # the extra field, and the comment

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def read(self, name: str) -> bytes:
        """Return the content of a file in the archive. Raises KeyError if there is none."""
        method, size, at = self._entries[name]
        header = LOCAL_HEADER.unpack_from(self._content, at)
        begin = at + LOCAL_HEADER.size + header[9] + header[10]  # its own name and extra field
        data = self._content[begin : begin + size]
        return data if method == STORED else zlib.decompress(data, -zlib.MAX_WBITS)
