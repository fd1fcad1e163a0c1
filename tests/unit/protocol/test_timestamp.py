"""Timestamps: what is written can be read again, and nothing else is a time."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest

from broadcast_server.library.events import Message
from broadcast_server.protocol import messages as wire
from broadcast_server.protocol.codec import decode_event
from broadcast_server.protocol.timestamp import parse_rfc3339, rfc3339


def test_there_and_back() -> None:
    """A time of any zone is written in UTC, with milliseconds."""
    moment = datetime(2026, 11, 24, 15, 0, 0, 123456, timezone(timedelta(hours=2)))
    text = rfc3339(moment)
    assert text == "2026-11-24T13:00:00.123Z"
    assert parse_rfc3339(text) == moment.replace(microsecond=123000)
    message = Message("lobby", 1, "ann", "hi", text, own=False, epoch="ep")
    assert message.time == moment.replace(microsecond=123000)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-99-99T99:99:99.000Z",
        "2026-11-24T13:00:00.123",
        "2026-11-24T13:00:00.123+00:00",
        "2026-11-24T13:00:00.1Z",
        "2026-11-24 13:00:00.123Z",
        "2026-11-24T13:00:00.123Z\\n",
        "2026-11-24T13:00:00.123Z" * 200,
        "\u0662026-11-24T13:00:00.123Z",
        "\u001b[2J",
    ],
)
def test_no_time(text: str) -> None:
    """It is an error where the time is read. The message arrives: its log may be damaged."""
    with pytest.raises(ValueError, match=r"is not a time|month must be in"):
        parse_rfc3339(text)
    message = decode_event(
        f'{{"type":"message","seq":1,"name":"a","text":"","at":{json.dumps(text)}}}'
    )
    assert message == wire.Message(1, "a", "", text)
    with pytest.raises(ValueError, match=r"is not a time|month must be in"):
        Message("lobby", 1, "a", "", text, own=False, epoch="ep").time  # noqa: B018


@pytest.mark.parametrize("text", ["2026-11-24T13:00:00Z", "2026-11-24T13:00:00.123456Z"])
def test_another_fraction_is_a_time(text: str) -> None:
    """A server of a later version may be more exact, or less."""
    assert parse_rfc3339(text).year == 2026
