"""The own page: which requests of browsers are rejected, by what they say about their page."""

from __future__ import annotations

import pytest

from broadcast_server.http.own_page import check_page, check_socket

FRIEND = "https://friend.example"
ORIGINS = frozenset({FRIEND})


def _status(method: str, path: str, **marks: str) -> int:
    headers = {name.replace("_", "-"): value for name, value in marks.items()}
    headers = {{"site": "sec-fetch-site", "mode": "sec-fetch-mode"}.get(n, n): v
               for n, v in headers.items()}  # fmt: skip
    rejection = check_page(method, path, {"host": "a.example", **headers}, ORIGINS)
    return 0 if rejection is None else rejection.status


@pytest.mark.parametrize(
    ("marks", "status"),
    [
        ({}, 0),
        ({"site": "none", "mode": "navigate"}, 0),
        ({"site": "same-origin", "mode": "cors"}, 0),
        ({"site": "Same-Origin "}, 0),
        ({"site": "same-site"}, 403),
        ({"site": "cross-site"}, 403),
        ({"site": "Cross-Site", "mode": "no-cors"}, 403),
        ({"site": "a new value"}, 403),
        ({"site": ""}, 403),
        ({"site": "cross-site", "origin": "http://a.example"}, 403),
        ({"site": "cross-site", "mode": "cors", "origin": FRIEND}, 0),
        ({"site": "cross-site", "mode": "websocket", "origin": FRIEND}, 0),
        ({"site": "cross-site", "mode": "Navigate", "origin": FRIEND}, 403),
        ({"site": "none", "origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
    ],
)
def test_sites(marks: dict[str, str], status: int) -> None:
    """Only the own page, a user or a script of an allowed origin gets what the server has."""
    for path in ("/stream", "/a/stream", "/healthz", "/metrics", "/nothing"):
        assert _status("GET", path, **marks) == status
    assert _status("OPTIONS", "/", **marks) == status
    assert _status("PUT", "/", **marks) == status
    for path in ("/", "/a/", "/broadcast-server.pyz", "/a/broadcast-server.pyz"):
        assert _status("GET", path, **marks) == _status("HEAD", path, **marks) == 0


@pytest.mark.parametrize(
    ("marks", "status"),
    [
        ({}, 0),
        ({"accept": "text/html, */*"}, 0),  # a program, such as one in Java
        ({"origin": "http://a.example", "accept": "*/*"}, 0),
        ({"origin": "http://a.example", "accept": "text/HTML,*/*;q=0.8"}, 403),
        ({"site": "same-origin", "mode": "navigate"}, 403),
        ({"site": "none", "mode": "navigate"}, 403),
        ({"site": "same-origin", "mode": "cors"}, 0),
    ],
)
def test_forms(marks: dict[str, str], status: int) -> None:
    """What a browser submits as a form does not publish, not even from the own page."""
    assert _status("POST", "/", **marks) == status


def test_a_socket() -> None:
    """A WebSocket has the same rule, and one path under any prefix."""
    for path, marks, status in (
        ("/", {}, 0),
        ("/a/", {"sec-fetch-site": "same-origin"}, 0),
        ("/", {"sec-fetch-site": "cross-site"}, 403),
        ("/", {"origin": "http://evil.example"}, 403),
        ("/stream", {}, 404),
    ):
        rejection = check_socket(path, {"host": "a.example", **marks}, ORIGINS)
        assert (rejection is None and status == 0) or (
            rejection is not None and rejection.status == status
        )
