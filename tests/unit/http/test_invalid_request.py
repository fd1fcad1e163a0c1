"""Invalid requests: an address that is not percent-encoded is named as the reason."""

from __future__ import annotations

import pytest

from broadcast_server.http.invalid_request import INVALID, invalid_request_text

NOT_ASCII = "a character that is not ASCII, percent-encode it"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("POST /?name=Zoë HTTP/1.1", f"{NOT_ASCII} (write %C3%AB)"),
        ("GET /Zoë HTTP/1.0", f"{NOT_ASCII} (write %C3%AB)"),
        ("GET /?name=👩 HTTP/1.1", f"{NOT_ASCII} (write %F0%9F%91%A9)"),
        ("GET /?name=Zo e HTTP/1.1", "a space, percent-encode it (write %20)"),
        ("GET / ? HTTP/1.1", "a space, percent-encode it (write %20)"),
        ("GET /?\t HTTP/1.1", "a tab, percent-encode it (write %09)"),
        ("GET /\x1b[31m HTTP/1.1", "a control character, percent-encode it (write %1B)"),
        ("GET /\x7f HTTP/1.1", "a control character, percent-encode it (write %7F)"),
        (b"GET /?name=Zo\xeb HTTP/1.1", "the byte EB, percent-encode it as UTF-8"),
        (b"GET /?name=\xed\xa0\x80 HTTP/1.1", "the byte ED, percent-encode it as UTF-8"),
    ],
)  # fmt: skip
def test_an_address_that_is_not_encoded(line: str | bytes, text: str) -> None:
    """The text says what to write in its place, in ASCII."""
    shown = invalid_request_text(line if isinstance(line, bytes) else line.encode())
    assert shown == f"address has {text}"
    assert shown.isascii() and shown.isprintable()


@pytest.mark.parametrize(
    "line",
    [b"", b"nonsense", b"G\xc3\x8bT / HTTP/1.1", b"GET /", b"GET / HTTP/\xc3", b"GET / HTTP/1.1"],
)
def test_another_reason(line: bytes) -> None:
    """What is wrong elsewhere is not blamed on the address."""
    assert invalid_request_text(line) == INVALID
