"""Publishing over HTTP with POST, on each deployment."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
from conftest import Player
from curl import Stream, post, read_head, read_response, request_head, send_request
from deployments import ServedDeployment
from wire import Wire

from broadcast_server.protocol.bounds import BYTES_PER_LINE, MAX_MESSAGE_BYTES
from broadcast_server.protocol.messages import limit_text

SESSION = "0123456789abcdef"


def test_a_post_is_received_by_everyone_and_nobody_joins(any_server: Player) -> None:
    """A posted message reaches all members, and causes no `joined` or `left` event."""

    async def part(deployment: ServedDeployment) -> None:
        alice = await deployment.open("/?name=alice&room=post", as_json=False)
        bob = await deployment.open("/?name=bob&room=post", as_json=True)
        assert await alice.line() == "bob joined the chat"
        seq = json.loads(await bob.line())["seq"]
        reply = await post(deployment.next_url(), "/any/prefix/?room=post&name=ci&id=a", "hé\n")
        assert reply.json == {"seq": seq + 1, "name": "ci", "room": "post", "count": 2, "id": "a"}
        assert any_server.is_django or reply.headers["connection"].lower() == "close"
        assert await alice.line() == "ci: hé"
        message = json.loads(await bob.line())
        assert (message["seq"], message["name"], message["text"]) == (seq + 1, "ci", "hé")
        await alice.assert_nothing_new(2)

    any_server.play_served(part)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("a\nb\r\nc", "a\nb\r\nc"),
        ("a\n\n", "a\n"),
        ("a\r\n", "a"),
        (" a ", " a "),
        ("/who", "/who"),
    ],
)
def test_the_body_is_one_message(any_server: Player, body: str, text: str) -> None:
    """The body is published with its line breaks and spaces, except one line break at the end."""

    async def part(deployment: ServedDeployment) -> None:
        bob = await deployment.open("/?name=bob&room=body", as_json=True)
        await bob.line()
        assert (await post(deployment.next_url(), "/?room=body", body)).json["count"] == 1
        assert json.loads(await bob.line())["text"] == text

    any_server.play_served(part)


def test_no_response_controls_the_terminal_of_curl(any_server: Player) -> None:
    """What a client sent is in no response and in no stream as it is, if a terminal obeys it."""

    async def part(deployment: ServedDeployment) -> None:
        target = "/?room=control&name=ci&session=0123456789abcdef&id=a%C2%9B%E2%80%AE"
        said = "\x1b[2K\x9b2K\x7f\u202ebob: hi"
        url = deployment.next_url()
        replies = [await post(url, target, said) for _ in range(2)]
        assert [reply.json["id"] for reply in replies] == ["a\x9b\u202e"] * 2
        assert replies[1].json["repeated"] is True
        for path in ("/x%1B%5B2J%C2%9B2J%E2%80%AE", "/x%0Aforged"):
            replies.append(await send_request(url, "GET", path))
            assert replies[-1].status == 404
        replies.append(await send_request(url, "GET", "/stream?room=control&history=9&poll=1"))
        assert json.loads(replies[-1].body.splitlines()[1])["text"] == said
        for reply in replies:
            unsafe = re.findall(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", reply.body)
            assert not unsafe, reply

    any_server.play_served(part)


def test_a_post_in_chunks(any_server: Player) -> None:
    """A body may be chunked, and its chunks may arrive in pieces."""

    async def part(deployment: ServedDeployment) -> None:
        bob = await deployment.open("/?name=bob&room=chunks", as_json=False)
        url = deployment.next_url()
        wire = await Wire.connect(url)
        wire.send(request_head(url, "POST", "/?room=chunks&name=ci", "Transfer-Encoding: chunked"))
        for piece in (b"3\r\nha", b"l\r\n", b"1\r\nf\r\n0\r\n\r\n"):
            await asyncio.sleep(0)
            wire.send(piece)
        assert (await read_response(wire)).json["name"] == "ci"
        assert await bob.line() == "ci: half"

    any_server.play_served(part)


def test_a_post_that_expects_100_continue(any_server: Player) -> None:
    """A client that expects 100 is told to continue, or is rejected before it sends the body."""

    async def part(deployment: ServedDeployment) -> None:
        url = deployment.next_url()
        wire = await Wire.connect(url)
        expect = "Expect: 100-continue"
        wire.send(request_head(url, "POST", "/?room=expect&name=ci", "Content-Length: 2", expect))
        assert (await read_head(wire))[0] == 100
        wire.send(b"hi")
        assert (await read_response(wire)).json["name"] == "ci"
        wire = await Wire.connect(url)
        wire.send(request_head(url, "POST", "/?room=expect", "Content-Length: 2000000", expect))
        reply = await read_response(wire)
        assert (reply.status, reply.line) == (413, f"message is 2000000 bytes, {TOO_LONG}")

    any_server.play_served(part)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/healthz"),
        ("GET", "/"),
        ("GET", "/stream?room=long"),
        ("HEAD", "/"),
        ("OPTIONS", "/"),
        ("PUT", "/nowhere"),
        ("POST", "/nowhere"),
        ("POST", "/?room=long"),
        ("POST", "/accounts/login/"),
    ],
)
def test_a_body_that_is_too_long(any_server: Player, method: str, target: str) -> None:
    """A body over the limit is rejected by its announced length, before it is sent."""

    async def part(deployment: ServedDeployment) -> None:
        url = deployment.next_url()
        for expect in ((), ("Expect: 100-continue",)):
            wire = await Wire.connect(url)
            wire.send(request_head(url, method, target, f"Content-Length: {10**9}", *expect))
            status, headers = await read_head(wire)
            assert (status, headers["connection"].lower()) == (413, "close")
            assert headers["x-frame-options"] == "DENY"

    any_server.play_served(part)


@pytest.mark.parametrize(
    "target", ["/?room=long", "/nowhere", "/accounts/login/", "/admin/", "/static/x"]
)
def test_chunks_that_do_not_end(any_server: Player, target: str) -> None:
    """A body whose length was not announced is rejected when it gets too long."""

    async def part(deployment: ServedDeployment) -> None:
        url = deployment.next_url()
        wire = await Wire.connect(url)
        wire.send(request_head(url, "POST", target, "Transfer-Encoding: chunked"))
        chunk = b"1000\r\n" + b"x" * 4096 + b"\r\n"
        for _ in range(40):
            wire.send(chunk)
        try:
            status, _ = await read_head(wire)
        except (ConnectionError, EOFError):  # it is closed while the chunks arrive
            return
        # A post to a path without a room may be rejected by its head.
        assert status in (413, 404 if any_server.is_django else 405)

    any_server.play_served(part)


def test_a_name_that_is_taken(any_server: Player) -> None:
    """A post gets the next free name, as a joining member would, and does not occupy it."""

    async def part(deployment: ServedDeployment) -> None:
        alice = await deployment.open(f"/?name=alice&room=taken&session={SESSION}", as_json=False)
        url = deployment.next_url()
        for _ in range(3):
            assert (await post(url, "/?room=taken&name=ALICE", "hi")).json["name"] == "ALICE-2"
            assert await alice.line() == "ALICE-2: hi"
        own = await post(url, f"/?room=taken&name=bob&session={SESSION}", "me")
        assert own.json["name"] == "alice"
        assert await alice.line() == "alice: me"
        await deployment.open("/?name=alice&room=taken", as_json=False)
        assert await alice.line() == "alice-2 joined the chat"
        assert (await post(url, "/?room=taken&name=alice", "hi")).json["name"] == "alice-3"

    any_server.play_served(part)


def test_a_repeated_post_is_published_once(any_server: Player) -> None:
    """A repeated session and id is published once, and gets the same response as the first."""

    async def part(deployment: ServedDeployment) -> None:
        alice = await deployment.open("/?name=alice&room=again", as_json=False)
        target = f"/?room=again&name=ci&session={SESSION}&id=1"
        first = (await post(deployment.next_url(), target, "hi")).json
        assert await alice.line() == "ci: hi"
        again = (await post(deployment.next_url(), target + "&require=5", "hi")).json
        assert again == {**first, "repeated": True}
        others = (await post(deployment.next_url(), "/?room=again&name=ci&id=1", "hi")).json
        assert others["seq"] == first["seq"] + 1 and "repeated" not in others
        assert await alice.line() == "ci: hi"
        await alice.assert_nothing_new(1)

    any_server.play_served(part)


def test_too_few_receivers(any_server: Player) -> None:
    """A post that requires more receivers than there are is neither published nor logged."""

    async def part(deployment: ServedDeployment) -> None:
        target = "/?room=required&name=ci&require="
        reply = await post(deployment.next_url(), target + "1", "hi")
        assert (reply.status, reply.line) == (409, "0 are here, 1 is required")
        alice = await deployment.open("/?name=alice&room=required", as_json=False)
        reply = await post(deployment.next_url(), target + "3", "hi")
        assert (reply.status, reply.line) == (409, "1 is here, 3 are required")
        stream = await Stream.open(deployment.next_url(), "/stream?room=required")
        assert (await stream.event())["count"] == 1
        reply = await post(deployment.next_url(), target + "2", "now")
        assert reply.json["count"] == 2
        assert await alice.line() == "ci: now"
        assert (await stream.event())["text"] == "now"

    any_server.play_served(part)


BIG = "x" * (MAX_MESSAGE_BYTES + 1)
TOO_LONG = limit_text(MAX_MESSAGE_BYTES)
MAX_LINES = MAX_MESSAGE_BYTES // BYTES_PER_LINE


@pytest.mark.parametrize(
    ("target", "body", "status", "reason"),
    [
        ("/", BIG, 413, f"message is {len(BIG)} bytes, {TOO_LONG}"),
        ("/", BIG * 2, 413, f"message is {2 * len(BIG)} bytes, {TOO_LONG}"),
        ("/", "\n" * 3000, 413, f"message is 2999 lines, {limit_text(MAX_LINES)}"),
        ("/", "", 400, "message is empty"),
        ("/", "\r\n", 400, "message is empty"),
        ("/", b"a\xff", 400, "message is not UTF-8: invalid start byte at position 1"),
        ("/?name=a:b", "hi", 400, "name contains a colon"),
        ("/?room=A", "hi", 400, "room is not 1 to 64 of a-z 0-9 . _ - beginning with a-z 0-9"),
        ("/?session=short", "hi", 400, "session is not 16 to 64 of A-Z a-z 0-9 _ -"),
        ("/?id=", "hi", 400, "id is not a string of 1 to 64 characters"),
        ("/?require=x", "hi", 400, "require is not a number of 1 to 18 digits"),
        (
            "/?name=%ff",
            "hi",
            400,
            "query is not percent-encoded UTF-8 of at most 64 parameters",
        ),
    ],
)
def test_rejected_posts(
    any_server: Player, target: str, body: str | bytes, status: int, reason: str
) -> None:
    """A rejected post gets a line that says why."""

    async def part(deployment: ServedDeployment) -> None:
        reply = await post(deployment.next_url(), target, body)
        assert (reply.status, reply.line) == (status, reason)

    any_server.play_served(part)


def test_a_post_without_a_length(any_server: Player) -> None:
    """A post without a length or chunks gets 411; other methods get 405."""

    async def part(deployment: ServedDeployment) -> None:
        assert (await send_request(deployment.next_url(), "POST", "/")).status == 411
        reply = await send_request(deployment.next_url(), "PUT", "/", "Content-Length: 0")
        assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD, POST")
        assert reply.line == "method PUT is not allowed, use GET, HEAD or POST"
        assert (await post(deployment.next_url(), "/healthz", "hi")).status == 405

    any_server.play_served(part)


@pytest.mark.parametrize("digits", [5, 19, 20, 21, 30, 4000])
def test_a_length_beyond_the_limit(own_server: Player, digits: int) -> None:
    """A message that is too long is rejected as such, by a length of any number of digits."""

    async def part(deployment: ServedDeployment) -> None:
        wire = await Wire.connect(deployment.url)
        wire.send(request_head(deployment.url, "POST", "/", f"Content-Length: {'9' * digits}"))
        reply = await read_response(wire)
        assert reply.status == 413
        assert reply.line == f"message is {'9' * min(digits, 20)} bytes, {TOO_LONG}"
        wire.cut()

    own_server.play_served(part)


def test_chunks_beyond_the_limit(own_server: Player) -> None:
    """Of a chunked body, no more is read than a message may have."""

    async def part(deployment: ServedDeployment) -> None:
        wire = await Wire.connect(deployment.url)
        wire.send(request_head(deployment.url, "POST", "/", "Transfer-Encoding: chunked"))
        wire.send(b"8000\r\n" + b"x" * 2**15 + b"\r\n" + b"3\r\nxxx\r\n")
        reply = await read_response(wire)
        assert (reply.status, reply.line) == (
            413,
            f"message is more than {MAX_MESSAGE_BYTES + 2} bytes, {TOO_LONG}",
        )

    own_server.play_served(part)
