"""Invalid requests: what is wrong with a request that is no valid HTTP, where that is clear."""

from __future__ import annotations

import re

INVALID = "request is not valid HTTP"

_REQUEST_LINE = re.compile(rb"[A-Z]+ (.*) HTTP/\d\.\d")
_NOT_ENCODED = re.compile(rb"[^!-~]")


def invalid_request_text(line: bytes) -> str:
    """Return why a request with the request *line*, without its end, is not valid."""
    match = _REQUEST_LINE.fullmatch(line)
    bad = match and _NOT_ENCODED.search(match[1])
    if not match or not bad:
        return INVALID
    rest = match[1][bad.start() :]
    char = rest.decode(errors="replace")[0]
    if char == "\ufffd":
        return f"address has the byte {rest[0]:02X}, percent-encode it as UTF-8"
    encoded = "".join(f"%{octet:02X}" for octet in char.encode())
    kind = {" ": "a space", "\t": "a tab"}.get(char) or (
        "a control character" if rest[0] < 0x80 else "a character that is not ASCII"
    )
    return f"address has {kind}, percent-encode it (write {encoded})"
