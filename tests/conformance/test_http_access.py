"""Who may use the HTTP API: origins, sites, hosts, tokens and limits, on each deployment."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest
from conftest import FRIEND, Player
from curl import Stream, post, read_head, request_head, send_request
from deployments import ServedDeployment
from wire import Wire


def test_requests_of_other_origins(any_server: Player) -> None:
    """A page of another origin may neither post nor subscribe, unless its origin is allowed."""

    async def part(deployment: ServedDeployment) -> None:
        url = deployment.next_url()
        evil, friend = "Origin: http://evil.example", f"Origin: {FRIEND}"
        for reply in (
            await post(url, "/?room=origin", "hi", evil),
            await send_request(url, "GET", "/stream?room=origin", evil),
            await send_request(url, "OPTIONS", "/", evil, "Access-Control-Request-Method: POST"),
        ):
            assert (reply.status, reply.line) == (403, "this origin is not allowed")
            assert "access-control-allow-origin" not in reply.headers
        asked = (
            "Access-Control-Request-Method: POST",
            "Access-Control-Request-Headers: authorization",
        )
        reply = await send_request(url, "OPTIONS", "/", friend, *asked)
        assert reply.status == 200
        assert reply.headers["access-control-allow-origin"] == FRIEND
        assert "POST" in reply.headers["access-control-allow-methods"]
        assert "Authorization" in reply.headers["access-control-allow-headers"]
        for reply in (
            await post(url, "/?room=origin", "hi", friend),
            await post(url, "/?room=origin", "", friend),
            await send_request(url, "GET", "/stream?room=origin&poll=1", friend),
        ):
            assert reply.headers["access-control-allow-origin"] == FRIEND
            assert "Origin" in reply.headers["vary"]
        own = await post(url, "/?room=origin", "hi", "Origin: " + url.replace("ws:", "http:")[:-1])
        assert own.status == 200

    any_server.play_served(part)


SITE_PAGES = ("/accounts/login/", "/admin/", "/static/admin/css/base.css")
"""Pages of the Django deployment. The standalone server has its page there, or nothing."""

PAGE_ONLY = "this address was opened or embedded by a page of another site, open it by itself"

FORM = "a form of a page does not publish, send the message as the body of a request"


def test_requests_of_other_sites(any_server: Player) -> None:
    """What a page of another site opens or embeds is rejected, except the page and the program."""

    async def part(deployment: ServedDeployment) -> None:
        url = deployment.next_url()
        friend = f"Origin: {FRIEND}"
        stream = "/stream?room=site&poll=1"
        for site in ("cross-site", "same-site"):
            for mode, more in (("navigate", ()), ("no-cors", ()), ("navigate", (friend,))):
                marks = f"Sec-Fetch-Site: {site}", f"Sec-Fetch-Mode: {mode}", *more
                for method, target in (
                    ("GET", stream), ("OPTIONS", "/"), ("GET", "/healthz"),
                    ("GET", "/metrics"), ("GET", "/chat/metrics"), ("GET", "/nothing"),
                ):  # fmt: skip
                    reply = await send_request(url, method, target, *marks)
                    assert reply.status == 403, (method, target, marks)
                reply = await post(url, "/?room=site", "hi", *marks)
                assert (reply.status, reply.line) == (403, PAGE_ONLY)
                assert (await send_request(url, "GET", "/", *marks)).status == 200
            own_marks = f"Sec-Fetch-Site: {site}", "Sec-Fetch-Mode: cors", friend
            assert (await send_request(url, "GET", stream, *own_marks)).status == 200
            assert (await post(url, "/?room=site", "hi", *own_marks)).status == 200
        for site in ("none", "same-origin"):
            marks = f"Sec-Fetch-Site: {site}", "Sec-Fetch-Mode: navigate"
            assert (await send_request(url, "GET", stream, *marks)).status == 200
            assert (await send_request(url, "GET", "/metrics", *marks)).status == 200
            reply = await post(url, "/?room=site", "hi", *marks)
            assert (reply.status, reply.line) == (403, FORM)
        own = "Origin: " + url.replace("ws:", "http:")[:-1]
        reply = await post(url, "/?room=site", "hi", own, "Accept: text/html,*/*;q=0.8")
        assert (reply.status, reply.line) == (403, FORM)
        reply = await post(url, "/?room=site", "hi", own, "Accept: */*")
        assert reply.status == 200

    any_server.play_served(part)


def test_no_response_can_be_embedded(any_server: Player) -> None:
    """Every response forbids pages of other sites to show, to embed or to reinterpret it."""

    async def part(deployment: ServedDeployment) -> None:
        url = deployment.next_url()
        for reply in (
            await send_request(url, "GET", "/stream?poll=1"),
            await send_request(url, "GET", "/"),
            await send_request(url, "GET", "/metrics"),
            await send_request(url, "GET", "/healthz"),
            await send_request(url, "OPTIONS", "/"),
            await post(url, "/?room=embed", "hi"),
            await post(url, "/?room=embed", ""),
            *[await send_request(url, "GET", path) for path in SITE_PAGES],
            await post(url, "/accounts/login/", "name=bob"),
        ):
            assert reply.headers["x-content-type-options"] == "nosniff"
            assert reply.headers["x-frame-options"] == "DENY"
            assert reply.headers["cross-origin-resource-policy"] == "same-origin"

    any_server.play_served(part)


def test_requests_to_other_hosts(any_server: Player) -> None:
    """A page whose own name was made to resolve to the server gets nothing under that name."""

    async def part(deployment: ServedDeployment) -> None:
        url = deployment.next_url()
        evil = "Host: evil.example", "Origin: http://evil.example"

        async def status(*lines: str, body: str = "") -> int:
            wire = await Wire.connect(url)
            wire.send("\r\n".join([*lines, "Connection: close", "", body]).encode())
            return (await read_head(wire))[0]

        length = "Content-Length: 2"
        upgrade = (
            "Upgrade: websocket", "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==",
        )  # fmt: skip
        rejected = {400, 403, 421}
        for host in (evil, evil[:1], ("Host: localhost", evil[0]), (evil[0], "Host: localhost")):
            assert await status("POST /?room=evil HTTP/1.1", *host, length, body="hi") in rejected
            for target in ("/stream?poll=1", "/", "/healthz", "/metrics", *SITE_PAGES):
                assert await status(f"GET {target} HTTP/1.1", *host) in rejected
            assert await status("OPTIONS / HTTP/1.1", *host) in rejected
        wire = await Wire.connect(url)
        wire.send("\r\n".join(
            ["GET / HTTP/1.1", *evil, "Connection: Upgrade", *upgrade, "", ""]
        ).encode())  # fmt: skip
        assert (await read_head(wire))[0] in rejected
        port = urlsplit(url).port
        for name in (f"LocalHost:{port}", "localhost.", "a.localhost", "127.0.0.1", "[::1]:80"):
            assert await status("GET /stream?poll=1 HTTP/1.1", f"Host: {name}") == 200, name
        for name in ("evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example", "a b"):
            assert await status("GET /stream HTTP/1.1", f"Host: {name}") in rejected, name

    any_server.play_served(part)


def test_a_subprotocol_that_is_not_ascii(any_server: Player) -> None:
    """It is rejected, or ignored where the library does not show it; it is no error of ours."""

    async def part(deployment: ServedDeployment) -> None:
        url = deployment.next_url()
        wire = await Wire.connect(url)
        head = request_head(
            url, "GET", "/",
            "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==", "Sec-WebSocket-Protocol: @",
        )  # fmt: skip
        wire.send(head.replace(b"@", b"\xff"))
        status = (await read_head(wire))[0]
        assert status == (101 if any_server.kind in ("daphne", "cluster") else 400)
        wire.cut()

    any_server.play_served(part)


BEARER = "Authorization: Bearer s3cret"


def test_http_requests_need_the_token(own_server: Player, token_file: str) -> None:
    """Without the token, requests get 401; wrong tokens are throttled as on the WebSocket."""
    proxied = "--token-file", token_file, "--trusted-proxy", "127.0.0.1"

    async def part(deployment: ServedDeployment) -> None:
        mallory = "X-Forwarded-For: 192.0.2.1"
        for reply in (
            await post(deployment.url, "/", "hi"),
            await send_request(deployment.url, "GET", "/stream"),
        ):
            assert reply.status == 401
            assert reply.line == "this server requires a token: ask its operator for one"
            assert reply.headers["www-authenticate"] == "Bearer"
        wire = await Wire.connect(deployment.url)
        wire.send(request_head(deployment.url, "HEAD", "/stream"))
        assert (await read_head(wire))[0] == 401
        assert await wire.read_to_end() == b""
        for _ in range(3):
            reply = await post(deployment.url, "/", "hi", mallory, "Authorization: Bearer guess")
            assert reply.status == 401
        began = asyncio.get_running_loop().time()
        assert (await post(deployment.url, "/", "hi", mallory, BEARER)).json["count"] == 0
        assert 0.45 < asyncio.get_running_loop().time() - began < 5
        stream = await Stream.open(deployment.url, "/stream?history=1", BEARER)
        await stream.event()
        assert (await stream.event())["text"] == "hi"

    own_server.play_served(part, proxied)


def test_streams_are_counted_as_clients(own_server: Player) -> None:
    """A stream counts towards the client limit until it ends."""

    async def part(deployment: ServedDeployment) -> None:
        stream = await Stream.open(deployment.url, "/stream")
        await stream.event()
        reply = await send_request(deployment.url, "GET", "/stream")
        assert (reply.status, reply.headers["retry-after"]) == (503, "5")
        assert reply.line == "server is at its limit of 1 clients, try again later"
        assert (await post(deployment.url, "/", "hi")).status == 503
        stream.wire.cut()
        reply = await post(deployment.url, "/", "hi")
        while reply.status == 503:  # the server has not noticed the end yet
            reply = await post(deployment.url, "/", "hi")
        assert reply.json["count"] == 0

    own_server.play_served(part, ("--max-clients", "1"))


def test_the_rate_limit_for_posts_of_one_address(own_server: Player) -> None:
    """Above the rate of one client, 429 with Retry-After; other addresses are not delayed."""
    options = "--rate", "1", "--trusted-proxy", "127.0.0.1"

    async def part(deployment: ServedDeployment) -> None:
        here, there = "X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 192.0.2.2"
        for _ in range(20):
            assert (await post(deployment.url, "/", "hi", here)).status == 200
        for _ in range(20):
            reply = await post(deployment.url, "/", "hi", here)
            if reply.status == 429:
                break
        assert reply.headers["retry-after"] == "1"
        assert reply.line == ("more than 1 messages a second from your address, try again later")
        assert (await post(deployment.url, "/", "hi", there)).status == 200

    own_server.play_served(part, options)


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("/?name=Zo\u00eb", "a character that is not ASCII, percent-encode it (write %C3%AB)"),
        ("/stream?name=Zo e&poll=1", "a space, percent-encode it (write %20)"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("upgrade", [False, True])
def test_an_address_that_is_not_encoded(
    any_server: Player, target: str, text: str, upgrade: bool
) -> None:
    """An address with a raw character is answered with what to write instead.

    uvicorn answers such a request itself.
    """

    async def part(deployment: ServedDeployment) -> None:
        wire = await Wire.connect(deployment.url)
        more = "Upgrade: websocket\r\nConnection: Upgrade" if upgrade else "Content-Length: 0"
        line = f"{'GET' if upgrade else 'POST'} {target} HTTP/1.1"
        wire.send(f"{line}\r\nHost: localhost\r\n{more}\r\n\r\n".encode())
        assert " 400 " in (await wire.read_head()).partition("\r\n")[0]
        if any_server.kind != "uvicorn":
            assert await wire.read_to_end() == f"address has {text}\n".encode()

    any_server.play_served(part)
