"""The page in a real Chromium: what a person sees, and what an attacker cannot do."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from browsing import AWAY, Open, Tab, audit, browser, here, needed, room, tab
from conftest import DAPHNE, Processes
from deployments import INSTALLED
from programs import Running, assert_quiet, listening, running, until
from services import free_port, site_folder
from websockets.sync.client import connect

from broadcast_server.http.chat_page import chat_page
from broadcast_server.terminal.render import COLOURS, colour

__all__ = ["browser", "here", "tab"]  # fixtures

pytestmark = needed

PHONE = {"viewport": {"width": 360, "height": 640}, "has_touch": True, "is_mobile": True}


@pytest.fixture(params=["installed", "daphne"])
def url(request: pytest.FixtureRequest, processes: Processes) -> str:
    """The page's address in each deployment, in a room for this test alone."""
    if request.param == "installed":
        found = processes.url(INSTALLED, ())
    else:
        found = processes.django_url(DAPHNE, ())
    return f"{found.replace('ws', 'http', 1)}?room={room(request)}"


def say(url: str, name: str, *texts: str) -> None:
    """Send messages in a single frame, wait until they are confirmed, and leave."""
    address = f"{url.replace('http', 'ws', 1)}&name={quote(name)}"
    with connect(address, compression=None, proxy=None, max_queue=None) as client:
        client.send("\n".join(texts))
        while texts[-1] not in str(client.recv()):
            pass


def terminal(url: str, name: str) -> Any:
    """Run a client in a pipe."""
    return running(*INSTALLED, "connect", url, "--name", name)


# -- people in a room ---------------------------------------------------------


def test_two_pages_and_a_pipe_chat(url: str, tab: Open) -> None:
    """Messages from any client appear on all others, in one order and with the sender's name."""
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
    until(lambda: "carol left" in alice.last_note(), "carol's leaving")
    assert alice.notes()[0].startswith("bob joined")


class Restarted:
    """A deployment that can be restarted on the same port, with the same data."""

    def __init__(self, kind: str, stack: ExitStack) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        self.kind = kind
        self.url = f"http://127.0.0.1:{port}/?room=ops"
        self._stack = stack
        self._data = stack.enter_context(tempfile.TemporaryDirectory())
        if kind == "daphne":
            site_folder(self._data)
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

    def leave(self) -> None:
        """Leave it to be killed at the end; its log must contain no traceback."""
        assert_quiet(self._running.errors)


def test_an_event_source_resumes_after_a_restart(tab: Open, tmp_path: Path, here: str) -> None:
    """EventSource resumes after a restart, and a page of an allowed origin can publish."""
    origin = here.partition("/?")[0]
    port = str(free_port())
    command = *INSTALLED, "start", "--port", port, "--log", str(tmp_path / "log")
    with running(*command, "--allow-origin", origin) as server:
        url = server.url.replace("ws", "http", 1)
        one = tab(f"{origin}/healthz", forgive="Failed to load resource")
        one.js(
            """(url) => {
                window.events = [];
                window.source = new EventSource(`${url}stream?history=9`);
                window.source.onmessage = ({data, lastEventId}) =>
                    window.events.push({...JSON.parse(data), lastEventId});
            }""",
            url,
        )
        one.until("events.length === 1")
        post = """([url, text]) => fetch(`${url}?name=page`, {
            method: "POST", body: text, headers: {Authorization: "Bearer x"},
        }).then((answer) => answer.json())"""
        assert one.js(post, [url, "one"]) == {"seq": 1, "name": "page", "room": "lobby", "count": 1}
        one.until("events.length === 2")
        assert server.signal(signal.SIGTERM) == 0
    one.until("events.at(-1).code === 'stopping'")
    with running(*command, "--allow-origin", origin) as server:
        assert server.url
        one.js(post, [url, "two"])
        one.until("events.at(-1).text === 'two'")
        found = one.js("events.filter(({type}) => type === 'message')")
        assert [each["text"] for each in found] == ["one", "two"]
        assert [each["lastEventId"].rpartition(".")[2] for each in found] == ["1", "2"]
        assert one.js("events.filter(({type}) => type === 'welcome').at(-1).recovered") is True
        one.js("source.close()")
        assert server.signal(signal.SIGTERM) == 0


@pytest.mark.parametrize("kind", ["installed", "daphne"])
def test_a_restart_loses_and_duplicates_nothing(kind: str, tab: Open) -> None:
    """Messages sent during an outage arrive once, and the page shows its state meanwhile."""
    with ExitStack() as stack:
        deployment = Restarted(kind, stack)
        alice = tab(f"{deployment.url}&name=alice", AWAY)
        bob = tab(f"{deployment.url}&name=bob", AWAY)
        alice.live(2)
        alice.type("before")
        bob.heard("before")
        deployment.stop()
        for each in (alice, bob):
            each.until("!document.querySelector('#banner').hidden")
            each.until("/^Trying again/.test(document.querySelector('#count').textContent)")
        alice.type("while", "away")
        assert alice.texts() == ["before"]
        assert alice.texts("#waiting p") == ["while", "away"]
        assert alice.texts("#waiting .you") == ["sending …"] * 2
        if kind == "installed":
            audit(alice)
        deployment.start()
        for each in (alice, bob):
            each.js(
                "document.querySelector('#again').click()"
            )  # they would wait for their random delays
        for each in (alice, bob):
            each.until("document.querySelector('#banner').hidden")
            each.live(2)
            each.heard("before", "while", "away")
            missing = [note for note in each.notes() if note.startswith("--")]
            # After the restart of a log in memory, it is unknown whether messages are missing.
            expected = ["-- messages may be missing --"] if kind == "installed" else []
            assert missing == expected
        deployment.leave()


@pytest.mark.parametrize("kind", ["installed", "daphne"])
def test_two_pages_of_one_name_do_not_swap(kind: str, tab: Open) -> None:
    """After each restart the second page returns first, and each has the name that it had."""
    with ExitStack() as stack:
        deployment = Restarted(kind, stack)
        one = tab(f"{deployment.url}&name=max", AWAY)
        one.live(1)
        two = tab(f"{deployment.url}&name=max", AWAY)
        two.live(2)
        for each in (one, two):
            each.js("void (window.Real = window.WebSocket)")
        mine = "document.querySelector('#members li:has(small) bdi')?.textContent"
        for _ in range(2):
            deployment.stop()
            for each in (one, two):
                each.until("!document.querySelector('#banner').hidden")
                each.js(
                    "void (window.WebSocket = class { close() {} })"
                )  # it cannot return by itself
            deployment.start()
            for count, each in enumerate((two, one), 1):
                each.js("void (window.WebSocket = window.Real)")
                each.js("document.querySelector('#again').click()")
                each.until("document.querySelector('#banner').hidden")
                each.live(count)
            assert (one.js(mine), two.js(mine)) == ("max", "max-2")
        two.page.reload()
        two.live(2)
        assert two.js(mine) == "max-2"
        deployment.leave()


def test_a_reload_is_the_same_person(here: str, tab: Open) -> None:
    """A reloaded page keeps its name and draft, and shows the room's history."""
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
    """A duplicated tab joins as another member, and does not take over the session."""
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


def test_an_invalid_name_is_asked_for_again(here: str, tab: Open) -> None:
    """The reason why a name is invalid is shown above the form, and a valid one joins."""
    alice = tab(f"{here}&name=a:b")
    alice.until("document.querySelector('#why').textContent === 'name contains a colon'")
    assert alice.js("document.activeElement.id") == "name"
    alice.js("document.querySelector('#name').value = ''")
    alice.type("ab")
    alice.live(1)
    assert "name" not in parse_qs(urlsplit(alice.page.url).query)


def test_renaming(url: str, tab: Open) -> None:
    """A new name is used in the list of members, in messages, and after a reload."""
    alice, bob = tab(f"{url}&name=alice"), tab(f"{url}&name=bob")
    alice.live(2)
    alice.type("before", "/name a:b", "/name alicia")
    bob.until("document.querySelector('#members bdi').textContent === 'alicia'")
    alice.type("after")
    for each in (alice, bob):
        each.heard("before", "after")
        assert each.texts("#log .head b") == ["alice", "alicia"]
        assert each.texts("#members bdi") == ["alicia", "bob"]
        until(lambda: each.last_note().endswith("alice is now alicia"), "a note")  # noqa: B023  # called at once
    assert "* name contains a colon" in alice.notes()
    assert alice.texts("#members li:has(small) bdi") == ["alicia"]
    assert len(alice.texts("#log .own")) == 2
    alice.page.reload()
    alice.heard("before", "after")
    assert alice.texts("#members bdi") == ["alicia", "bob"]


def test_commands(here: str, tab: Open) -> None:
    """/me sends an action, // a slash, and an unknown command is not sent."""
    alice, bob = tab(f"{here}&name=alice"), tab(f"{here}&name=bob")
    alice.live(2)
    alice.type("hi", "/me waves", "yes", "//etc")
    alice.page.keyboard.insert_text("/etc/hosts\n/etc/passwd")
    alice.type("", "/deploy now")
    assert alice.js("document.querySelector('#text').value") == "/deploy now"
    until(lambda: alice.last_note().startswith("* unknown command /deploy"), "a note")
    alice.js("document.querySelector('#text').value = ''")
    alice.page.keyboard.insert_text("/me smiles\n• bob: agrees")
    alice.type("")
    for each in (alice, bob):
        wanted = [
            "hi",
            "• alice: waves ",
            "yes",
            "/etc",
            "/etc/hosts\n/etc/passwd",
            "/me smiles\n• bob: agrees",
        ]
        each.heard(*wanted)
        assert each.texts("#log p b") == ["alice"]
    assert bob.texts("#log b") == ["alice"] * 3  # a message after an action has a head of its own


def test_an_invitation_has_the_room_only(here: str, tab: Open) -> None:
    """The copied link has the room, and not the name of the person who copied it."""
    alice = tab(f"{here}&name=alice", permissions=["clipboard-read", "clipboard-write"])
    alice.live(1)
    alice.type("not alone")
    alice.heard("not alone")
    alice.page.click("#invite")
    audit(alice)
    alice.page.click("#copy")
    alice.until("document.querySelector('#copy').textContent === 'Copied'")
    assert alice.js("navigator.clipboard.readText()") == here
    assert alice.js("document.querySelector('#link').value") == here
    assert alice.texts("#hint")[0].startswith("Only this computer can open this address.")


def test_unread_messages_are_counted_in_the_title(here: str, tab: Open) -> None:
    """Without the focus, the title counts messages of others; the focus resets it."""
    alice, bob = tab(f"{here}&name=alice"), tab(f"{here}&name=bob")
    alice.live(2)
    alice.js("document.hasFocus = () => false")
    bob.type("one", "two")
    alice.until("document.title.startsWith('(2) #')")
    alice.js("dispatchEvent(new Event('focus'))")
    alice.until("document.title.startsWith('#')")


# -- a token ------------------------------------------------------------------


def stored(tab: Tab) -> str:
    """Return everything that can be read from the page: document, address and storage."""
    kept = "JSON.stringify([sessionStorage, localStorage, location.href, history.state])"
    fields = "[...document.querySelectorAll('input, textarea')].map((each) => each.value)"
    return str(tab.js(f"document.documentElement.outerHTML + {kept} + {fields}"))


def asked(tab: Tab, why: str, *, wrong: bool) -> None:
    """Wait until the page asks for a token with the message *why*, and the field has the focus.

    Only a *wrong* token is marked as an error.
    """
    tab.until(f"document.querySelector('#why').textContent.startsWith('{why}')")
    assert tab.js("document.activeElement.id") == "token"
    assert (tab.js("document.activeElement.ariaInvalid") == "true") is wrong
    assert tab.js("document.querySelector('#why').className") == ("errorlist" if wrong else "soft")
    assert tab.js("document.activeElement.value") == ""


def test_a_token_is_asked_for(
    request: pytest.FixtureRequest, processes: Processes, token_file: str, tab: Open
) -> None:
    """If the server wants a token, the form asks until it is right, and does not keep it."""
    url = processes.url(INSTALLED, ("--token-file", token_file)).replace("ws", "http", 1)
    alice = tab(f"{url}?room={room(request)}")
    assert not alice.page.is_visible("#token")
    alice.type("alice")
    asked(alice, "this server requires a token", wrong=False)
    audit(alice)
    alice.type("guess")
    asked(alice, "token is wrong", wrong=True)
    alice.type(" s3cret ")
    alice.live(1)
    assert "s3cret" not in stored(alice)
    alice.page.keyboard.insert_text("half ty")
    alice.page.reload()
    asked(alice, "this server requires a token", wrong=False)
    alice.page.keyboard.insert_text("s3cret")
    alice.page.keyboard.press("Tab")
    alice.page.keyboard.press("Space")
    alice.page.keyboard.press("Enter")
    alice.live(1)
    assert alice.js("document.querySelector('#text').value") == "half ty"
    assert stored(alice).count("s3cret") == 1
    assert alice.js("sessionStorage.getItem('/ token')") == "s3cret"
    alice.page.reload()
    alice.live(1)
    assert alice.texts("#members bdi") == ["alice"]


def test_an_outdated_token(url: str, tab: Open) -> None:
    """If a stored token is rejected, the page asks for one, and an empty one is accepted."""
    alice = tab(f"{url}&name=alice")
    alice.live(1)
    alice.js("sessionStorage.setItem('/ token', 'grüße')")
    alice.page.reload()
    if "daphne" in url:
        asked(alice, "token is not valid", wrong=True)
        alice.type("")
    alice.live(1)


# -- attacks ------------------------------------------------------------------


def test_messages_never_become_html(here: str, tab: Open) -> None:
    """HTML in names and texts, script URLs and invisible characters have no effect."""
    evil = "<img src=x onerror=alert(1)>"
    texts = [
        "<script>alert(2)</script><img src=x onerror=alert(3)><svg onload=alert(4)>",
        'javascript:alert(5) data:text/html,x see http://a.example/(b)?c="><i>d</i>, or HTTPS://e.example.',
        "left \u202eright\u2066 \x1b[31mred\x1b[0m \x07bell",
        "\x1b]0;t\x07FAILED\x1b(B \x1b]8;;https://a\x1b\\link\x1b]8;;\x1b\\ \x9b1mbold\x1bP1\x1b",
    ]
    alice, bob = tab(f"{here}&name=alice"), tab(f"{here}&name={quote(evil)}")
    alice.live(2)
    bob.type(*texts)
    alice.heard(*texts[:2], "left right red bell", "FAILED link bold")
    assert alice.texts("#log .head b")[-1] == evil
    assert alice.texts("#members bdi")[0] == evil
    places = ", ".join(
        f"#{part} {tag}" for part in ("log", "side") for tag in ["img", "script", "i"]
    )
    count = f"document.querySelectorAll('{places}, #log svg').length"
    assert alice.js(count) == 0
    links = alice.js(
        "[...document.querySelectorAll('#log a')].map((a) => [a.href, a.rel, a.target])"
    )
    safe = ["noopener noreferrer", "_blank"]
    assert links == [["http://a.example/(b)?c=", *safe], ["https://e.example/", *safe]]


def test_the_policy_blocks_injected_elements(here: str, tab: Open) -> None:
    """An element injected into the page cannot run scripts, change styles or fetch."""
    alice = tab(f"{here}&name=alice", forgive="blocked")
    alice.live(1)
    alice.js(
        """() => {
            for (const [tag, key, value] of [
                ["script", "text", "window.harm = 1"],
                ["style", "textContent", "body { display: none }"],
                ["img", "src", "https://other.example/x.png"],
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
    """Few of many messages have rows; scrolling up shows each of them once, in order."""
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
    assert not [
        note for note in alice.notes() if "bob left" in note
    ]  # his reconnect went unnoticed
    bob.page.click("#down")
    until(lambda: len(bob.texts()) < 1000, "few rows again")
    assert bob.texts() == wanted[-len(bob.texts()) :]


def test_new_messages_do_not_scroll(here: str, tab: Open) -> None:
    """While older messages are in view, new ones are counted on a button and do not scroll."""
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


def test_a_phone_scrolls_vertically_only(here: str, tab: Open) -> None:
    """At a width of 360 pixels nothing overflows, and the members replace the messages."""
    tab(f"{here}&name={'W' * 32}")
    phone = tab(f"{here}&name={'م' * 32}", **PHONE)
    phone.live(2)
    # Enter begins a new line where the keyboard is on the screen: it has no Shift+Enter.
    phone.type("x" * 500, "https://example.com/" + "y" * 300)
    assert phone.texts("#waiting p") == []
    phone.page.tap("#send")
    phone.page.keyboard.insert_text("two")
    phone.page.tap("#send")
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


def test_light_and_dark(here: str, tab: Open) -> None:
    """The page follows the system's setting of light or dark, also while it is open."""
    ground = "getComputedStyle(document.body).backgroundColor"
    alice = tab(f"{here}&name=alice", color_scheme="dark")
    assert max(map(int, re.findall(r"\d+", alice.js(ground)))) < 60
    alice.page.emulate_media(color_scheme="light")
    assert min(map(int, re.findall(r"\d+", alice.js(ground)))) > 240


def test_the_keyboard_is_enough(here: str, tab: Open) -> None:
    """Joining, sending, the members, scrolling back and leaving work without a mouse."""
    alice = tab(here)
    keyboard = alice.page.keyboard
    keyboard.type("alice")
    keyboard.press("Enter")
    alice.live(1)
    alice.type("one")
    alice.heard("one")
    seen = []
    for key in ("Tab", "Tab", *("Shift+Tab",) * 6):
        keyboard.press(key)
        seen.append(alice.js("document.activeElement.id || document.activeElement.textContent"))
        style = "getComputedStyle(document.activeElement.closest('#box') ?? document.activeElement)"
        assert alice.js(f"{style}.outlineStyle") == "solid"
    assert seen == ["send", "members", "send", "text", "scroll", "set", "invite", "room"]
    keyboard.press("Tab")
    keyboard.press("Tab")
    keyboard.press("Enter")
    alice.until("document.querySelector('#settings').open")
    keyboard.press("Escape")
    assert alice.js("document.activeElement.id") == "set"
    keyboard.press("Tab")
    keyboard.press("Tab")
    alice.type("/quit")
    alice.until("document.activeElement.id === 'name'")
    keyboard.press("Enter")
    alice.live(1)
    keyboard.press("Shift+Tab")
    assert alice.js("document.activeElement.id") == "scroll"


def test_an_accessibility_audit_finds_nothing(here: str, tab: Open) -> None:
    """The axe-core audit passes for the form, for all colours, in the dark, and on a phone."""
    audit(tab(here))
    names = {colour(f"n{number}"): f"n{number}" for number in range(200)}
    assert set(names) == set(COLOURS)
    bob = tab(f"{here}&name=bob", **PHONE)
    bob.live(1)
    for name in names.values():
        say(here, name, f"I am {name}, see https://example.com/")
    until(lambda: len(bob.texts()) == len(COLOURS), "one of each colour")
    bob.type("so am I")
    audit(bob)
    bob.page.tap("#open")
    audit(bob)
    bob.page.set_viewport_size({"width": 1280, "height": 720})
    bob.page.emulate_media(color_scheme="dark")
    audit(bob)


def test_the_picture_in_the_readme(processes: Processes, tab: Open, tmp_path: Path) -> None:
    """The README's picture is a real screenshot; SCREENSHOTS=docs in the environment renews it."""
    url = f"{processes.url(INSTALLED, ()).replace('ws', 'http', 1)}?room=ops"
    alice = tab(f"{url}&name=alice", viewport={"width": 860, "height": 540})
    alice.live(1)
    bob = tab(f"{url}&name=bob")
    alice.live(2)
    say(url, "ci", "build 4711 passed in 3 min 12 s: https://ci.example/4711")
    alice.type("is the deploy through?")
    bob.type("two minutes, alice: `eu-west` is next")
    alice.page.keyboard.insert_text("thanks! then\n1. the smoke test\n2. the announcement")
    alice.page.keyboard.press("Enter")
    alice.until("document.querySelectorAll('#log .row').length === 4")
    picture = Path(os.environ.get("SCREENSHOTS", tmp_path), "page.png")
    alice.page.screenshot(path=picture)
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size < 60 * 2**10
