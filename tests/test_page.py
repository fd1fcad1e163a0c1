"""The page, in a real Chromium: what a person sees of a room, and what a stranger cannot do."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import socket
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, parse_qsl, quote, urlsplit

import pytest
from conftest import DAPHNE, Processes
from houses import INSTALLED
from programs import Running, listening, running, until
from websockets.sync.client import connect

from broadcast_server.conversation import Conversation, Gap
from broadcast_server.names import name_key
from broadcast_server.screen import COLOURS, colour
from broadcast_server.web import page as chat_page

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here")

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
)
PHONE = {"viewport": {"width": 360, "height": 640}, "has_touch": True, "is_mobile": True}
AWAY = "WebSocket connection to"
"""What Chromium complains of while a server is away; a page cannot keep it from that."""


class Tab:
    """One page of the browser, and what a person does in it."""

    def __init__(self, context: Any) -> None:
        self.page = context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda said: self.complaints.append(said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))

    def js(self, code: str, argument: object = None) -> Any:
        """Evaluate an expression there."""
        return self.page.evaluate(code, argument)

    def until(self, code: str) -> None:
        """Wait until an expression is true. Playwright's own wait would need unsafe-eval."""
        until(lambda: self.js(code), code)

    def type(self, *texts: str) -> None:
        """Say each of these, by the keyboard, wherever the focus is."""
        for text in texts:
            self.page.keyboard.insert_text(text)
            self.page.keyboard.press("Enter")

    def live(self, count: int) -> None:
        """Wait until so many are here."""
        self.until(f"document.querySelector('#here').textContent === '{count} here'")

    def texts(self, where: str = "#log .row p") -> list[str]:
        """Return the text of all that match."""
        found = self.js(
            f"[...document.querySelectorAll('{where}')].map((each) => each.textContent)"
        )
        return cast(list[str], found)

    def heard(self, *texts: str) -> None:
        """Wait until exactly these messages are there, in this order, and none waits."""
        wanted = list(texts)
        until(lambda: self.texts() == wanted and not self.texts("#waiting p"), f"{wanted}")

    def notes(self) -> list[str]:
        """Return what is set apart from talk."""
        return self.texts("#log .note")


Open = Callable[..., Tab]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for all tests."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture
def tab(browser: Any) -> Iterator[Open]:
    """Open a tab at an address, as a person of its own; none may have complained at the end."""
    tabs: list[tuple[Tab, str]] = []

    def open(url: str, forgive: str = "", **options: Any) -> Tab:
        tab = Tab(browser.new_context(**options))
        tabs.append((tab, forgive))
        tab.page.goto(url)
        return tab

    yield open
    for tab, _ in tabs:
        tab.page.context.close()
    for tab, forgive in tabs:
        assert [each for each in tab.complaints if not forgive or forgive not in each] == []


def room(request: pytest.FixtureRequest) -> str:
    """Return a room for a test alone."""
    return re.sub("[^a-z0-9]+", "-", request.node.name)[:60]


@pytest.fixture(params=["installed", "daphne"])
def url(request: pytest.FixtureRequest, processes: Processes) -> str:
    """The page's address in either house, in a room for this test."""
    if request.param == "installed":
        found = processes.url(INSTALLED, ())
    else:
        found = processes.hosted_url(DAPHNE, ())
    return f"{found.replace('ws', 'http', 1)}?room={room(request)}"


@pytest.fixture
def here(request: pytest.FixtureRequest, processes: Processes) -> str:
    """The page's address in the single file's house."""
    found = processes.url(INSTALLED, ())
    return f"{found.replace('ws', 'http', 1)}?room={room(request)}"


def say(url: str, name: str, *texts: str) -> None:
    """Say these things, one frame for all of them, and be gone."""
    address = f"{url.replace('http', 'ws', 1)}&name={quote(name)}"
    with connect(address, compression=None, proxy=None, max_queue=None) as client:
        client.send("\n".join(texts))
        while texts[-1] not in str(client.recv()):
            pass


def terminal(url: str, name: str) -> Any:
    """Run a client in a pipe."""
    return running(*INSTALLED, "connect", url, "--name", name)


# -- people in a room ---------------------------------------------------------


def test_two_pages_and_a_pipe_talk(url: str, tab: Open) -> None:
    """Whoever says something at whichever door, all see it, in one order, with who it was."""
    alice = tab(url)
    asked = "fetch(location.href, { headers: { Accept: 'text/html' } })"
    headers = dict(alice.js(f"{asked}.then((found) => [...found.headers])"))
    assert headers["content-security-policy"] == chat_page().policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    alice.type("alice")
    alice.live(1)
    bob = tab(f"{url}&name=bob")
    with terminal(url, "carol") as carol:
        for each in (alice, bob):
            each.live(3)
        alice.type("is the deploy through?")
        bob.heard("is the deploy through?")
        bob.page.keyboard.type("two")
        bob.page.keyboard.press("Shift+Enter")
        bob.type("minutes")
        until(lambda: "bob: minutes\n" in carol.output, "bob at the pipe")
        carol.say("good\n")
        wanted = ["is the deploy through?", "two\nminutes", "good"]
        for each in (alice, bob):
            each.heard(*wanted)
            assert each.texts("#log .head b") == ["alice", "bob", "carol"]
        assert alice.texts("#members bdi") == ["alice", "bob", "carol"]
        assert carol.lines[-4:] == [
            "alice: is the deploy through?", "bob: two", "bob: minutes", "carol: good",
        ]  # fmt: skip
        assert carol.end() == 0
    alice.live(2)
    until(lambda: "carol left" in alice.notes()[-1], "carol's leaving")
    assert alice.notes()[0].startswith("bob joined")


class Restarted:
    """A house that can be started again at the same place, with the same data."""

    def __init__(self, kind: str, stack: ExitStack) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        self.kind = kind
        self.url = f"http://127.0.0.1:{port}/?room=ops"
        self._stack = stack
        self._data = stack.enter_context(tempfile.TemporaryDirectory())
        site = (sys.executable, "-m", "daphne", "-p", port, "django_site.asgi:application")
        start = (*INSTALLED, "start", "--port", port)
        self._command = start if kind == "installed" else site
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        site = running(*self._command, BROADCAST_DATA=self._data)
        self._running: Running = self._stack.enter_context(site)
        assert self._running.url if self.kind == "installed" else listening(self._running)

    def stop(self) -> None:
        """Stop it."""
        assert self._running.signal(signal.SIGTERM) == 0


@pytest.mark.parametrize("kind", ["installed", "daphne"])
def test_a_restart_loses_and_doubles_nothing(kind: str, tab: Open) -> None:
    """What is said while the server is away arrives once, and the page says what it knows."""
    with ExitStack() as stack:
        house = Restarted(kind, stack)
        alice = tab(f"{house.url}&name=alice", AWAY)
        bob = tab(f"{house.url}&name=bob", AWAY)
        alice.live(2)
        alice.type("before")
        bob.heard("before")
        house.stop()
        for each in (alice, bob):
            each.until("!document.querySelector('#banner').hidden")
            each.until("/^Trying again/.test(document.querySelector('#count').textContent)")
        alice.type("while", "away")
        assert alice.texts() == ["before"]
        assert alice.texts("#waiting p") == ["while", "away"]
        assert alice.texts("#waiting .you") == ["sending …"] * 2
        if kind == "installed":
            audit(alice)
        house.start()
        for each in (alice, bob):
            each.js("document.querySelector('#again').click()")
            each.until("document.querySelector('#banner').hidden")
            each.live(2)
            each.heard("before", "while", "away")
            missing = [note for note in each.notes() if note.startswith("--")]
            # A log in memory is another one now, and whether it lacks anything is not known.
            expected = ["-- messages may be missing --"] if kind == "installed" else []
            assert missing == expected
        house.stop()


def test_a_reload_is_the_same_person(here: str, tab: Open) -> None:
    """A page that is loaded again keeps its name and draft, and sees the room's history."""
    alice = tab(f"{here}&name=alice")
    alice.live(1)
    alice.type("hello")
    alice.heard("hello")
    alice.page.keyboard.insert_text("half ty")
    alice.page.reload()
    alice.heard("hello")
    alice.live(1)
    assert alice.texts("#members bdi") == ["alice"]
    assert alice.js("document.querySelector('#text').value") == "half ty"


def test_a_duplicated_tab_is_someone_else(here: str, tab: Open) -> None:
    """Two tabs of which one was made from the other do not push each other out."""
    alice = tab(f"{here}&name=alice")
    alice.live(1)
    alice.page.reload()
    alice.live(1)
    with alice.page.expect_popup() as popup:
        alice.js("void open(location.href)")  # it gets a copy of the session's storage
    alice.live(2)
    assert alice.texts("#members bdi") == ["alice", "alice-2"]
    popup.value.close()
    alice.live(1)
    assert alice.js("document.querySelector('#banner').hidden")


def test_a_name_that_is_refused_is_asked_for_again(here: str, tab: Open) -> None:
    """Why a name or room cannot be is said above the form, and the next try is let in."""
    alice = tab(f"{here}&name=a:b")
    alice.until("document.querySelector('#why').textContent === 'name contains a colon'")
    assert alice.js("document.activeElement.id") == "name"
    alice.js("document.querySelector('#name').value = ''")
    alice.type("ab")
    alice.live(1)
    assert "name" not in parse_qs(urlsplit(alice.page.url).query)


def test_an_invitation_names_the_room_only(here: str, tab: Open) -> None:
    """The link that is copied holds the room, and not who copied it."""
    alice = tab(f"{here}&name=alice", permissions=["clipboard-read", "clipboard-write"])
    alice.live(1)
    alice.page.click("#invite")
    assert alice.js("navigator.clipboard.readText()") == here
    assert alice.texts("#hint") == [here]


def test_unread_messages_are_counted_in_the_title(here: str, tab: Open) -> None:
    """While one looks elsewhere, the title counts what others say; a look sets it back."""
    alice, bob = tab(f"{here}&name=alice"), tab(f"{here}&name=bob")
    alice.live(2)
    alice.js("document.hasFocus = () => false")
    bob.type("one", "two")
    alice.until("document.title.startsWith('(2) #')")
    alice.js("dispatchEvent(new Event('focus'))")
    alice.until("document.title.startsWith('#')")


# -- strangers ----------------------------------------------------------------


def test_nothing_that_is_said_becomes_html(here: str, tab: Open) -> None:
    """A name and a text of HTML, addresses of scripts and invisible characters do no harm."""
    evil = "<img src=x onerror=alert(1)>"
    said = [
        "<script>alert(2)</script><img src=x onerror=alert(3)><svg onload=alert(4)>",
        'javascript:alert(5) data:text/html,x see http://a.example/(b)?c="><i>d</i>, or HTTPS://e.example.',
        "left \u202eright\u2066 \x1b[31mred\x1b[0m \x07bell",
    ]
    alice, bob = tab(f"{here}&name=alice"), tab(f"{here}&name={quote(evil)}")
    alice.live(2)
    bob.type(*said)
    alice.heard(*said[:2], "left right red bell")
    assert alice.texts("#log .head b")[-1] == evil
    assert alice.texts("#members bdi")[0] == evil
    count = "document.querySelectorAll('#chat img, #chat script, #chat svg, #log i').length"
    assert alice.js(count) == 0
    links = alice.js(
        "[...document.querySelectorAll('#log a')].map((a) => [a.href, a.rel, a.target])"
    )
    safe = ["noopener noreferrer", "_blank"]
    assert links == [["http://a.example/(b)?c=", *safe], ["https://e.example/", *safe]]


def test_the_policy_stops_what_gets_in(here: str, tab: Open) -> None:
    """Even an element that someone got into the page could not run, style or fetch."""
    alice = tab(f"{here}&name=alice", forgive="blocked")
    alice.live(1)
    alice.js(
        """() => {
            for (const [tag, key, value] of [
                ["script", "text", "window.harm = 1"],
                ["style", "textContent", "body { display: none }"],
                ["img", "src", "/broadcast-server.pyz"],
                ["p", "innerHTML", "<b>bold</b>"],
            ]) try {
                document.body.append(Object.assign(document.createElement(tag), { [key]: value }));
            } catch { }
        }"""
    )
    until(lambda: alice.js("1") and len(alice.complaints) == 4, "four violations")
    assert alice.js("window.harm === undefined")
    assert alice.js("getComputedStyle(document.body).display") == "block"


# -- size and shape -----------------------------------------------------------


def test_five_thousand_messages(here: str, tab: Open) -> None:
    """As many as come, few are drawn; who scrolls up sees each of them once, in order."""
    wanted = [f"message {number}" for number in range(1, 5001)]
    alice = tab(f"{here}&name=alice")
    alice.live(1)
    say(here, "app", *wanted)
    until(lambda: alice.texts()[-1:] == wanted[-1:], "the last message")
    assert len(alice.texts()) < 1000
    bob = tab(f"{here}&name=bob")
    bob.live(2)
    until(lambda: bob.texts()[-1:] == wanted[-1:], "the last message")
    assert len(bob.texts()) == 200
    up = """() => {
        const scroll = document.querySelector('#scroll');
        scroll.scrollTop = scroll.scrollTop > 9 ? 0 : 10;
        return document.querySelectorAll('#log .row').length;
    }"""
    until(lambda: bob.js(up) == 5000, "all messages")
    assert bob.texts() == wanted
    assert alice.texts("#members bdi") == ["alice", "bob"]
    assert not [note for note in alice.notes() if "bob left" in note]  # he came back unseen
    bob.page.click("#down")
    until(lambda: len(bob.texts()) < 1000, "few rows again")
    assert bob.texts() == wanted[-len(bob.texts()) :]


def test_who_reads_above_is_not_moved(here: str, tab: Open) -> None:
    """New messages do not move what one looks at above; they are counted on a button."""
    alice = tab(f"{here}&name=alice")
    alice.live(1)
    say(here, "app", *(f"line {number}" for number in range(100)))
    until(lambda: len(alice.texts()) == 100, "a hundred")
    place = "document.querySelector('#scroll').scrollTop"
    alice.js(f"{place} = 900")
    alice.until("!document.querySelector('#down').hidden")
    say(here, "app", "more", "and more")
    alice.until("document.querySelector('#down').textContent === '2 new ↓'")
    assert alice.js(place) == 900
    alice.page.click("#down")
    alice.until("document.querySelector('#down').hidden")
    say(here, "app", "the last")
    until(lambda: alice.texts()[-1:] == ["the last"], "the last")
    scroll = "document.querySelector('#scroll')"
    alice.until(f"{scroll}.scrollHeight - {scroll}.scrollTop - {scroll}.clientHeight < 1")


def test_a_phone_scrolls_down_only(here: str, tab: Open) -> None:
    """On 360 pixels nothing reaches beyond the side, and the roster takes the talk's place."""
    tab(f"{here}&name={'W' * 32}")
    phone = tab(f"{here}&name={'م' * 32}", **PHONE)
    phone.live(2)
    phone.type("x" * 500, "https://example.com/" + "y" * 300)
    until(lambda: len(phone.texts()) == 2, "two messages")
    wide = "document.documentElement.scrollWidth"
    inner = (
        "Math.max(...['scroll', 'members'].map((id) => document.getElementById(id).scrollWidth))"
    )
    assert (phone.js(wide), phone.js(inner) <= 360) == (360, True)
    phone.page.tap("#open")
    assert phone.page.is_visible("#members li") and not phone.page.is_visible("#log")
    assert (phone.js(wide), phone.js(inner) <= 360) == (360, True)
    phone.page.tap("#open")
    assert phone.page.is_visible("#log") and not phone.page.is_visible("#members li")


def test_the_page_is_as_dark_as_the_system(here: str, tab: Open) -> None:
    """Light and dark follow the system's setting, also while the page is open."""
    ground = "getComputedStyle(document.body).backgroundColor"
    alice = tab(f"{here}&name=alice", color_scheme="dark")
    assert max(map(int, re.findall(r"\d+", alice.js(ground)))) < 60
    alice.page.emulate_media(color_scheme="light")
    assert min(map(int, re.findall(r"\d+", alice.js(ground)))) > 240


def test_the_keyboard_is_enough(here: str, tab: Open) -> None:
    """One can come in, talk, look who is here, read back and leave without a mouse."""
    alice = tab(here)
    keyboard = alice.page.keyboard
    keyboard.type("alice")
    keyboard.press("Enter")
    alice.live(1)
    alice.type("one")
    alice.heard("one")
    seen = []
    for _ in range(9):
        keyboard.press("Tab")
        seen.append(alice.js("document.activeElement.id || document.activeElement.textContent"))
        assert alice.js("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        if seen[-1] == "leave":
            break
    assert seen == ["Send", "members", "invite", "sound", "notify", "leave"]
    keyboard.press("Enter")
    alice.until("document.activeElement.id === 'name'")
    keyboard.press("Enter")
    alice.live(1)
    keyboard.press("Shift+Tab")
    assert alice.js("document.activeElement.id") == "scroll"


def test_an_audit_finds_nothing(here: str, tab: Open) -> None:
    """axe-core finds no fault in the form, in talk of all colours, in the dark, on a phone."""
    audit(tab(here))
    fellows = {colour(f"n{number}"): f"n{number}" for number in range(200)}
    assert set(fellows) == set(COLOURS)
    bob = tab(f"{here}&name=bob", **PHONE)
    bob.live(1)
    for name in fellows.values():
        say(here, name, f"I am {name}, see https://example.com/")
    until(lambda: len(bob.texts()) == len(COLOURS), "one of each colour")
    bob.type("so am I")
    audit(bob)
    bob.page.tap("#open")
    audit(bob)
    bob.page.set_viewport_size({"width": 1280, "height": 720})
    bob.page.emulate_media(color_scheme="dark")
    audit(bob)


def audit(tab: Tab) -> None:
    """Have axe-core look at a tab as it is."""
    found = axe.Axe().run(tab.page).response["violations"]
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found] == []


# -- the wire, played by the test ---------------------------------------------


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
    play.tab.heard("one")
    assert play.tab.notes() == ["* message is too long"]
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
    assert play.tab.texts("#members li:has([role=img][aria-label^=signed]) bdi") == ["bob", "dora"]


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


def test_the_picture_in_the_readme(processes: Processes, tab: Open, tmp_path: Path) -> None:
    """The picture is a real one: with SCREENSHOTS=docs in the environment it is made anew."""
    url = f"{processes.url(INSTALLED, ()).replace('ws', 'http', 1)}?room=ops"
    alice = tab(f"{url}&name=alice", viewport={"width": 860, "height": 496})
    alice.live(1)
    bob = tab(f"{url}&name=bob")
    alice.live(2)
    say(url, "ci", "build 4711 passed in 3 min 12 s: https://ci.example/4711")
    alice.type("is the deploy through?")
    bob.type("two minutes")
    alice.page.keyboard.insert_text("thanks! then\n1. the smoke test\n2. the announcement")
    alice.page.keyboard.press("Enter")
    alice.until("document.querySelectorAll('#log .row').length === 4")
    picture = Path(os.environ.get("SCREENSHOTS", tmp_path), "page.png")
    alice.page.screenshot(path=picture)
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size < 60 * 2**10


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
                const {{ since = "" }} = Object.fromEntries(talk.query());
                return [found, sent, since, talk.live, talk.outbox.size];
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
    match monkey.randrange(10):
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
        traces.append([found, sent, since, talk.live, len(talk)])
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
