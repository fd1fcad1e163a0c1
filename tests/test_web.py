"""The HTTP answers, and who may talk to us."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256

import pytest

from broadcast_server.protocol import CloseCode
from broadcast_server.web import (
    Answer,
    answer,
    is_socket_path,
    origin_allowed,
    page,
    policy,
    refused,
)

BROWSER = {"accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}


class Site:
    """A site that runs from a file."""

    program: bytes | None = b"x" * 200_000
    accepting = True

    def figures(self) -> str:
        return "figures"


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
    found = answer(Site(), "GET", "/any/prefix/broadcast-server.pyz?x=1", {})
    assert (found.status, found.length) == (200, 200_000)
    assert b"".join(found.body) == Site.program
    assert "broadcast-server.pyz" in dict(found.headers)["Content-Disposition"]


def test_socket_paths() -> None:
    """The socket is at every path that ends with a slash."""
    paths = ["/", "/prefix/", "", "/healthz"]
    assert list(map(is_socket_path, paths)) == [True, True, False, False]


def html(target: str, method: str = "GET") -> Answer:
    """Ask as a browser does."""
    return answer(Site(), method, target, BROWSER)


@pytest.mark.parametrize("target", ["/", "/?room=ops&name=bob", "/any/prefix/?room=ops"])
def test_a_browser_gets_the_page(target: str) -> None:
    """Under each prefix it is the same document, which is not kept and sends no referrer."""
    found = html(target)
    body = b"".join(found.body)
    assert (found.status, found.type) == (200, "text/html; charset=utf-8")
    assert body.startswith(b"<!doctype html>") and len(body) == found.length
    headers = dict(found.headers)
    assert headers["Cache-Control"] == "no-cache"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Vary"] == "Accept"


@pytest.mark.parametrize("accept", [None, "*/*", "text/plain", "application/json"])
def test_others_get_words(accept: str | None) -> None:
    """Who does not ask for HTML, like curl, gets plain words, at the same address."""
    found = answer(Site(), "GET", "/", {} if accept is None else {"accept": accept})
    assert (found.status, found.type) == (200, "text/plain; charset=utf-8")
    assert b"broadcast-server.pyz" in b"".join(found.body)
    assert dict(found.headers)["Vary"] == "Accept"


def test_only_the_address_itself_is_the_page() -> None:
    """What is not there is not there for a browser either."""
    assert html("/nowhere").status == 404
    assert html("/", "POST").status == 405


def test_the_policy_names_what_is_in_the_page() -> None:
    """The policy lets the one style and the one script run by their hashes, and nothing else."""
    text = page().html.decode()
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    rules = dict(rule.split(" ", 1) for rule in page().policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["style-src"] == f"'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'"
    assert rules["script-src"] == f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'"
    assert rules["connect-src"] == "'self'"
    for rule in ("base-uri", "form-action", "frame-ancestors"):
        assert rules[rule] == "'none'"
    assert "unsafe" not in page().policy
    assert page().style == style


def test_a_page_without_script_may_run_none() -> None:
    """A page that takes only the style over falls back to a policy in which no script runs."""
    assert "script-src" not in policy("a")
    assert policy("a").startswith("default-src 'none'")


def test_the_page_is_light_and_whole() -> None:
    """It weighs under 30 KiB, needs no 'unsafe-inline', and fetches nothing."""
    text = page().html.decode()
    assert len(page().html) < 30 * 2**10
    assert not re.search(r"<[^>]*\s(on\w+|style)=", text)
    assert not re.search(r"""(src|href)=["']?(?!data:)\w+:""", text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)


@pytest.mark.parametrize(("accepting", "status"), [(True, 200), (False, 503)])
def test_health(accepting: bool, status: int) -> None:
    """A server that stops is well no more, so that nobody is sent to it."""
    site = Site()
    site.accepting = accepting
    assert answer(site, "GET", "/prefix/healthz", {}).status == status


def test_figures_are_given_as_prometheus_reads_them() -> None:
    """The figures have the type of Prometheus' text format."""
    found = answer(Site(), "GET", "/metrics", {})
    assert (found.status, b"".join(found.body)) == (200, b"figures")
    assert found.type == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize(
    ("code", "after", "status", "header"),
    [
        (CloseCode.REFUSED, 0.0, 400, None),
        (CloseCode.SIGN_IN, 0.0, 401, ("WWW-Authenticate", "Bearer")),
        (CloseCode.REMOVED, 0.0, 403, None),
        (CloseCode.FULL, 0.0, 503, ("Retry-After", "5")),
        (CloseCode.FULL, 0.2, 429, ("Retry-After", "1")),
        (CloseCode.STOPPING, 0.0, 503, ("Retry-After", "1")),
    ],
)
def test_what_closes_a_socket_is_a_status_here(
    code: CloseCode, after: float, status: int, header: tuple[str, str] | None
) -> None:
    """Over HTTP a refusal is a status, and says when it is worth to come again."""
    found = refused(code, "no", after)
    assert (found.status, b"".join(found.body)) == (status, b"no\n")
    assert found.headers[:-1] == (() if header is None else (header,))
