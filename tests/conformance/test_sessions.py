"""Sessions: where a client may send one, and that a server keeps it to itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import FRIEND, Player
from curl import post, read_head, request_head, send_request
from deployments import ServedDeployment, serving
from wire import CLOSE, TEXT, Wire

from broadcast_server.cli.options import parse_options
from broadcast_server.cli.start import settings_of
from broadcast_server.protocol.join import parse_join
from broadcast_server.protocol.messages import Format
from broadcast_server.protocol.session_key import SessionKey

SESSION = "0123456789abcdef"
JSON = "broadcast.v1.json"
WRONG = "session is not 16 to 64 of A-Z a-z 0-9 _ -"

WRONG_HEADERS = [
    ["Broadcast-Session:"],
    ["Broadcast-Session: 0123456789abcde"],
    [f"Broadcast-Session: {'x' * 65}"],
    [f"Broadcast-Session: {SESSION}, {SESSION}"],
    [f'Broadcast-Session: "{SESSION}"'],
    ["Broadcast-Session: 0123456789abcd\u00e9"],
    ["Broadcast-Session: 0123456789abcd%21"],
    [f"Broadcast-Session: {SESSION}", f"broadcast-session: {SESSION}"],
    [f"Broadcast-Session: {SESSION}", "Broadcast-Session:"],
]


@pytest.mark.parametrize("headers", WRONG_HEADERS, ids=repr)
def test_an_invalid_header(any_server: Player, headers: list[str]) -> None:
    """An invalid, empty or repeated header is an error, also beside a session in the query."""

    async def part(deployment: ServedDeployment) -> None:
        target = f"/?room=headers&session={SESSION}"
        wire = await Wire.open(deployment.url, target, *headers)
        assert await wire.read_frame() == (TEXT, f"* {WRONG}".encode())
        opcode, payload = await wire.read_frame()
        assert (opcode, payload[:2]) == (CLOSE, (4500).to_bytes(2, "big"))
        rejected = await post(deployment.url, target, "hi", *headers)
        assert (rejected.status, rejected.line) == (400, WRONG)

    any_server.play_served(part)


def test_a_post_has_the_session_in_a_header(any_server: Player) -> None:
    """A member's session in the header of a POST publishes under the member's name, and once."""

    async def part(deployment: ServedDeployment) -> None:
        url, header = deployment.url, f"Broadcast-Session: {SESSION}"
        wire = await Wire.open(url, "/?room=posts&name=bob", header)
        for repeated in (False, True):
            sent = (await post(url, "/?room=posts&name=x&id=1", "hi", header)).json
            assert (sent["name"], sent.get("repeated", False)) == ("bob", repeated)
        query = await post(url, f"/?room=posts&name=x&id=1&session={SESSION}", "hi")
        assert query.json["repeated"]
        assert await wire.read_frame() == (TEXT, b"bob: hi")

    any_server.play_served(part)


def test_the_subprotocol_of_a_session_is_never_selected(any_server: Player) -> None:
    """A page offers its session as a subprotocol, which no answer of the server contains."""

    async def part(deployment: ServedDeployment) -> None:
        for offered, selected in (
            (f"session.{SESSION}, {JSON}", JSON),
            (f"{JSON}, session.{SESSION}", JSON),
            (f"session.{SESSION}", None),
        ):
            wire = await Wire.connect(deployment.url)
            lines = [
                "Upgrade: websocket",
                "Connection: Upgrade",
                "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==",
                f"Sec-WebSocket-Protocol: {offered}",
            ]
            wire.send(request_head(deployment.url, "GET", "/?room=offers", *lines))
            status, headers = await read_head(wire)
            assert (status, headers.get("sec-websocket-protocol")) == (101, selected)
            assert SESSION not in str(headers)

    any_server.play_served(part)


def test_a_page_of_a_listed_origin_may_send_the_header(any_server: Player) -> None:
    """The answer to a preflight allows the header with the session."""

    async def part(deployment: ServedDeployment) -> None:
        lines = [
            f"Origin: {FRIEND}",
            "Access-Control-Request-Method: POST",
            "Access-Control-Request-Headers: broadcast-session",
        ]
        answer = await send_request(deployment.url, "OPTIONS", "/", *lines)
        allowed = answer.headers["access-control-allow-headers"].split(", ")
        assert (answer.status, "Broadcast-Session" in allowed) == (200, True)

    any_server.play_served(part)


def test_a_restart_with_a_log_recognises_a_session(tmp_path: Path) -> None:
    """With --log, a message that is resent after a restart is a duplicate, by POST and socket.

    The file, and what the server keeps of a client, does not have the session.
    """
    import asyncio

    path = tmp_path / "rooms.log"
    settings = replace(settings_of(parse_options(["start"])), port=0, log=path)
    header, secret = "Broadcast-Session: QQsecretQQsecret-QQ", b"QQsecretQQsecret-QQ"

    async def run(again: bool) -> None:
        async with serving(settings) as server:
            sent = (await post(server.url, "/?id=1", "hi", header)).json
            assert (sent["seq"], sent.get("repeated", False)) == (1, again)
            wire = await Wire.open(
                server.url, "/?since=x.1", header, f"Sec-WebSocket-Protocol: {JSON}"
            )
            wire.send_frame(TEXT, json.dumps({"type": "say", "text": "yo", "id": "2"}).encode())
            wire.send_frame(TEXT, b'{"type":"ping","id":"p"}')
            read = b""
            while b"pong" not in read:
                read += (await wire.read_frame())[1]
            assert read.count(b'"text":"yo"') == 1
            assert secret.decode() not in repr(server._participants)
            await Wire.cut_all()

    for again in (False, True):
        asyncio.run(run(again))
        assert not [each for each in tmp_path.iterdir() if secret in each.read_bytes()]


def test_no_text_of_ours_has_the_session() -> None:
    """The join request, in which everything behind the parser knows it, has a digest."""
    join = parse_join(f"session={SESSION}", Format.TEXT, SessionKey())
    assert SESSION not in repr(join)
