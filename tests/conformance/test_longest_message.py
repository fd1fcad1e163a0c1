"""The longest message that any server can allow reaches everyone, and the room goes on."""

from __future__ import annotations

import json

import pytest
from conftest import Player
from curl import Stream, post
from deployments import ServedDeployment, WebSocketClient

from broadcast_server.protocol.bounds import MAX_TEXT_BYTES

OPTIONS = ("--max-message-bytes", str(MAX_TEXT_BYTES))
TEXTS = {
    "plain": "x" * MAX_TEXT_BYTES,
    "escaped": "\x01" * MAX_TEXT_BYTES,  # six bytes each in JSON
    "wide": "\N{PARTY POPPER}" * (MAX_TEXT_BYTES // 4),
    "lines": ("y" * 15 + "\n") * (MAX_TEXT_BYTES // 16 - 1) + "y",
}
WIDE = "\N{PARTY POPPER}" * 8000


async def texts(client: WebSocketClient, count: int) -> list[str]:
    """Return the texts of the next *count* messages that a JSON client gets."""
    found: list[str] = []
    while len(found) < count:
        event = json.loads(await client.line())
        found += [event["text"]] if event["type"] == "message" else []
    return found


@pytest.mark.parametrize("kind", TEXTS)
def test_the_longest_message(any_server: Player, kind: str) -> None:
    """It is sent, posted, resumed and streamed, alone and after others in one batch.

    All clients here take frames of 1 MiB at most, as most WebSocket libraries do.
    """
    text, room = TEXTS[kind], f"longest-{kind}"

    async def part(deployment: ServedDeployment) -> None:
        alice = await deployment.open(f"/?name=alice&room={room}", as_json=True)
        plain = await deployment.open(f"/?name=plain&room={room}", as_json=False)
        # A frame may have 64 KiB of other lines, here of four bytes a character.
        says = [WIDE] * 8
        await alice.send("\n".join(json.dumps({"type": "say", "text": each}) for each in says))
        await alice.send(json.dumps({"type": "say", "text": text}))
        response = await post(deployment.next_url(), f"/?name=ci&room={room}", text)
        assert response.status == 200
        await alice.send('{"type":"say","text":"after"}')
        expected = [*says, text, text, "after"]
        assert sorted(await texts(alice, 11)) == sorted(expected)
        while await plain.line() != "alice: after":
            pass
        late = await deployment.open(f"/?name=late&room={room}&history=11", as_json=True)
        assert sorted(await texts(late, 11)) == sorted(expected)
        stream = await Stream.open(deployment.next_url(), f"/stream?room={room}&history=11")
        streamed: list[str] = []
        while len(streamed) < 11:
            event = await stream.event()
            streamed += [event["text"]] if event["type"] == "message" else []
        assert sorted(streamed) == sorted(expected)
        stream.wire.cut()

    any_server.play_served(part, OPTIONS)
