"""The GET routes, the chat page's policy, and which origins are allowed."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256

import pytest

from broadcast_server.http.chat_page import chat_page, content_security_policy
from broadcast_server.http.cors import is_origin_allowed, parse_origins
from broadcast_server.http.qr import qr_matrix, svg_image
from broadcast_server.http.responses import Response, reject_response
from broadcast_server.http.site import is_socket_path, respond
from broadcast_server.protocol.messages import CloseCode, Error
from broadcast_server.protocol.rejection import Rejection

BROWSER = {"accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}


class Server:
    """The status of a server that runs from the single file."""

    program: bytes | None = b"x" * 200_000
    accepting = True
    share_url: str | None = None

    def metrics_text(self) -> str:
        return "metrics"


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        (None, "a.example", True),
        ("http://a.example", "a.example", True),
        ("http://a.example:80", "a.example", True),
        ("https://a.example", "a.example", True),  # behind a proxy that terminates TLS
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
def test_allowed_origins(origin: str | None, host: str, allowed: bool) -> None:
    """A page may use the host that it was loaded from, and servers that list its origin."""
    headers = {"host": host} if origin is None else {"host": host, "origin": origin}
    assert is_origin_allowed(headers, frozenset({"https://friend.example"})) is allowed


def test_origins_are_read_as_browsers_send_them() -> None:
    """A list of origins is read in lower case, without the default port that browsers omit."""
    value = "https://A.example:443, http://b.example:8080,,http://[::1]:80, app://id"
    assert parse_origins(value) == {
        "https://a.example",
        "http://b.example:8080",
        "http://[::1]",
        "app://id",
    }
    assert parse_origins("") == frozenset()


@pytest.mark.parametrize(
    "item",
    [
        "*", "null", "a.example", "https://", "https://*.a.example", "https://a.example/", "//a",
        "https://a.example?x", "https://a.example#x", "https://a.example:",
        "https://a.example:99999", "https://a.example:x", "https://b\u00fccher.example",
        "https://a b", "https://[::1", "https://a.example\\",
    ],
)  # fmt: skip
def test_what_no_browser_sends_is_no_origin(item: str) -> None:
    """An item that could never match the Origin of a browser is an error, which names it."""
    with pytest.raises(ValueError, match="is not a web origin") as caught:
        parse_origins(f"https://a.example,{item}")
    assert str(caught.value).startswith(item)


def test_the_program_is_sent_in_chunks() -> None:
    """The response is the whole file, with its length and a name."""
    response = respond(Server(), "GET", "/any/prefix/broadcast-server.pyz?x=1", {})
    assert (response.status, response.length) == (200, 200_000)
    assert b"".join(response.body) == Server.program
    assert "broadcast-server.pyz" in dict(response.headers)["Content-Disposition"]


def test_the_symbol_of_an_address_is_an_image() -> None:
    """It is drawn for any text that fits, and an error says why not."""
    target = "/any/prefix/qr.svg?text=http%3A%2F%2F192.0.2.7%2F%3Froom%3Dops"
    response = respond(Server(), "GET", target, {})
    body = b"".join(response.body)
    matrix = qr_matrix(b"http://192.0.2.7/?room=ops", (0,))
    assert matrix is not None and body == svg_image(matrix)
    assert (response.status, response.type, response.length) == (200, "image/svg+xml", len(body))
    for query, status, words in (
        ("?text=" + "%C3%A9" * 53, 200, b"<svg"),
        ("?text=" + "%C3%A9" * 53 + "x", 414, b"text is 107 bytes, limit of a QR code is 106"),
        ("?text=%ff", 400, b"query is not percent-encoded UTF-8"),
        ("?text=", 400, b"text is missing"),
        ("", 400, b"text is missing"),
    ):
        response = respond(Server(), "GET", f"/qr.svg{query}", {})
        assert (response.status, words in b"".join(response.body)) == (status, True)


def test_the_websocket_is_at_paths_that_end_with_a_slash() -> None:
    """A proxy may add any prefix, so the WebSocket is at every path that ends with a slash."""
    paths = ["/", "/prefix/", "", "/healthz"]
    assert list(map(is_socket_path, paths)) == [True, True, False, False]


def browse(target: str, method: str = "GET") -> Response:
    """Return the response to a request of a browser."""
    return respond(Server(), method, target, BROWSER)


@pytest.mark.parametrize("target", ["/", "/?room=ops&name=bob", "/any/prefix/?room=ops"])
def test_a_browser_gets_the_page(target: str) -> None:
    """The page is the same under every prefix, is not cached, and sends no referrer."""
    response = browse(target)
    body = b"".join(response.body)
    assert (response.status, response.type) == (200, "text/html; charset=utf-8")
    assert body.startswith(b"<!doctype html>") and len(body) == response.length
    headers = dict(response.headers)
    assert headers["Cache-Control"] == "no-cache"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Vary"] == "Accept"


@pytest.mark.parametrize("accept", [None, "*/*", "text/plain", "application/json"])
def test_other_clients_get_instructions(accept: str | None) -> None:
    """A client that does not accept HTML, like curl, gets plain text at the same address."""
    response = respond(Server(), "GET", "/", {} if accept is None else {"accept": accept})
    assert (response.status, response.type) == (200, "text/plain; charset=utf-8")
    assert b"broadcast-server.pyz" in b"".join(response.body)
    assert dict(response.headers)["Vary"] == "Accept"


def test_a_response_repeats_no_control_character() -> None:
    """The method and the path of a request are in an error as text that a terminal can show."""
    for method, target in (("GET", "/x\x1b[2J\x9b\n\u202ebob: hi"), ("G\x1b[2J", "/")):
        text = b"".join(respond(Server(), method, target, {}).body).decode()
        assert "\ufffd[2J" in text
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)


def test_a_browser_gets_the_page_only_at_the_address_itself() -> None:
    """Any other path or method is an error for a browser, too."""
    assert browse("/nowhere").status == 404
    assert browse("/", "POST").status == 405


def test_the_policy_allows_what_is_in_the_page() -> None:
    """The policy allows the one style and the one script by their hashes, and nothing else."""
    text = chat_page().html.decode()
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    rules = dict(rule.split(" ", 1) for rule in chat_page().policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["style-src"] == f"'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'"
    assert rules["script-src"] == f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'"
    assert rules["connect-src"] == "'self'"
    for rule in ("base-uri", "form-action", "frame-ancestors"):
        assert rules[rule] == "'none'"
    assert "unsafe" not in chat_page().policy
    assert chat_page().style == style


def test_the_policy_of_a_page_without_a_script_allows_none() -> None:
    """Without a script the policy has no script-src, so default-src forbids all scripts."""
    assert "script-src" not in content_security_policy("a")
    assert content_security_policy("a").startswith("default-src 'none'")


def test_the_page_is_small_and_self_contained() -> None:
    """The page is under 60 KiB, needs no 'unsafe-inline', and fetches nothing from elsewhere."""
    text = chat_page().html.decode()
    assert len(chat_page().html) < 60 * 2**10
    assert not re.search(r"<[^>]*\s(on\w+|style)=", text)
    assert not re.search(r"""(src|href)=["']?(?!data:)\w+:""", text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("127.0.0.1:8765", True),
        ("localhost", True),
        ("LOCALHOST:1", True),
        ("[::1]:8765", True),
        ("192.168.1.7:8765", False),
        ("chat.example", False),
        ("", False),
        ("]", False),
    ],
)
def test_a_page_that_was_opened_by_loopback_knows_the_address_for_others(
    host: str, told: bool
) -> None:
    """Only a page on the machine itself is told the machine's address."""
    server = Server()
    headers = BROWSER | {"host": host}
    assert b'name="share"' not in b"".join(respond(server, "GET", "/", headers).body)
    server.share_url = 'http://192.168.1.7:8765/?"><b>'
    response = respond(server, "GET", "/", headers)
    html = b"".join(response.body)
    meta = b'<meta name="share" content="http://192.168.1.7:8765/?&quot;&gt;&lt;b&gt;">'
    assert (meta in html) is told
    assert response.length == len(html)


@pytest.mark.parametrize(("accepting", "status"), [(True, 200), (False, 503)])
def test_health(accepting: bool, status: int) -> None:
    """A server that stops is unhealthy, so that a load balancer sends it no more clients."""
    server = Server()
    server.accepting = accepting
    assert respond(server, "GET", "/prefix/healthz", {}).status == status


def test_metrics_have_the_media_type_of_prometheus() -> None:
    """The metrics have the media type of Prometheus' text format."""
    response = respond(Server(), "GET", "/metrics", {})
    assert (response.status, b"".join(response.body)) == (200, b"metrics")
    assert response.type == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize(
    ("code", "after", "status", "header"),
    [
        (CloseCode.REJECTED, 0.0, 400, None),
        (CloseCode.SIGN_IN, 0.0, 401, ("WWW-Authenticate", "Bearer")),
        (CloseCode.REMOVED, 0.0, 403, None),
        (CloseCode.FULL, 0.0, 503, ("Retry-After", "5")),
        (CloseCode.FULL, 0.2, 429, ("Retry-After", "1")),
        (CloseCode.STOPPING, 0.0, 503, ("Retry-After", "1")),
    ],
)
def test_the_status_of_a_rejection(
    code: CloseCode, after: float, status: int, header: tuple[str, str] | None
) -> None:
    """A rejection has an HTTP status, and says when the client may try again."""
    response = reject_response(Rejection(code, Error("any", "no"), after))
    assert (response.status, b"".join(response.body)) == (status, b"no\n")
    assert response.headers[:-1] == (() if header is None else (header,))
