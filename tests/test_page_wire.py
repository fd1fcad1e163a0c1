"""The page against a wire that the test plays, and what it has in common with Python."""

from __future__ import annotations

import json
import random
import re
import zlib
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from browsing import Open, Tab, audit, browser, here, needed, tab
from programs import until

from broadcast_server.conversation import Conversation, Gap
from broadcast_server.names import name_key
from broadcast_server.screen import COLOURS, colour
from broadcast_server.web import page as chat_page

__all__ = ["browser", "here", "tab"]  # fixtures

pytestmark = needed


class Player:
    """What answers the page's sockets instead of a server: each one in turn."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        self.sockets: list[Any] = []
        self.frames: list[list[dict[str, Any]]] = []
        tab.page.route_web_socket(re.compile("^ws:"), self._dialled)

    def _dialled(self, socket: Any) -> None:
        heard: list[dict[str, Any]] = []
        self.sockets.append(socket)
        self.frames.append(heard)
        socket.on_message(lambda frame: heard.extend(map(json.loads, frame.split("\n"))))

    def query(self) -> dict[str, str]:
        """Return the query of the last socket."""
        return dict(parse_qsl(urlsplit(self.sockets[-1].url).query))

    def send(self, *events: dict[str, Any]) -> None:
        """Send a frame on the last socket."""
        self.sockets[-1].send("\n".join(map(json.dumps, events)))

    def welcome(self, seq: int, *replay: dict[str, Any], sockets: int = 1, **more: Any) -> None:
        """Let the page in on its so many-th socket, and answer its ping."""
        until(lambda: self.tab.js("1") and len(self.sockets) == sockets, "a socket")
        fields = {"room": "ops", "name": "alice", "epoch": "e", "recovered": True, "missed": 0}
        here = {"count": 1, "members": ["alice"]}
        self.send({"type": "welcome", "seq": seq, **fields, **here, **more}, *replay)
        until(lambda: self.tab.js("1") and self.frames[-1], "a ping")
        self.send({"type": "pong", "id": self.frames[-1].pop(0)["id"]})

    def says(self) -> list[tuple[str, str]]:
        """Return what the page said on the last socket, and under which ids."""
        return [(each["text"], each["id"]) for each in self.frames[-1] if each["type"] == "say"]


def message(seq: int, name: str = "bob", **more: Any) -> dict[str, Any]:
    """Make a message event."""
    at = "2026-11-24T13:00:00.123Z"
    return {"type": "message", "seq": seq, "name": name, "text": f"t{seq}", "at": at, **more}


@pytest.fixture
def play(here: str, tab: Open) -> Player:
    """A page that is about to dial us."""
    alice = tab(here)
    player = Player(alice)
    alice.page.reload()
    alice.type("alice")
    return player


def test_a_gap_makes_it_come_back(play: Player) -> None:
    """A number that is missing makes the page come back from the last one that it saw."""
    play.welcome(1, message(1))
    play.send(message(2))
    play.send(message(4))
    play.welcome(4, message(3), message(4), sockets=2)
    assert play.query()["since"] == "e.2"
    play.tab.heard("t1", "t2", "t3", "t4")


def test_a_head_tells_of_a_loss(play: Player) -> None:
    """A head beyond what was seen does the same, though no message follows."""
    play.welcome(0)
    play.send({"type": "head", "seq": 1})
    play.welcome(1, message(1), sockets=2)
    play.tab.heard("t1")


def test_what_had_no_echo_is_said_again(play: Player) -> None:
    """After the replay, and not before, it is said again, with the same ids and session."""
    play.welcome(0)
    play.tab.type("one", "two", "three")
    until(lambda: play.tab.js("1") and len(play.says()) == 3, "three")
    session, said = play.query()["session"], play.says()
    echo = message(1, "alice", text="one", id=said[0][1])
    play.sockets[-1].close(code=4001)
    until(lambda: play.tab.js("1") and len(play.sockets) == 2, "a socket")
    assert play.says() == []
    play.welcome(1, echo, sockets=2)
    until(lambda: play.tab.js("1") and len(play.says()) == 2, "two again")
    assert (play.says(), play.query()["session"]) == (said[1:], session)
    play.send(
        {"type": "error", "code": "duplicate", "text": "said before", "id": said[1][1]},
        {"type": "error", "code": "too_long", "text": "message is too long", "id": said[2][1]},
    )
    until(lambda: play.tab.notes() == ["* message is too long"], "the error")
    play.tab.heard("one")
    assert play.tab.js("document.querySelector('#text').value") == "three"


def test_what_is_missing_is_said_in_its_place(play: Player) -> None:
    """How many messages are gone stands between what was seen and what follows."""
    play.welcome(1, message(1))
    play.sockets[-1].close(code=4008)
    play.welcome(9, message(9), sockets=2, recovered=False, missed=7)
    play.tab.heard("t1", "t9")
    rows = play.tab.texts("#log > *")
    assert "-- 7 messages missed --" in rows[1] and rows[2].endswith("t9")


def test_a_hidden_message_goes(play: Player) -> None:
    """A message that was taken away is shown no more, and in a replay it keeps its number."""
    play.welcome(3, message(1), {"type": "hidden", "seq": 2}, message(3))
    play.tab.heard("t1", "t3")
    play.send({"type": "hidden", "seq": 1}, {"type": "hidden", "seq": 4}, message(5))
    play.tab.heard("t3", "t5")
    assert play.tab.texts("#log .head b") == ["bob"]
    assert len(play.sockets) == 1


def test_accounts_are_marked(play: Player) -> None:
    """Names of signed-in accounts have a mark in the roster that no name can imitate."""
    names: dict[str, Any] = {"count": 3, "members": ["alice", "bob", "✓ carl"], "verified": ["bob"]}
    play.welcome(0, **names)
    play.send({"type": "joined", "name": "dora", "count": 4, "verified": True})
    play.tab.live(4)
    assert play.tab.texts("#members li:has([role=img][title^=signed]) bdi") == ["bob", "dora"]


def test_a_room_for_accounts_shows_the_way(play: Player) -> None:
    """Who has to sign in is told so, with a link that leads back to this room."""
    until(lambda: play.tab.js("1") and play.sockets, "a socket")
    play.send({"type": "error", "code": "login", "text": "this room is for accounts"})
    play.sockets[-1].close(code=4501)
    play.tab.until("!document.querySelector('#login').hidden")
    assert play.tab.texts("#state") == ["Not connected: this room is for accounts."]
    audit(play.tab)
    back = urlsplit(play.tab.page.url)
    link = play.tab.js("document.querySelector('#login').getAttribute('href')")
    assert link == "accounts/login/?next=" + quote(f"{back.path}?{back.query}", safe="")


def test_a_name_is_asked_for_while_connected(play: Player) -> None:
    """Another name is asked for once, and who is not connected is told so and keeps the text."""
    play.welcome(0)
    play.tab.type("/name alicia")
    until(lambda: play.tab.js("1") and play.frames[-1], "a request")
    assert [each["type"] for each in play.frames[-1]] == ["name"]
    play.sockets[-1].close(code=4503)
    play.tab.until("document.querySelector('#again').textContent === 'Join again'")
    play.tab.type("/name alison")
    until(lambda: play.tab.notes() == ["* not renamed: there is no connection"], "a note")
    assert play.tab.js("document.querySelector('#text').value") == "/name alison"
    play.tab.page.click("#again")
    play.welcome(0, sockets=2)
    assert (play.query()["name"], play.frames[-1]) == ("alice", [])


def test_an_attempt_of_its_own_may_have_replaced_it(play: Player) -> None:
    """Who is replaced comes back once for each attempt whose welcome it did not see."""
    until(lambda: play.tab.js("1") and play.sockets, "a socket")
    play.sockets[-1].close(code=4013)
    play.welcome(1, message(1), sockets=2)
    session = play.query()["session"]
    play.sockets[-1].close(code=4504)
    play.welcome(1, sockets=3)
    assert (play.query()["session"], play.query()["since"]) == (session, "e.1")
    play.sockets[-1].close(code=4504)
    play.tab.until("document.querySelector('#again').textContent === 'Join again'")
    assert play.tab.texts("#state") == ["You are here in another tab."]
    assert len(play.sockets) == 3


@pytest.mark.parametrize("code", [4503, 4504, 1009, 4999])
def test_some_ends_are_final(play: Player, code: int) -> None:
    """After a code that means it the page does not come back, unless one wants it to."""
    play.welcome(0)
    play.sockets[-1].close(code=code)
    play.tab.until("document.querySelector('#again').textContent === 'Join again'")
    assert play.tab.texts("#count") == [""]
    session = play.query()["session"]
    play.tab.page.click("#again")
    play.welcome(0, sockets=2)
    assert (play.query()["session"] != session) is (code == 4504)


def test_what_is_older_comes_without_being_asked_for(play: Player) -> None:
    """What is older is had by coming back from further back; what is held is not shown twice."""
    play.welcome(500, *map(message, range(301, 501)))
    play.tab.heard(*(f"t{seq}" for seq in range(301, 501)))
    play.tab.js("document.querySelector('#more').click()")
    until(lambda: play.tab.js("1") and len(play.sockets) == 2, "a socket")
    assert play.query()["since"] == "e.0"
    play.welcome(501, *map(message, range(1, 502)), sockets=2)
    until(lambda: len(play.tab.texts()) == 401, "some of them drawn")
    for _ in range(2):
        play.tab.js("document.querySelector('#more').click()")
    play.tab.heard(*(f"t{seq}" for seq in range(1, 502)))


# -- what the page has in common with Python ----------------------------------


def part(begin: str, end: str) -> str:
    """Return the script's text from one heading to another."""
    text = chat_page().html.decode()
    return text[text.index(f"// -- {begin}") : text.index(f"// -- {end}")]


def test_a_name_has_the_colour_that_a_terminal_gives_it(browser: Any) -> None:
    """A name's place in the palette is the same on the page as at a terminal."""
    names = ["bob", "Bob", "Straße", "ΟΔΟΣ", "ﬁne", "İx", "李", "محمد", "👩\u200d🚀", "Zoë-2", "ǅ"]
    code = f"(names) => {{ {part('text', 'the conv')}; return names.map(colour); }}"
    context = browser.new_context()
    found = context.new_page().evaluate(code, names)
    context.close()
    hues = re.findall(r"\d+", part("text", "the conv").split("HUES = [")[1].split("]")[0])
    assert len(hues) == len(COLOURS)
    wanted = [hues[zlib.crc32(name_key(name).encode()) % len(hues)] for name in names]
    assert [colour(name) for name in names] == [COLOURS[hues.index(hue)] for hue in wanted]
    assert [each.split()[-1].rstrip(")") for each in found] == wanted


PLAYS = 400


def test_the_conversation_is_the_same_in_both_languages(browser: Any) -> None:
    """Whatever comes in whatever order, page and terminal decide alike."""
    monkey = random.Random(20261125)
    plays = [[step(monkey) for _ in range(monkey.randrange(1, 40))] for _ in range(PLAYS)]
    code = f"""(plays) => {{ {part("text", "the conv")}; {part("the conv", "the page")};
        return JSON.stringify(JSON.parse(plays).map((play) => {{
            const talk = new Conversation("alice", "ops");
            return play.map(([what, value]) => {{
                let found = [];
                if (what === "lost") talk.lost();
                else if (what === "say") talk.say(value);
                else try {{
                    const ids = [...talk.outbox.keys()];
                    const frame = value.map((event) => ({{ ...event,
                        ...event.id === "ping" && {{ id: talk.ping ?? "" }},
                        ...event.id >= 0 && {{ id: ids[event.id] }} }}));
                    if (talk.welcome || frame[0].type === "welcome")
                        found = talk.received(frame.map((each) => JSON.stringify(each)).join("\\n"))
                            .filter((each) => each.type !== "live")
                            .map((each) => each.seq ?? each.type);
                }} catch {{ talk.lost(); found = ["gap"]; }}
                const sent = talk.outgoing().split("\\n").filter(Boolean)
                    .map((line) => JSON.parse(line)).map((each) => each.text ?? each.type);
                const {{ since = "", name }} = Object.fromEntries(talk.query());
                return [found, sent, since, name, talk.live, talk.outbox.size];
            }});
        }}));
    }}"""
    context = browser.new_context()
    found = json.loads(context.new_page().evaluate(code, json.dumps(plays)))
    context.close()
    for play, traces in zip(plays, found, strict=True):
        assert traces == retold(play), play


def step(monkey: random.Random) -> list[Any]:
    """Make up what may happen next to a client."""
    what = monkey.choice(["say", "lost", "frame", "frame", "frame", "frame", "frame"])
    if what == "say":
        return ["say", f"said {monkey.random()}"]
    if what == "lost":
        return ["lost", None]
    return ["frame", [event(monkey) for _ in range(monkey.randrange(1, 5))]]


def event(monkey: random.Random) -> dict[str, Any]:
    """Make up an event, which need not make sense."""
    seq = monkey.randrange(8)
    match monkey.randrange(11):
        case 0 | 1 | 2:
            missed = monkey.choice([0, 0, 0, 2, None])
            fields = {"room": "ops", "name": "alice", "epoch": monkey.choice("eeeef"), "seq": seq}
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


def retold(play: list[list[Any]]) -> list[list[Any]]:
    """Play the same to the terminal's conversation."""
    talk = Conversation("alice", "ops", history=200)
    traces = []
    for what, value in play:
        found: list[Any] = []
        if what == "lost":
            talk.lost()
        elif what == "say":
            talk.say(value)
        elif talk._welcome or value[0]["type"] == "welcome":
            ids = list(talk._outbox)
            frame = [filled(each, talk._ping, ids) for each in value]
            try:
                events = talk.received("\n".join(map(json.dumps, frame)))
                found = [getattr(each, "seq", type(each).__name__.lower()) for each in events]
            except Gap:
                talk.lost()
                found = ["gap"]
        sent = [getattr(each, "text", "ping") for each in talk._unsent]
        talk._unsent.clear()
        since = "" if talk._cursor is None else str(talk._cursor)
        traces.append([found, sent, since, talk._asked["name"], talk.live, len(talk)])
    return traces


def filled(event: dict[str, Any], ping: str, ids: list[str]) -> dict[str, Any]:
    """Put the conversation's own ids into an event."""
    match event.get("id"):
        case "ping":
            return {**event, "id": ping}
        case int() as place:
            rest = {key: each for key, each in event.items() if key != "id"}
            return {**rest, "id": ids[place]} if place < len(ids) else rest
    return event
