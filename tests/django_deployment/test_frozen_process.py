"""Two processes of the Django deployment, of which one stands still until it counts as dead."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from conftest import DAPHNE
from programs import ROOT, Running, listening, running
from services import postgresql, redis_server, site_folder
from site_member import Member, RecordingSink, join, members, until
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from broadcast_server.client.client import ClientTimeouts, ReconnectingClient
from broadcast_server.client.session import ClientSession
from broadcast_server.console.time_limit import run_within
from broadcast_server.protocol.messages import Message

DEAD_AFTER_S = "2"
"""Seconds without a sign of life after which a process counts as dead: short, for the test."""

MAKE_ACCOUNT = """
from django_site.accounts.models import Account, Token
print(Token.make(Account.objects.create_user("max"), "test")[1])
"""


@dataclass(frozen=True, slots=True)
class Site:
    """Two processes, their addresses, and the variables that they were started with."""

    processes: tuple[Running, Running]
    urls: tuple[str, str]
    variables: dict[str, Any]

    def make_account(self) -> str:
        """Create the account max in the database, and return a token of it."""
        command = [sys.executable, str(ROOT / "manage.py"), "shell", "-v", "0", "-c", MAKE_ACCOUNT]
        environment = {**os.environ, **self.variables}
        done = subprocess.run(
            command, check=True, env=environment, timeout=60, capture_output=True, text=True
        )
        return done.stdout.strip()


@pytest.fixture(params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """Two processes that share a database, and also a Redis if that is PostgreSQL."""
    # Not in pytest's folder: PostgreSQL's user cannot read that if pytest runs as root.
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        variables: dict[str, Any] = {
            "BROADCAST_DEAD": DEAD_AFTER_S,
            "BROADCAST_DATA": site_folder(folder),
        }
        if request.param == "postgresql":
            redis = stack.enter_context(redis_server())
            variables["REDIS_URL"] = redis.url
            variables["DATABASE_URL"] = stack.enter_context(postgresql(Path(folder, "pg")))
        one, two = (stack.enter_context(running(*DAPHNE, **variables)) for _ in range(2))
        yield Site((one, two), (listening(one), listening(two)), variables)
        one.process.send_signal(signal.SIGCONT)
        for process in (one, two):
            assert process.signal(signal.SIGTERM) == 0


async def join_with_token(url: str, room: str, token: str) -> Member:
    """Join a room with a token."""
    socket = await connect(
        f"{url}?room={room}",
        additional_headers={"Authorization": f"Bearer {token}"},
        subprotocols=[Subprotocol("broadcast.v1.json")],
        compression=None,
        proxy=None,
        max_queue=None,
    )
    member = Member("max", socket)
    await until(lambda: member.events, "a welcome")
    return member


def test_words_under_a_name_that_is_another_members_now(site: Site) -> None:
    """Nothing that a process had before it was frozen is published under the names of others.

    Their new owners took these names after the process counted as dead: a guest, an account, and
    the name that a member had only got by a rename. Our client publishes under its new name.
    """

    async def part() -> None:
        room, (one, two) = "frozen", site.urls
        timeouts = ClientTimeouts(first_delay=0.1, max_delay=0.2)
        client = ReconnectingClient(one, {}, ClientSession("alice", room), timeouts=timeouts)
        sink = RecordingSink()
        using = asyncio.ensure_future(client.run(sink))
        await until(lambda: client.has_been_live, "our client")
        joining = join(two, "watch", room), join(one, "max", room), join(one, "robert", room)
        async with members(*joining) as (watch, guest, renamed):
            await renamed.socket.send('{"type":"name","name":"bob"}')
            await until(lambda: renamed.events_of("renamed"), "a new name")
            await until(lambda: len(watch.events_of("joined")) >= 2, "two others")
            site.processes[0].process.send_signal(signal.SIGSTOP)
            for each in (guest, renamed):
                await each.publish(f"forged by {each.name}")
            client.send("I am alice")
            parts = urlsplit(one)
            posting = HTTPConnection(parts.hostname or "", parts.port, timeout=60)
            posting.request("POST", f"/?room={room}&name=alice&id=1&session={'s' * 16}", b"a post")
            await until(lambda: len(watch.events_of("left")) == 3, "three that are removed")
            token = await asyncio.to_thread(site.make_account)
            new = (
                join(two, "alice", room),
                join_with_token(two, room, token),
                join(two, "bob", room),
            )
            async with members(*new) as owners:
                names = [each.events_of("welcome")[0]["name"] for each in owners]
                assert names == ["alice", "max", "bob"]
                assert owners[-1].events_of("welcome")[0]["verified"] == ["max"]
                site.processes[0].process.send_signal(signal.SIGCONT)
                await until(lambda: guest.code and renamed.code, "two closes")
                for each in (guest, renamed):
                    assert (each.code, each.events_of("error")[-1]["code"]) == (4001, "lost_sight")
                response = await asyncio.to_thread(posting.getresponse)
                published = json.loads(response.read())
                await run_within(client.wait_confirmed(), 20)
                # What the process still had would be published before this.
                async with members(join(one, "robert", room)) as (again,):
                    assert len(again.events_of("welcome")[0]["members"]) == 6
                    await again.publish("back")
                    await until(lambda: watch.received_at("back"), "the last message")
                said = [(each["name"], each["text"]) for each in watch.events_of("message")]
                mine = client.session.name
                assert sorted(said[:-1]) == sorted(
                    [(mine, "I am alice"), (published["name"], "a post")]
                )
                assert said[-1] == ("robert", "back")
                assert mine in ("alice-2", "alice-3")
                assert published["name"] in ("alice-2", "alice-3")
                echoes = [each for each in sink.events if isinstance(each, Message)]
                assert [each.name for each in echoes if each.text == "I am alice"] == [mine]
        client.leave()
        await using
        posting.close()

    asyncio.run(part())
