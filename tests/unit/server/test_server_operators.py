"""Operators of a standalone server: what is logged, over HTTP, by address, and after a restart."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from deployments import ServedDeployment, WebSocketClient, serving
from metrics_samples import samples
from server_harness import play

from broadcast_server.admission.admission import AdmissionLimits
from broadcast_server.admission.trusted_proxies import parse_trusted_proxies
from broadcast_server.protocol.operators import OPERATOR_HEADER
from broadcast_server.protocol.session_key import SESSION_HEADER
from broadcast_server.server.log_format import formatter
from broadcast_server.server.server import Server
from broadcast_server.server.settings import Settings

KEY = "0perator-key"
SETTINGS = Settings(port=0, operator_key=KEY, trusted_proxies=parse_trusted_proxies("127.0.0.1"))
OPERATOR = {OPERATOR_HEADER: KEY}


async def request(
    server: Server,
    path: str,
    text: str | None = None,
    key: str = "",
    client: str = "",
    session: str = "",
) -> tuple[int, str]:
    """Return the status and the text of the response to a request, a POST with *text*."""
    headers = {OPERATOR_HEADER: key} if key else {}
    if session:
        headers[SESSION_HEADER] = session
    if client:
        headers["X-Forwarded-For"] = client
    url = server.url.replace("ws", "http", 1).rstrip("/") + path
    asked = Request(url, None if text is None else text.encode(), headers)

    def get() -> tuple[int, str]:
        try:
            with urlopen(asked, timeout=30) as response:
                return response.status, response.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(get)


async def closed(client: WebSocketClient) -> int:
    """Return the code with which *client* is closed."""
    try:
        while True:
            await client.line()
    except EOFError as end:
        code: int = end.args[0]
        return code


def test_acts_are_logged_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    """The log says who did what to whom, in both formats, and nowhere is the key."""
    caplog.set_level(logging.DEBUG, logger="broadcast_server")

    async def part(server: Server, deployment: ServedDeployment) -> None:
        alice = await deployment.open("/?name=alice", as_json=True, headers=OPERATOR)
        bob = await deployment.open("/?name=bob%20joined%20x", as_json=True)
        for line in (
            '{"type":"mute","name":"bob joined x"}',
            '{"type":"kick","name":"bob joined x"}',
            '{"type":"lock"}',
            '{"type":"lock"}',
            '{"type":"topic","text":"tea \\" \\u001b[2J\\nforged"}',
            '{"type":"announce","on":false}',
            '{"type":"slow","seconds":30}',
            '{"type":"slow","seconds":0}',
            '{"type":"say","text":"the password"}',
            '{"type":"hide","seq":1}',
            '{"type":"say","text":"the password"}',
            '{"type":"hide","name":"alice"}',
        ):
            await alice.send(line)
        assert await closed(bob) == 4503
        text = server.metrics_text()
        assert samples(text)["broadcast_operator_acts_total"] == 8

    play(part, SETTINGS)
    lines = [record.getMessage() for record in caplog.records]
    for line in (
        'alice used mute "bob joined x" on in lobby',
        'alice used kick "bob joined x" in lobby',
        "alice used lock on in lobby",
        'alice used topic "tea \\" forged" in lobby',
        "alice used slow 30 s in lobby",
        "alice used slow off in lobby",
        "alice used hide alice message 1 in lobby",
        "alice used hide alice 1 message in lobby",
    ):
        assert lines.count(line) == 1
    as_json = [json.loads(formatter("json").format(record)) for record in caplog.records]
    acts = [
        {key: value for key, value in each.items() if key not in ("at", "level", "text")}
        for each in as_json
        if "by" in each
    ]
    assert acts[0] == {
        "event": "muted",
        "name": "bob joined x",
        "on": True,
        "by": "alice",
        "room": "lobby",
    }
    assert "password" not in caplog.text
    assert KEY not in caplog.text and KEY not in repr(SETTINGS)


def test_rules_hold_over_http() -> None:
    """Posts and streams obey the lock, announce mode, mutes and kicks; the key lets them pass."""

    async def part(server: Server, deployment: ServedDeployment) -> None:
        alice = await deployment.open("/?name=alice&room=r", as_json=True, headers=OPERATOR)
        for line, code in (
            ('{"type":"announce"}', "only operators write in this room now"),
            ('{"type":"lock"}', "this room is locked"),
        ):
            await alice.send(line)
            assert json.loads(await alice.line())["type"] in ("welcome", "announce", "locked")
            status, text = await request(server, "/?room=r&name=x", "hi")
            while status == 200:  # the act was on its way
                status, text = await request(server, "/?room=r&name=x", "hi")
            assert status == 403 and text.startswith(code)
        assert (await request(server, "/stream?room=r&poll=1"))[0] == 403
        assert (await request(server, "/?room=r&name=x", "hi", KEY))[0] == 200
        status, text = await request(server, "/stream?room=r&poll=1", key=KEY)
        welcome = json.loads(text.splitlines()[0])
        assert (status, welcome["locked"], welcome["announce"]) == (200, True, True)
        assert welcome["operator"] is True
        assert (await request(server, "/?room=other", "hi"))[0] == 200
        status, text = await request(server, "/?room=other", "hi", "wrong")
        assert status == 401 and text.startswith("operator key is wrong")

    play(part, SETTINGS)


def test_a_member_reads_a_locked_room_as_a_stream() -> None:
    """The header with its session is enough, and costs it neither its place nor its name."""

    async def part(server: Server, deployment: ServedDeployment) -> None:
        alice = await deployment.open("/?name=alice", as_json=True, headers=OPERATOR)
        session = "0123456789abcdef"
        bob = await deployment.open("/?name=bob", as_json=True, headers={SESSION_HEADER: session})
        await alice.send('{"type":"lock"}')
        while json.loads(await bob.line())["type"] != "locked":
            pass
        status, text = await request(server, "/stream?poll=1", session=session)
        assert status == 200 and json.loads(text.splitlines()[0])["name"] == ""
        assert (await request(server, "/stream?poll=1", session="f" * 16))[0] == 403
        await bob.send('{"type":"ping"}')
        assert json.loads(await bob.line()) == {"type": "pong"}
        await alice.send('{"type":"kick","name":"bob"}')
        assert await closed(bob) == 4503
        assert (await request(server, "/stream?poll=1", session=session))[0] == 403

    play(part, SETTINGS)


def test_a_stream_with_a_session_is_no_takeover() -> None:
    """It is another client, so a server that is full rejects it."""

    async def part(server: Server, deployment: ServedDeployment) -> None:
        session = "0123456789abcdef"
        bob = await deployment.open("/?name=bob", as_json=False, headers={SESSION_HEADER: session})
        assert (await request(server, "/stream?poll=1", session=session))[0] == 503
        await bob.assert_nothing_new(1)

    play(part, replace(SETTINGS, limits=AdmissionLimits(clients=1, rate=0)))


def test_a_repeated_post_is_answered_although_its_author_is_muted() -> None:
    """What was published before stays published, and a repeat with the same id says so."""

    async def part(server: Server, deployment: ServedDeployment) -> None:
        alice = await deployment.open("/?name=alice", as_json=True, headers=OPERATOR)
        path = "/?name=bob&id=1&session=0123456789abcdef"
        status, text = await request(server, path, "hi")
        assert status == 200
        await alice.send('{"type":"lock"}')
        while json.loads(await alice.line())["type"] != "locked":
            pass
        status, again = await request(server, path, "hi")
        assert status == 200 and json.loads(again)["repeated"] is True
        assert json.loads(again)["seq"] == json.loads(text)["seq"]
        assert (await request(server, path.replace("id=1", "id=2"), "hi"))[0] == 403

    play(part, SETTINGS)


def test_the_address_of_who_was_kicked() -> None:
    """A client that no other member shares its address with stays out with every session."""

    async def part(server: Server, deployment: ServedDeployment) -> None:
        alice = await deployment.open("/?name=alice", as_json=True, headers=OPERATOR)
        bob = await deployment.open(
            "/?name=bob", as_json=False, headers={"X-Forwarded-For": "192.0.2.1"}
        )
        await alice.send('{"type":"kick","name":"bob"}')
        assert await closed(bob) == 4503
        assert (await request(server, "/?name=x", "hi", client="192.0.2.1"))[0] == 403
        assert (await request(server, "/stream?poll=1", client="192.0.2.1"))[0] == 403
        assert (await request(server, "/?name=x", "hi", client="192.0.2.2"))[0] == 200
        eve = await deployment.open(
            "/?name=eve", as_json=False, headers={"X-Forwarded-For": "192.0.2.1"}
        )
        assert (await eve.line()).startswith("* you were kicked from this room")

    play(part, SETTINGS)


def test_guessing_the_key_is_slowed_down() -> None:
    """From the second wrong key on, every attempt of the address with a key waits."""

    async def part(server: Server, deployment: ServedDeployment) -> None:
        for _ in range(3):
            eve = await deployment.open("/", as_json=False, headers={OPERATOR_HEADER: "guess"})
            assert await closed(eve) == 4501
        begin = time.monotonic()
        alice = await deployment.open("/?name=alice", as_json=True, headers=OPERATOR)
        assert json.loads(await alice.line())["operator"] is True
        assert time.monotonic() - begin >= 0.5
        bob = await deployment.open("/?name=bob", as_json=True)
        assert "operator" not in json.loads(await bob.line())

    play(part, SETTINGS)


def test_without_a_key_nobody_is_an_operator() -> None:
    """A client that shows a key to a server that has none is told so, whatever the key."""

    async def part(server: Server, deployment: ServedDeployment) -> None:
        for key in ("", "guess"):
            eve = await deployment.open("/", as_json=False, headers={OPERATOR_HEADER: key})
            assert (await eve.line()).startswith("* this server has no operator key")
            assert await closed(eve) == 4501

    play(part, Settings(port=0))


@pytest.mark.parametrize("logged", [False, True])
def test_a_lock_outlives_the_room(logged: bool, tmp_path: Path) -> None:
    """A room that everyone has left is still locked, and with a log file after a restart too.

    Who was in it when the server stopped comes back by its session, and nobody else.
    """
    settings = Settings(port=0, operator_key=KEY, log=tmp_path / "rooms.log" if logged else None)
    bobs = {SESSION_HEADER: "0123456789abcdef"}

    async def first(server: Server, room: str, headers: dict[str, str]) -> dict[str, Any]:
        client = await ServedDeployment(server.url).open(
            f"/?name=bob&room={room}", as_json=True, headers=headers
        )
        event: dict[str, Any] = json.loads(await client.line())
        await client.close()
        return event

    async def before() -> None:
        async with serving(settings) as server:
            deployment = ServedDeployment(server.url)
            await deployment.open("/?name=bob&room=b", as_json=True, headers=bobs)
            for room in ("a", "b"):
                alice = await deployment.open(f"/?room={room}", as_json=True, headers=OPERATOR)
                await alice.send('{"type":"lock"}\n{"type":"topic","text":"tea"}')
                while json.loads(await alice.line())["type"] != "topic":
                    pass
                await alice.close()
            assert (await first(server, "a", {}))["code"] == "locked"

    async def after() -> None:
        async with serving(settings) as server:
            assert (await first(server, "a", {})).get("code") == ("locked" if logged else None)
            assert (await first(server, "a", OPERATOR)).get("topic") == ("tea" if logged else None)
            if logged:
                assert (await first(server, "b", {}))["code"] == "locked"
                assert (await first(server, "b", bobs))["locked"] is True

    asyncio.run(before())
    asyncio.run(after())
