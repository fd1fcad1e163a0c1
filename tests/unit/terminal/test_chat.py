"""The chat: switching rooms, and what becomes of unsent messages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timezone
from urllib.parse import parse_qs, urlsplit

from client_harness import deployment, play
from deployments import serving
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from broadcast_server.admission.admission import AdmissionLimits
from broadcast_server.client.client import ClientTimeouts, ReconnectingClient
from broadcast_server.client.session import ClientSession
from broadcast_server.console.time_limit import run_within
from broadcast_server.protocol.messages import SUBPROTOCOL, Event, Joined, Left, Message
from broadcast_server.server.settings import Settings
from broadcast_server.terminal.chat import MAX_LEFT_ROOMS, ChatUI
from broadcast_server.terminal.render import Line, render_event, today
from broadcast_server.terminal.status_line import Status

SOON = ClientTimeouts(first_delay=0.05, max_delay=0.1)


class Person(ChatUI):
    """A chat interface that records what is shown, without the times."""

    def __init__(self, client: ReconnectingClient) -> None:
        super().__init__(client, bell=True)
        self.seen: list[str] = []
        self.rang = 0
        self.returned: list[str] = []
        self._done = asyncio.Event()
        self._news = asyncio.Event()

    async def sees(self, *wanted: str) -> None:
        """Wait until the last lines are *wanted*."""
        await self.until(lambda: self.seen[-len(wanted) :] == [*wanted])

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until *condition* holds."""

        async def wait() -> None:
            while not condition():
                self._news.clear()
                await self._news.wait()

        try:
            await run_within(wait(), 10)
        except asyncio.TimeoutError:
            raise AssertionError(self.seen) from None

    def _notice_line(self, text: str) -> Line:
        return [("", text)]

    def _print(self, lines: list[Line]) -> None:
        texts = ("".join(text for _, text in line) for line in lines)
        self.seen += [text[9:] if text[2:3] == ":" else text for text in texts]
        self._news.set()

    def _render(self, event: Event, me: str, *, again: bool) -> list[Line]:
        return render_event(event, me, again=again)

    def _greeting(self) -> list[Line]:
        return []

    async def _read_input(self) -> None:
        await self._done.wait()

    def _stop_reading(self) -> None:
        self._done.set()

    def _put_back(self, line: str) -> None:
        self.returned.append(line)
        self._news.set()

    def _clear(self) -> None:
        self.seen.clear()

    def _ring_bell(self) -> None:
        self.rang += 1

    def _status_changed(self) -> None:
        self._news.set()


@asynccontextmanager
async def person(
    url: str, name: str, room: str = "lobby", key: str | None = None
) -> AsyncIterator[Person]:
    """Let a person join, an operator with *key*, and at the end leave with exit code 0."""
    session = ClientSession(name, room)
    member = Person(ReconnectingClient(url, {}, session, timeouts=SOON, operator_key=key))
    running = asyncio.ensure_future(member.run())
    try:
        yield member
    finally:
        member.handle_line("/quit")
        assert await running == 0


def test_a_message_goes_to_the_room_it_was_typed_in() -> None:
    """However fast a person switches rooms, each message is published where it was typed."""

    async def part() -> None:
        async with (
            deployment() as (_, url),
            person(url, "bob", "a") as bob,
            person(url, "cy", "b") as cy,
        ):
            await bob.sees("-- you are bob in a, 1 here: bob --")
            await cy.sees("-- you are cy in b, 1 here: cy --")
            async with person(url, "ann", "a") as ann:
                await ann.sees("-- you are ann in a, 2 here: bob, ann --")
                for text in ("one", "/room b", "two", "/room a", "three", "/room b", "four"):
                    ann.handle_line(text)
                await cy.sees("  ann joined the chat", "  ann: two", "  ann: four")
                await bob.sees(
                    "  ann joined the chat", "  ann: one", "  ann: three", "  ann left the chat"
                )
                await ann.sees("> ann: two", "> ann: four")
                assert not any("not sent" in line for line in ann.seen)
                ann.handle_line("/room a")
                await bob.sees("  ann left the chat", "  ann joined the chat")
                # A new name is used everywhere, also in rooms that were left under another.
                ann.handle_line("/name anna")
                await bob.sees("  ann is now anna")
                ann.handle_line("/room b")
                await cy.sees("  ann left the chat", "  anna joined the chat")
                assert ann.rooms == ["a"]

    play(part)


def test_a_room_that_rejects_the_client() -> None:
    """When a room rejects the client, the person sees why and is back in the previous room."""

    async def serve_room(connection: ServerConnection) -> None:
        assert connection.request is not None
        query = {
            key: value[0]
            for key, value in parse_qs(urlsplit(connection.request.path).query).items()
        }
        if query["room"] == "shut":
            await connection.send('{"type":"error","code":"closed","text":"shut is closed"}')
            await connection.close(4503)
            return
        welcome = {"type": "welcome", "room": query["room"], "name": query["name"], "epoch": "e"}
        more = {"seq": 0, "recovered": True, "missed": 0, "count": 1, "members": ["ann"]}
        await connection.send(json.dumps(welcome | more))
        async for frame in connection:
            request = json.loads(frame)
            if request["type"] == "ping":
                await connection.send(json.dumps({"type": "pong", "id": request["id"]}))

    async def part() -> None:
        async with serve(
            serve_room, "127.0.0.1", 0, subprotocols=[Subprotocol(SUBPROTOCOL)]
        ) as server:
            port = server.sockets[0].getsockname()[1]
            ann = Person(
                ReconnectingClient(
                    f"ws://127.0.0.1:{port}/", {}, ClientSession("ann", "a"), timeouts=SOON
                )
            )
            running = asyncio.ensure_future(ann.run())
            await ann.sees("-- you are ann in a, 1 here: ann --")
            ann.handle_line("/room shut")
            ann.handle_line("for nobody")
            await ann.sees(
                "could not join shut: shut is closed",
                "1 message not sent in shut: return there to send",
                "-- you are ann in a, 1 here: ann --",
            )
            assert ann.status.room == "a" and ann.status.connected
            ann.handle_line("/quit")
            assert await running == 1, "because one message was never confirmed"

    play(part)


def test_messages_for_a_room_that_is_full() -> None:
    """Messages to a room that cannot be joined yet wait for it, and go to no other room."""

    async def part() -> None:
        settings = Settings(port=0, grace=1, limits=AdmissionLimits(rooms=1))
        async with serving(settings) as server, person(server.url, "ann") as ann:
            url = server.url
            await ann.sees("-- you are ann in lobby, 1 here: ann --")
            async with person(url, "bob") as bob:
                await bob.sees("-- you are bob in lobby, 2 here: ann, bob --")
                await ann.sees("  bob joined the chat")
                ann.handle_line("/room ops")
                ann.handle_line("for ops")
                await ann.until(lambda: ann.seen[-1].endswith("; 1 message waiting to be sent"))
                assert ann.status == Status("ops", "ann", 2, connected=False, unsent=1)
                ann.handle_line("/who")
                assert ann.seen[-1] == "not connected: the list will be requested once connected"
                ann.handle_line("/room lobby")
                await ann.sees(
                    "1 message not sent in ops: return there to send",
                    "-- you are ann in lobby, 2 here: bob, ann --",
                )
            await ann.sees("  bob left the chat")
            ann.handle_line("/room ops")
            await ann.sees("-- you are ann in ops, 1 here: ann --", "> ann: for ops")
            assert not any("for ops" in line for line in bob.seen)

    play(part)


def test_left_rooms_are_bounded() -> None:
    """Of very many rooms, the last ones and those with unsent messages are remembered."""

    async def part() -> None:
        ann = Person(
            ReconnectingClient("ws://127.0.0.1:1/", {}, ClientSession("ann", "a"), timeouts=SOON)
        )
        ann.handle_line("kept")
        for number in range(MAX_LEFT_ROOMS + 10):
            ann.handle_line(f"/room r{number}")
        assert ann.rooms[0] == "a"
        assert len(ann.rooms) == MAX_LEFT_ROOMS + 1
        await asyncio.sleep(0)  # lets the tasks that leave those rooms finish

    play(part)


def test_a_crowd_and_quiet() -> None:
    """Joins and leaves in a row are one line, and /quiet hides them until it is typed again."""

    def crowd(*names: str) -> list[Event]:
        return [Joined(name, number) for number, name in enumerate(names, 2)]

    async def part() -> None:
        async with deployment() as (_, url), person(url, "ann") as ann:
            await ann.sees("-- you are ann in lobby, 1 here: ann --")
            ann.show(crowd("b", "c", "d"))
            await ann.sees(*(f"  {name} joined the chat" for name in "bcd"))
            ann.show([*crowd("b", "c", "d", "e", "f"), Left("b", 5)])
            await ann.sees("5 joined (b, c, d and others), 1 left (b), 5 here")
            # Quiet members have no line, divide no crowd, and count.
            came, went = Joined("ci", 9, None, True), Left("ci", 8, True)
            seen = len(ann.seen)
            ann.show([went, came, went, came])
            assert ann.status.count == 9 and len(ann.seen) == seen
            ann.show([*crowd("b", "c"), went, *crowd("d", "e"), came])
            await ann.sees("4 joined (b, c, d and others), 9 here")
            ann.handle_line("/quiet")
            await ann.sees("joins and leaves are hidden, /quiet shows them again")
            seen = len(ann.seen)
            ann.show(crowd("b", "c", "d", "e", "f"))
            ann.show(crowd("g"))
            assert ann.status.count == 2 and len(ann.seen) == seen
            ann.handle_line("/quiet")
            ann.show(crowd("h"))
            await ann.sees("joins and leaves are shown again", "  h joined the chat")

    play(part)


def test_ignoring_somebody() -> None:
    """/ignore hides the messages of a name, however it is written, and no bell rings for them."""

    async def part() -> None:
        async with deployment() as (_, url), person(url, "ann") as ann:
            await ann.sees("-- you are ann in lobby, 1 here: ann --")
            async with person(url, "Bob") as bob:
                await bob.sees("-- you are Bob in lobby, 2 here: ann, Bob --")
                await ann.sees("  Bob joined the chat")
                ann.handle_line("/ignore bob")
                await bob.until(lambda: bob.client.session.live)
                bob.handle_line("ann, ann!")
                bob.handle_line("/name bobby")
                await ann.sees(
                    "messages of bob are hidden, type it again to show them",
                    "  Bob is now bobby",
                )
                assert ann.rang == 0
                bob.handle_line("/name Bob")
                ann.handle_line("/ignore BOB")
                await ann.sees("messages of BOB are shown again", "  bobby is now Bob")
                bob.handle_line("hello ann")
                await ann.sees("  Bob: hello ann")
                assert ann.rang == 1

    play(part)


def test_private_messages() -> None:
    """/msg reaches one member alone, both ends see that it is private, and /r answers."""

    async def part() -> None:
        async with AsyncExitStack() as stack:
            _, url = await stack.enter_async_context(deployment())
            people = []
            for name in ("ann", "Bob B", "cy"):
                each = await stack.enter_async_context(person(url, name))
                await each.until(lambda: each.client.session.live)  # noqa: B023  # at once
                people.append(each)
            ann, bob, cy = people
            await ann.sees("  Bob B joined the chat", "  cy joined the chat")
            ann.handle_line("/r hi")
            await ann.sees("nobody has sent you a private message: type /msg NAME TEXT")
            ann.handle_line("/msg bob b one\ntwo")
            heading = "* you, in private to Bob B: "
            await ann.sees(f"{heading}one", f"{heading}two")
            await bob.sees("* ann to you, in private: one", "* ann to you, in private: two")
            assert bob.rang == 1
            ann.handle_line("/name anna")
            await bob.sees("  ann is now anna")
            bob.handle_line(" /R yes")
            await ann.sees("* Bob B to you, in private: yes")
            bob.handle_line("/msg dave: hi")
            await bob.sees("  * dave is not here, the message was not sent")
            # /ignore hides them, and /r does not answer somebody ignored.
            ann.handle_line("/ignore cy")
            cy.handle_line("/msg anna psst")
            await cy.sees("* you, in private to anna: psst")
            ann.handle_line("/r ok")
            await bob.sees("* anna to you, in private: ok")
            assert not any("psst" in line for line in ann.seen)

    play(part)


def test_a_private_message_without_a_connection() -> None:
    """It is sent at once or not at all; without an answer it may not have arrived."""

    async def part() -> None:
        async with deployment() as (_, url), person(url, "ann") as ann:
            ann.handle_line("/msg bob hi")
            assert ann.seen == ["not sent, try again: not connected"]
            await ann.until(lambda: ann.client.session.live)
            ann.client.session.send_private("bob", "hi")
            ann.client.session.connection_lost()
            ann.note("connection lost")
            await ann.sees("bob may not have got your private message", "connection lost")

    play(part)


def test_a_taken_name_is_explained() -> None:
    """Who gets another name than the one asked for is told so, once."""

    async def part() -> None:
        async with deployment() as (_, url), person(url, "ann") as ann:
            await ann.sees("-- you are ann in lobby, 1 here: ann --")
            async with person(url, "ann") as other:
                await other.sees(
                    "-- you are ann-2 in lobby, 2 here: ann, ann-2 --",
                    "the name ann is taken (/name changes yours)",
                )

    play(part)


def test_a_line_separates_days() -> None:
    """Before the first message of a day, a line names it; the present day needs none."""

    def message(seq: int, at: str) -> Message:
        return Message(seq, "bob", str(seq), at)

    async def part() -> None:
        async with deployment() as (_, url), person(url, "ann") as ann:
            await ann.sees("-- you are ann in lobby, 1 here: ann --")
            old, older = "2026-11-25T12:00:00Z", "2026-11-24T12:00:00Z"
            now = datetime.now(timezone.utc).isoformat()
            ann.show([message(1, older), message(2, older), message(3, old), message(4, "never")])
            ann.show([message(5, now), message(6, now)])
            await ann.sees(
                "Tuesday, 24 November 2026", "  bob: 1", "  bob: 2",
                "Wednesday, 25 November 2026", "  bob: 3", "  bob: 4",
                today(), "  bob: 5", "  bob: 6",
            )  # fmt: skip

    play(part)


def test_bells_are_rate_limited() -> None:
    """Several mentions in quick succession ring the bell once."""

    async def part() -> None:
        async with deployment() as (_, url), person(url, "ann") as ann:
            await ann.sees("-- you are ann in lobby, 1 here: ann --")
            async with person(url, "bob") as bob:
                await bob.sees("-- you are bob in lobby, 2 here: ann, bob --")
                await ann.sees("  bob joined the chat")
                for number in range(3):
                    bob.handle_line(f"ann! {number}")
                    await bob.sees(f"> bob: ann! {number}")
                await ann.sees(*(f"  bob: ann! {number}" for number in range(3)))
                assert (ann.rang, bob.rang) == (1, 0)

    play(part)


def test_what_reached_nobody_is_given_back() -> None:
    """What can be sent otherwise can be edited as it was typed; what is muted cannot, at all."""
    limits = AdmissionLimits(rate=0)
    settings = Settings(port=0, operator_key="key", max_message_bytes=8, limits=limits)

    async def part() -> None:
        async with (
            serving(settings) as server,
            person(server.url, "alice", key="key") as alice,
            person(server.url, "bob") as bob,
        ):
            bob.handle_line("123456789")  # the limit is not known yet: the server says it
            told = "message is 9 bytes, limit is 8 (the server's --max-message-bytes or"
            await bob.until(lambda: bob.returned == ["123456789"])
            assert any(told in line for line in bob.seen)
            await bob.until(lambda: bob.client.session.live)
            for text in ("//23456789", "/msg alice 123456789", "/msg nobody: hi"):
                bob.handle_line(text)
                await bob.until(lambda: bob.returned[-1:] == [text])  # noqa: B023  # at once
            assert sum(line.startswith(f"not sent: {told}") for line in bob.seen) == 2
            bob.handle_line("fits")
            await alice.sees("  bob: fits")
            await alice.until(lambda: alice.client.session.live)
            alice.handle_line("/announce")
            await bob.sees("  * alice turned announce mode on, so only operators write")
            bob.handle_line("really")
            await bob.sees("  * only operators write in this room now: announce mode is on")
            bob.handle_line("/msg nobody: hi")
            await bob.until(lambda: bob.returned[4:] == ["/msg nobody: hi"])

    play(part)


def test_a_report_where_nobody_takes_it() -> None:
    """The standalone server says that it has no moderators, and nobody else is told."""

    async def part() -> None:
        async with deployment() as (_, url), person(url, "ann") as ann, person(url, "bob") as bob:
            await bob.until(lambda: bob.client.session.live)
            bob.handle_line("/report ann rude")
            await bob.sees("  * this server has no moderators to report to: ask whoever runs it")
            assert not any("report" in line for line in ann.seen)

    play(part)


def test_an_operator_and_a_member() -> None:
    """Both see what the operator does, an unknown name has the nearest, and a kick is final."""
    settings = Settings(port=0, operator_key="key", limits=AdmissionLimits(rate=0))

    async def part() -> None:
        async with (
            serving(settings) as server,
            person(server.url, "alice", key="key") as alice,
        ):
            await alice.sees("-- you are alice in lobby, 1 here: alice --", "you are an operator")
            bob = Person(ReconnectingClient(server.url, {}, ClientSession("bob", None)))
            running = asyncio.ensure_future(bob.run())
            await bob.sees("-- you are bob in lobby, 2 here: alice, bob --")
            await bob.until(lambda: bob.client.session.live)
            bob.handle_line("/lock")
            told = (
                "/lock is for operators of the room: connect with --operator-file FILE, or with"
                " the --token-file of a moderator's account"
            )
            await bob.sees(told)
            alice.handle_line("/topic tea")
            await bob.sees("  * alice set the topic: tea")
            assert bob.status.topic == "tea"
            alice.handle_line("/kick bobb")
            await alice.sees("  * nobody here has the name bobb (do you mean bob?)")
            alice.handle_line("/mute bob")
            await bob.sees("  * alice muted bob")
            bob.handle_line("hi")
            await bob.sees("  * you are muted in this room: nobody received this")
            alice.handle_line("/kick bob")
            await bob.sees("  * alice kicked bob")  # and the reason when the program ends
            assert await run_within(running, 10) == 1
            await alice.sees("  * alice kicked bob", "  bob left the chat")
            # The key is shown in another room as well.
            alice.handle_line("/room ops")
            await alice.sees("-- you are alice in ops, 1 here: alice --", "you are an operator")

    play(part)
