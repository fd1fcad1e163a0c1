"""The request guard: no page of another site and no other host gets anything of the whole site."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

import pytest
from django.test import override_settings
from django_client import begin_http_request

from django_site.transport.request_guard import check_request

Headers = tuple[tuple[bytes, bytes], ...]

PAGES = (
    "/accounts/login/", "/accounts/", "/accounts/tokens/", "/accounts/nonexistent/", "/admin/",
    "/admin", "/admin/django_site/message/", "/admin/jsi18n/", "/static/admin/css/base.css",
    "/static/", "/static/nonexistent.js",
)  # fmt: skip
"""Addresses of the site that belong to no room."""

SECURITY = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"cross-origin-resource-policy": b"same-origin",
}


async def request(method: str, path: str, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    """Send a request, whose *headers* may name another host, and return the response's start."""
    client = begin_http_request(method, path)
    if any(name == b"host" for name, _ in headers):
        client.scope["headers"] = []
    client.scope["headers"] += [(b"content-length", b"0"), *headers]
    await client.send_input({"type": "http.request", "body": b""})
    start: dict[str, Any] = await client.receive_output(timeout=10)
    while (await client.receive_output(timeout=10)).get("more_body", False):
        pass
    await client.wait(timeout=10)
    return start


def statuses(paths: tuple[str, ...], method: str, *headers: tuple[bytes, bytes]) -> list[int]:
    """Return the statuses of requests for *paths*; each response has `SECURITY`, and only once."""
    found: list[int] = []

    async def part() -> None:
        for path in paths:
            start = await request(method, path, *headers)
            sent = [(name.lower(), value) for name, value in start["headers"]]
            sent = [each for each in sent if each[0] in SECURITY]
            assert dict(sent) == SECURITY and len(sent) == len(SECURITY), path
            found.append(start["status"])

    asyncio.run(part())
    return found


def guarded(method: str, path: str, sent: Headers) -> int | None:
    """Return the status with which the guard rejects a request, None if it does not."""
    headers = {name.decode(): value.decode() for name, value in sent}
    scope = {"type": "http", "method": method, "path": path, "headers": sent}
    rejection = check_request(scope, headers)
    return None if rejection is None else rejection.status


def marks(site: str, mode: str = "", dest: str = "") -> Headers:
    """Return what a browser notes about a request."""
    given = (b"site", site), (b"mode", mode), (b"dest", dest)
    return tuple((b"sec-fetch-" + name, value.encode()) for name, value in given if value)


@pytest.mark.parametrize("site", ["cross-site", "same-site", "Cross-Site", "new-value"])
@pytest.mark.parametrize(
    ("mode", "dest"),
    [
        ("no-cors", "image"), ("no-cors", "style"), ("no-cors", "script"), ("cors", "empty"),
        ("navigate", "iframe"), ("navigate", "frame"), ("navigate", "object"),
        ("navigate", "embed"), ("navigate", "fencedframe"), ("navigate", ""), ("", "document"),
        ("", ""), ("websocket", "document"),
    ],
)  # fmt: skip
def test_other_sites_embed_nothing(site: str, mode: str, dest: str) -> None:
    """No page of another site gets a page or a file of the site into a page of its own."""
    sent = marks(site, mode, dest)
    for method in ("GET", "HEAD", "OPTIONS"):
        for path in PAGES:
            assert guarded(method, path, sent) == 403, (method, path)


def test_a_rejection_comes_before_everything() -> None:
    """Neither Django nor WhiteNoise sees a request of another site."""
    sent = marks("cross-site", "no-cors", "image")
    for method in ("GET", "HEAD", "OPTIONS"):
        assert statuses(PAGES, method, *sent) == [403] * len(PAGES)


def test_other_sites_post_nothing() -> None:
    """A form of another site is rejected, also where it opens a page of the site by itself."""
    real = ("/accounts/login/", "/accounts/logout/", "/admin/django_site/message/")
    for site in ("cross-site", "same-site"):
        sent = marks(site, "navigate", "document")
        assert [guarded("POST", path, sent) for path in real] == [403] * 3
        assert statuses(real, "POST", *sent) == [403] * 3
        assert statuses(("/accounts/nonexistent/", "/static/x"), "POST", *sent) == [404] * 2


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_other_origins_get_nothing(method: str) -> None:
    """Where a browser notes only the origin, that is enough. Origins of rooms are others here."""
    with override_settings(BROADCAST_ALLOW_ORIGIN=frozenset(["https://friend.example"])):
        for origin in (b"https://friend.example", b"http://evil.example", b"null"):
            sent = ((b"origin", origin), *marks("cross-site", "navigate", "document"))
            for headers in (sent, sent[:1]):
                assert statuses(PAGES[:1], method, *headers) == [403]


def test_a_link_anywhere_opens_a_page() -> None:
    """A link in a mail or on another site opens a page by itself, as a typed address does."""
    paths = ("/accounts/login/", "/accounts/tokens/", "/admin/", "/static/admin/css/base.css", "/")
    for sent in (
        marks("cross-site", "navigate", "document"),
        marks("same-site", "navigate", "document"),
        marks("none", "navigate", "document"),
        (),
    ):
        assert statuses(paths, "GET", *sent) == [200, 302, 302, 200, 200]


def test_the_site_uses_itself() -> None:
    """The site's own pages load their files, and send their forms."""
    sent = marks("same-origin", "no-cors", "style")
    assert statuses(("/static/admin/css/base.css",), "GET", *sent) == [200]
    own = ((b"origin", b"http://testserver"), *marks("same-origin", "navigate", "document"))
    # Django has the last word: this form has no CSRF token.
    assert statuses(("/accounts/login/",), "POST", *own) == [403]
    assert statuses(("/accounts/logout/",), "GET", *own) == [405]


@pytest.mark.parametrize(
    "host", ["evil.example", "testserver.evil.example", "a b", "testserver, evil.example", "[::1"]
)
def test_no_other_host_gets_anything(host: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each address of the site rejects another host, and logs nothing: the access log has it."""
    paths = (*PAGES, "/", "/stream", "/healthz", "/metrics")
    django = logging.getLogger("django")
    django.addHandler(caplog.handler)
    try:
        assert statuses(paths, "GET", (b"host", host.encode())) == [400] * len(paths)
        assert statuses(paths, "POST", (b"host", host.encode())) == [400] * len(paths)
    finally:
        django.removeHandler(caplog.handler)
    assert [each.name for each in caplog.records if each.name.startswith("django")] == []


@pytest.mark.parametrize(
    "host", ["10.1.2.3:8000", "[fd00::1]:8000", "web:8000", "broadcast.default.svc.cluster.local",
             socket.gethostname()],
)  # fmt: skip
def test_monitoring_may_use_other_names(host: str) -> None:
    """What cannot be in the public DNS names a server in the same network, for monitoring only."""
    with override_settings(ALLOWED_HOSTS=["chat.example.org"]):
        paths = ("/healthz", "/metrics", "/chat/metrics", "/", "/stream")
        sent = (b"host", host.encode())
        assert statuses(paths, "GET", sent) == [200, 200, 200, 400, 400]
        assert statuses(paths[:2], "POST", sent) == [400, 400]
        assert statuses(paths[:2], "GET", (b"host", b"chat.example.com")) == [400, 400]
