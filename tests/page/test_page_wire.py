"""The page against a simulated server, and the logic that it shares with the Python client."""

from __future__ import annotations

import json
import random
import re
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from browsing import audit, browser, here, needed, tab
from page_player import Player, message, part, play
from programs import until

from broadcast_server.client.session import ClientSession, GapError
from broadcast_server.protocol.join import JoinRequest, parse_join
from broadcast_server.protocol.messages import Format
from broadcast_server.protocol.session_key import SessionKey
from broadcast_server.terminal.render import COLOURS, colour

__all__ = ["browser", "here", "play", "tab"]  # fixtures

pytestmark = needed


def test_a_gap_makes_it_reconnect(play: Player) -> None:
    """A missing sequence number makes the page reconnect from the last message that it has."""
    play.welcome(1, message(1))
    play.send(message(2))
    play.send(message(4))
    play.welcome(4, message(3), message(4), sockets=2)
    assert play.query()["since"] == "e.2"
    play.tab.heard("t1", "t2", "t3", "t4")


@pytest.mark.parametrize(
    "line",
    [
        "hello",
        '{"type":"welcome","room":"ops","name":"a","epoch":"e","seq":1,"missed":1,"members":[]}',
    ],
)
def test_what_no_server_sends_ends_the_page(play: Player, line: str) -> None:
    """After a line that is not JSON, or a count that cannot be true, it does not reconnect."""
    play.welcome(1, message(1))
    play.tab.heard("t1")
    play.sockets[-1].close(code=4013)
    until(lambda: play.tab.js("1") and len(play.sockets) == 2, "a socket")
    play.sockets[-1].send(line)
    play.tab.until("document.querySelector('#again').textContent === 'Join again'")
    assert play.tab.texts("#state") == ["Not connected: no broadcast server is there."]
    play.tab.page.click("#again")
    play.welcome(1, sockets=3)
    assert play.query()["since"] == "e.1"


def test_a_heartbeat_reveals_a_gap(play: Player) -> None:
    """A heartbeat beyond the last message makes the page reconnect as well."""
    play.welcome(0)
    play.send({"type": "head", "seq": 1})
    play.welcome(1, message(1), sockets=2)
    play.tab.heard("t1")


def test_the_delays_grow_until_a_connection_has_lasted(play: Player) -> None:
    """A server that breaks off after each welcome is called less and less often."""
    play.tab.js("Math.random = () => 1000")  # so that the countdown cannot end meanwhile
    left = "parseInt(/[0-9]+/.exec(document.querySelector('#count').textContent))"
    for count, seconds in enumerate((1000, 2000, 4000, 1000), 1):
        play.welcome(0, sockets=count)
        if count == 4:
            play.send({"type": "head", "seq": 0})  # sent after 25 seconds
        play.sockets[-1].close(code=1001)
        play.tab.until(f"{seconds} - 300 < {left} && {left} <= {seconds}")
        play.tab.page.click("#again")


def test_unconfirmed_messages_are_resent(play: Player) -> None:
    """After the replay, and not before, they are sent again with the same ids and session."""
    play.welcome(0)
    play.tab.type("one", "two", "three")
    until(lambda: play.tab.js("1") and len(play.says()) == 3, "three")
    session, sent = play.session(), play.says()
    echo = message(1, "alice", text="one", id=sent[0][1])
    play.sockets[-1].close(code=4001)
    until(lambda: play.tab.js("1") and len(play.sockets) == 2, "a socket")
    assert play.says() == []
    play.welcome(1, echo, sockets=2)
    until(lambda: play.tab.js("1") and len(play.says()) == 2, "two again")
    assert (play.says(), play.session()) == (sent[1:], session)
    play.send(
        {"type": "error", "code": "duplicate", "text": "said before", "id": sent[1][1]},
        {"type": "error", "code": "too_long", "text": "message is too long", "id": sent[2][1]},
    )
    until(lambda: play.tab.notes() == ["* message is too long"], "the error")
    play.tab.heard("one")
    assert play.tab.js("document.querySelector('#text').value") == "three"


def test_missed_messages_are_counted_in_their_place(play: Player) -> None:
    """The number of missed messages is shown between the messages before and after them."""
    play.welcome(1, message(1))
    play.sockets[-1].close(code=4008)
    play.welcome(9, message(9), sockets=2, recovered=False, missed=7)
    play.tab.heard("t1", "t9")
    rows = play.tab.texts("#log > *")
    assert "-- 7 messages missed --" in rows[1] and rows[2].endswith("t9")


def test_a_hidden_message_disappears(play: Player) -> None:
    """A hidden message is removed from the page, and in a replay its number is not a gap."""
    play.welcome(3, message(1), {"type": "hidden", "seq": 2}, message(3))
    play.tab.heard("t1", "t3")
    play.send({"type": "hidden", "seq": 1}, {"type": "hidden", "seq": 4}, message(5))
    play.tab.heard("t3", "t5")
    assert play.tab.texts("#log .head b") == ["bob"]
    assert len(play.sockets) == 1


def test_accounts_are_marked(play: Player) -> None:
    """Signed-in accounts have a mark in the list of members that no name can imitate."""
    names: dict[str, Any] = {"count": 3, "members": ["alice", "bob", "✓ carl"], "verified": ["bob"]}
    play.welcome(0, **names)
    play.send({"type": "joined", "name": "dora", "count": 4, "verified": True})
    play.tab.live(4)
    assert play.tab.texts("#members li:has([role=img][title^=signed]) bdi") == ["bob", "dora"]


def test_a_room_for_accounts_links_to_the_login(play: Player) -> None:
    """If the room is for accounts, the page says so, with a login link that returns to the room."""
    until(lambda: play.tab.js("1") and play.sockets, "a socket")
    play.send({"type": "error", "code": "login", "text": "this room is for accounts"})
    play.sockets[-1].close(code=4501)
    play.tab.until("!document.querySelector('#login').hidden")
    assert play.tab.texts("#state") == ["Not connected: this room is for accounts."]
    audit(play.tab)
    back = urlsplit(play.tab.page.url)
    link = play.tab.js("document.querySelector('#login').getAttribute('href')")
    assert link == "accounts/login/?next=" + quote(f"{back.path}?{back.query}", safe="")


def test_renaming_needs_a_connection(play: Player) -> None:
    """/name is sent once; without a connection the page says so and keeps the typed text."""
    play.welcome(0)
    play.tab.until("document.querySelector('#banner').hidden")  # it has read the pong
    play.tab.type("/name alicia")
    until(lambda: play.tab.js("1") and play.frames[-1], "a request")
    assert [each["type"] for each in play.frames[-1]] == ["name"]
    play.sockets[-1].close(code=4503)
    play.tab.until("document.querySelector('#again').textContent === 'Join again'")
    play.tab.type("/name alison")
    until(lambda: play.tab.notes() == ["* not renamed: not connected"], "a note")
    assert play.tab.js("document.querySelector('#text').value") == "/name alison"
    play.tab.page.click("#again")
    play.welcome(0, sockets=2)
    assert (play.query()["name"], play.frames[-1]) == ("alice", [])


def test_a_takeover_by_its_own_attempt(play: Player) -> None:
    """After a session takeover the page reconnects once per own attempt without a welcome."""
    until(lambda: play.tab.js("1") and play.sockets, "a socket")
    play.sockets[-1].close(code=4013)
    play.welcome(1, message(1), sockets=2)
    session = play.session()
    play.sockets[-1].close(code=4504)
    play.welcome(1, sockets=3)
    assert (play.session(), play.query()["since"]) == (session, "e.1")
    play.sockets[-1].close(code=4504)
    play.tab.until("document.querySelector('#again').textContent === 'Join again'")
    assert play.tab.texts("#state") == ["You are here in another tab."]
    assert len(play.sockets) == 3


@pytest.mark.parametrize("code", [4503, 4504, 1009, 4999])
def test_some_close_codes_are_final(play: Player, code: int) -> None:
    """After a final close code the page does not reconnect unless the user asks for it."""
    play.welcome(0)
    play.sockets[-1].close(code=code)
    play.tab.until("document.querySelector('#again').textContent === 'Join again'")
    assert play.tab.texts("#count") == [""]
    session = play.session()
    play.tab.page.click("#again")
    play.welcome(0, sockets=2)
    assert (play.session() != session) is (code == 4504)


def test_older_messages_come_over_http(play: Player) -> None:
    """They come while the connection stays, once each, without those that were hidden meanwhile."""
    routes: list[Any] = []
    play.tab.page.route("**/stream?*", lambda route: routes.append(route))  # noqa: PLW0108

    def answer(since: int, begin: int) -> None:
        (route,) = routes
        query = dict(parse_qsl(urlsplit(route.request.url).query))
        room = play.query()["room"]
        assert query == {"room": room, "poll": "1", "since": f"e.{since}"}
        events = [message(seq) for seq in range(begin, 502)]
        welcome = {"type": "welcome", "missed": begin - since - 1}
        lines = [welcome, *events, {"type": "hidden", "seq": 400}]
        route.fulfill(body="\n".join(map(json.dumps, lines)))
        routes.clear()

    play.welcome(500, *map(message, range(301, 501)))
    play.tab.heard(*(f"t{seq}" for seq in range(301, 501)))
    play.tab.type("/history 400")
    until(lambda: play.tab.js("1") and routes, "a request")
    answer(100, begin=101)
    play.tab.heard(*(f"t{seq}" for seq in range(101, 501)))
    play.tab.type("/history 1000", "/history 1000")
    until(lambda: play.tab.js("1") and routes, "a request")
    play.send({"type": "hidden", "seq": 7}, message(501))
    play.tab.heard(*(f"t{seq}" for seq in range(101, 502)))
    answer(0, begin=6)
    play.tab.heard("t6", *(f"t{seq}" for seq in range(8, 502)))
    play.tab.until("document.querySelector('#more').hidden")  # the log begins there
    assert len(play.sockets) == 1


def test_older_messages_that_do_not_come(play: Player) -> None:
    """The page says why, stays connected, and asks no more until some seconds have passed."""
    routes: list[Any] = []
    play.tab.page.route("**/stream?*", lambda route: routes.append(route))  # noqa: PLW0108
    play.welcome(500, *map(message, range(301, 501)))
    play.tab.heard(*(f"t{seq}" for seq in range(301, 501)))
    play.tab.js("document.querySelector('#more').click()")
    until(lambda: play.tab.js("1") and routes, "a request")
    routes[0].fulfill(body=json.dumps({"type": "error", "code": "busy", "text": "try\u202e later"}))
    why = "* earlier messages did not come: try later"
    until(lambda: play.tab.notes() == [why], "why")
    for _ in range(2):
        play.tab.js("document.querySelector('#more').click()")
    play.send(message(501))
    play.tab.heard(*(f"t{seq}" for seq in range(301, 502)))
    assert len(routes) == len(play.sockets) == 1


# -- logic shared with the Python client --------------------------------------


def test_colours_of_names_match_the_terminal(browser: Any) -> None:
    """A name has the same place in the palette on the page as in the terminal."""
    names = ["bob", "Bob", "Straße", "ΟΔΟΣ", "ﬁne", "İx", "李", "محمد", "👩\u200d🚀", "Zoë-2", "ǅ"]
    code = f"(names) => {{ {part('text', 'the session')}; return names.map(colour); }}"
    context = browser.new_context()
    found = context.new_page().evaluate(code, names)
    context.close()
    hues = re.findall(r"\d+", part("text", "the session").split("HUES = [")[1].split("]")[0])
    assert len(hues) == len(COLOURS)
    wanted = [hues[COLOURS.index(colour(name))] for name in names]
    assert len({*wanted}) > 3
    assert [each.split()[-1].rstrip(")") for each in found] == wanted


PLAYS = 400


def test_the_session_is_the_same_in_both_languages(browser: Any) -> None:
    """For random frames and losses, the page's session behaves exactly as `ClientSession`."""
    monkey = random.Random(20261125)
    plays = [[step(monkey) for _ in range(monkey.randrange(1, 40))] for _ in range(PLAYS)]
    code = f"""(plays) => {{ {part("text", "the session")}; {part("the session", "the page")};
        return JSON.stringify(JSON.parse(plays).map((play) => {{
            const session = new Session("alice", "ops");
            return play.map(([what, value]) => {{
                let found = [];
                if (what === "lost") session.reset();
                else if (what === "say") session.send(value);
                else try {{
                    const ids = [...session.outbox.keys()];
                    const frame = value.map((event) => ({{ ...event,
                        ...event.id === "ping" && {{ id: session.ping ?? "" }},
                        ...event.id >= 0 && {{ id: ids[event.id] }} }}));
                    if (session.welcome || frame[0].type === "welcome")
                        found = session
                            .receive(frame.map((each) => JSON.stringify(each)).join("\\n"))
                            .filter((each) => each.type !== "live")
                            .map((each) => each.seq ?? each.type);
                }} catch ({{ message }}) {{
                    session.reset();
                    found = [message === GAP ? "gap" : "invalid"];
                }}
                const sent = session.outgoing().split("\\n").filter(Boolean)
                    .map((line) => JSON.parse(line)).map((each) => each.text ?? each.type);
                const {{ since = "", name }} = Object.fromEntries(session.query());
                return [found, sent, since, name, session.live, session.outbox.size];
            }});
        }}));
    }}"""
    context = browser.new_context()
    found = json.loads(context.new_page().evaluate(code, json.dumps(plays)))
    context.close()
    for steps, traces in zip(plays, found, strict=True):
        expected = python_traces(steps)
        assert traces == expected, steps


def step(monkey: random.Random) -> list[Any]:
    """Return a random step: a message to send, a lost connection, or a frame."""
    what = monkey.choice(["say", "lost", "frame", "frame", "frame", "frame", "frame"])
    if what == "say":
        return ["say", f"said {monkey.random()}"]
    if what == "lost":
        return ["lost", None]
    return ["frame", [event(monkey) for _ in range(monkey.randrange(1, 5))]]


def event(monkey: random.Random) -> dict[str, Any]:
    """Return a random event, which need not make sense."""
    seq = monkey.randrange(8)
    match monkey.randrange(11):
        case 0 | 1 | 2:
            missed = monkey.choice([0, 0, 0, min(2, seq), None])
            name = monkey.choice(["alice", "alice-2"])
            fields = {"room": "ops", "name": name, "epoch": monkey.choice("eeeef"), "seq": seq}
            more: dict[str, Any] = {
                "recovered": missed == 0,
                "missed": missed,
                "count": 1,
                "members": [],
            }
            return {"type": "welcome", **fields, **more}
        case 3 | 4:
            return {"type": "pong", "id": "ping"}
        case 5:
            return {"type": "head", "seq": seq}
        case 6:
            code = monkey.choice(["duplicate", "too_long"])
            return {"type": "error", "code": code, "text": "no", "id": monkey.randrange(3)}
        case 7:
            return message(seq, id=monkey.randrange(3))
        case 8:
            names = "alice", "bob", "alicia"
            return {"type": "renamed", "name": monkey.choice(names), "to": monkey.choice(names)}
        case _:
            return message(seq)


def python_traces(play: list[list[Any]]) -> list[list[Any]]:
    """Play the same steps to `ClientSession`, and return its traces."""
    session = ClientSession("alice", "ops", history=200)
    traces: list[list[Any]] = []
    for what, value in play:
        found: list[Any] = []
        if what == "lost":
            session.connection_lost()
        elif what == "say":
            session.send(value)
        elif session._welcome or value[0]["type"] == "welcome":
            ids = [say.id for say in session.outbox if say.id is not None]
            frame = [filled(each, session._ping, ids) for each in value]
            try:
                events = session.receive("\n".join(map(json.dumps, frame)))
                found = [getattr(each, "seq", type(each).__name__.lower()) for each in events]
            except GapError:
                session.connection_lost()
                found = ["gap"]
            except ValueError:
                session.connection_lost()
                found = ["invalid"]
        sent = [getattr(each, "text", "ping") for each in session._unsent]
        session._unsent.clear()
        join = parse_join(session.query(), Format.JSON, SessionKey())
        assert isinstance(join, JoinRequest)
        since = "" if session._cursor is None else str(session._cursor)
        traces.append([found, sent, since, join.name, session.live, len(session)])
    return traces


def filled(event: dict[str, Any], ping: str, ids: list[str]) -> dict[str, Any]:
    """Replace the placeholder ids of an event by the session's own."""
    match event.get("id"):
        case "ping":
            return {**event, "id": ping}
        case int() as place:
            rest = {key: each for key, each in event.items() if key != "id"}
            return {**rest, "id": ids[place]} if place < len(ids) else rest
    return event
