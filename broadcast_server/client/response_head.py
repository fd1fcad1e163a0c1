"""The response head: which bytes of a server are those of its final HTTP response. Pure.

A client skips interim responses, which have a status of 1xx (RFC 9110, section 15.2). websockets
takes the first one for the answer to its handshake, and `http.client` all but 100.
"""

from __future__ import annotations

import re

INTERIM_STATUS_LINE = re.compile(rb"HTTP/1\.[01] 1(?!01)\d\d[ \r\n]")
"""The begin of an interim response. 101 is none: no other response follows it."""

MAX_INTERIM_BYTES = 2**16
"""Bytes of interim responses that are skipped."""

_SHORTEST = len(b"HTTP/1.1 100\r")
_OLD_VERSION, _VERSION = b"HTTP/1.0 ", b"HTTP/1.1 "


class ResponseHead:
    """Skips the interim responses in what a server sends, until its final response begins."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Begin anew, with another connection."""
        self._pending = b""
        self._skipped = 0
        self._is_final = False
        self.first = b""
        """The first bytes that were received, at most five."""

    @property
    def is_http(self) -> bool:
        """Whether the first bytes may be those of an HTTP response."""
        return begins_as_http(self.first)

    def feed(self, data: bytes) -> bytes:
        """Return the part of *data* that belongs to the final response, with the version 1.1.

        websockets does not read a response of version 1.0, which says as much of its server.
        """
        if self._is_final:
            return data
        pending = self._pending + data
        self.first = self.first or pending[:5]
        while begins_as_http(pending):
            if len(pending) < _SHORTEST:
                self._pending = pending
                return b""
            if INTERIM_STATUS_LINE.match(pending) is None:
                break
            head, end, rest = pending.partition(b"\r\n\r\n")
            if self._skipped + len(head) > MAX_INTERIM_BYTES:
                pending = b"too many interim responses\r\n"  # no response to the parser
                break
            if not end:
                self._pending = pending
                return b""
            self._skipped += len(head)
            pending = rest
        self._is_final, self._pending = True, b""
        if pending.startswith(_OLD_VERSION) and not pending.startswith(b"HTTP/1.0 101"):
            return _VERSION + pending.removeprefix(_OLD_VERSION)
        return pending


def begins_as_http(data: bytes) -> bool:
    """Tell whether *data* may be the begin of an HTTP response; nothing may."""
    return data[:5] == b"HTTP/"[: len(data)]
