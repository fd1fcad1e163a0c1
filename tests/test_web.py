"""The HTTP answers, and who may talk to us."""

from __future__ import annotations

import pytest

from broadcast_server.web import answer, is_socket_path, origin_allowed


class Site:
    """A site that runs from a file."""

    program: bytes | None = b"x" * 200_000


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        (None, "a.example", True),
        ("http://a.example", "a.example", True),
        ("http://a.example:80", "a.example", True),
        ("https://a.example", "a.example", True),  # behind a proxy that ends TLS
        ("https://a.example", "a.example:443", True),
        ("https://a.example", "a.example:80", False),
        ("http://a.example:8765", "a.example:8765", True),
        ("http://a.example:8765", "a.example", False),
        ("http://A.example", "a.EXAMPLE", True),
        ("http://[::1]:8765", "[::1]:8765", True),
        ("http://b.example", "a.example", False),
        ("http://a.example.evil", "a.example", False),
        ("null", "a.example", False),
        ("", "", False),
        ("http://a.example:x", "a.example", False),
        ("https://friend.example", "a.example", True),
    ],
)
def test_origins(origin: str | None, host: str, allowed: bool) -> None:
    """A page may talk to the host that it came from, and to those that list it."""
    headers = {"host": host} if origin is None else {"host": host, "origin": origin}
    assert origin_allowed(headers, frozenset({"https://friend.example"})) is allowed


def test_the_program_is_handed_out_in_pieces() -> None:
    """The file is answered whole, with its length and a name."""
    found = answer(Site(), "GET", "/any/prefix/broadcast-server.pyz?x=1")
    assert (found.status, found.length) == (200, 200_000)
    assert b"".join(found.body) == Site.program
    assert "broadcast-server.pyz" in dict(found.headers)["Content-Disposition"]


def test_socket_paths() -> None:
    """The socket is at every path that ends with a slash."""
    paths = ["/", "/prefix/", "", "/healthz"]
    assert list(map(is_socket_path, paths)) == [True, True, False, False]
