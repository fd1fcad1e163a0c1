"""Redirects to https that lead back to the site without it: found, and said once."""

from __future__ import annotations

import asyncio
import logging

import pytest
from django.test import override_settings
from django_client import http_request

from django_site.transport import redirect_loop
from django_site.transport.redirect_loop import MAX_REPEATS, UNKNOWN, UNTRUSTED, RedirectLoop

HTTPS = {"x-forwarded-proto": "https"}
TRUSTING = {"BROADCAST_TRUSTED_PROXY": True}


def scope(path: str = "/", client: str = "192.0.2.1", scheme: str = "http") -> dict[str, object]:
    """Return the scope of a request."""
    return {"path": path, "client": (client, 1), "scheme": scheme, "headers": []}


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is logged."""
    found: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    monkeypatch.setattr(redirect_loop.logger, "handlers", [handler])
    monkeypatch.setattr(redirect_loop.logger, "propagate", False)
    return found


@override_settings(SECURE_SSL_REDIRECT=True)
def test_a_proxy_that_is_not_trusted(lines: list[str]) -> None:
    """Its request gets the reason in place of a redirect to itself."""
    loop = RedirectLoop()
    for forwarded in ("https", "HTTPS", "https, http"):
        response = loop.check(scope(), {"x-forwarded-proto": forwarded}, 0)
        assert response is not None and response.status == 500
        assert b"".join(response.body).decode() == UNTRUSTED + "\n"
    assert lines == [UNTRUSTED]
    assert loop.check(scope(), {"x-forwarded-proto": "http"}, 0) is None
    assert loop.check(scope(scheme="https"), HTTPS, 0) is None
    with override_settings(**TRUSTING):
        assert loop.check(scope(), HTTPS, 0) is None
    with override_settings(SECURE_SSL_REDIRECT=False):
        assert loop.check(scope(), HTTPS, 0) is None
    assert lines == [UNTRUSTED]


@override_settings(SECURE_SSL_REDIRECT=True, **TRUSTING)
def test_a_proxy_that_does_not_tell(lines: list[str]) -> None:
    """A client that is redirected from the same address again and again is noticed, once."""
    loop = RedirectLoop()
    for step in range(MAX_REPEATS - 1):
        assert loop.check(scope(), {}, step) is None
    for number in range(20):  # other clients, and other pages
        assert loop.check(scope(client=f"192.0.2.{number + 2}"), {}, 4) is None
        assert loop.check(scope(path=f"/{number}"), {}, 4) is None
    assert lines == []
    for _ in range(3):
        assert loop.check(scope(), {}, 5) is None
    assert lines == [UNKNOWN]


@override_settings(SECURE_SSL_REDIRECT=True, **TRUSTING)
def test_redirects_that_are_no_loop(lines: list[str]) -> None:
    """Neither a client that comes back later nor one that goes on over TLS is in a loop."""
    loop = RedirectLoop()
    for step in range(20):
        loop.check(scope(), {}, 3.0 * step)
        loop.check(scope("/a"), {}, 1)
        loop.check(scope("/a"), HTTPS, 1)
    assert lines == []
    for number in range(5000):
        loop.check(scope(path=f"/{number}"), {}, 1)
    assert len(loop._repeats) <= redirect_loop.MAX_CLIENTS


def test_the_site_answers_with_the_reason(lines: list[str]) -> None:
    """Pages, the admin and its files are all redirected, and all get the reason."""

    async def part() -> None:
        for path in ("/", "/accounts/login/", "/static/admin/css/base.css"):
            sent = (b"x-forwarded-proto", b"https")
            assert await http_request("GET", path, sent) == (500, UNTRUSTED + "\n")
        assert (await http_request("GET", "/healthz", sent))[0] == 200

    with override_settings(SECURE_SSL_REDIRECT=True):
        asyncio.run(part())
    assert lines in ([UNTRUSTED], [])  # another test may have caused it
