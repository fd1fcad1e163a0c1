"""Doing things on the page: commands, completion, rooms, settings, and taking the room away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from browsing import AWAY, Open, audit, browser, here, needed, tab
from page_player import Player, message, play
from programs import say, until

__all__ = ["browser", "here", "play", "tab"]  # fixtures

pytestmark = needed

TEXT = "document.querySelector('#text').value"


def test_commands_help(play: Player) -> None:
    """The page has the terminal's commands, and suggests the nearest to an unknown one."""
    play.welcome(0, count=3, members=["alice", "bob", "carl"])
    play.tab.live(3)
    play.tab.type("/who", "/names")
    until(lambda: play.tab.notes() == ["3 here: alice, bob, carl"] * 2, "the members")
    for typed, note in {
        "/hepl": "* unknown command /hepl: did you mean /help? /help lists all, //text sends /text",
        "/xyzzy": "* unknown command /xyzzy: /help lists all, //text sends /text",
        "/name": "* /name takes NEW: change your name",
        "/who else": "* /who takes no argument: list who is here",
    }.items():
        play.tab.type(typed)
        until(lambda: play.tab.last_note() == note, note)  # noqa: B023  # called at once
        assert play.tab.js(TEXT) == typed
        play.tab.page.fill("#text", "")
    play.tab.type("/help")
    until(lambda: "/room ROOM: switch to another room\n" in play.tab.last_note(), "the help")
    play.tab.type("/nick alicia")
    until(lambda: play.tab.js("1") and play.frames[-1], "a request")
    assert [(each["type"], each["name"]) for each in play.frames[-1]] == [("name", "alicia")]
    play.tab.type("/clear")
    until(lambda: play.tab.notes() == [], "an empty screen")
    assert play.says() == []


def test_quiet_and_ignored(play: Player) -> None:
    """/quiet hides joins and leaves, /ignore somebody's messages, until they are typed again."""
    play.welcome(0)
    play.tab.until("document.querySelector('#banner').hidden")
    play.send({"type": "joined", "name": "Bob", "count": 2}, message(1, "Bob"), message(2, "cy"))
    play.tab.heard("t1", "t2")
    # Quiet members have no line, but are in the list.
    play.send({"type": "joined", "name": "ci", "count": 3, "quiet": True})
    play.tab.live(3)
    assert play.tab.texts("#members bdi") == ["alice", "Bob", "ci"]
    play.send({"type": "left", "name": "ci", "count": 2, "quiet": True})
    play.tab.live(2)
    assert play.tab.notes() == ["Bob joined"]
    for hidden in (True, False):
        play.tab.type("/quiet", "/ignore BOB")
        until(lambda: play.tab.last_note().startswith("messages of BOB"), "a note")
        assert play.tab.page.is_visible("#log .moves") is not hidden
        assert play.tab.page.is_visible("#log p:has-text('t1')") is not hidden
        assert play.tab.page.is_visible("#log p:has-text('t2')")
        # Its last two notes are for the next round.
        play.tab.type("/clear")
        until(lambda: play.tab.notes() == [], "an empty screen")
        play.tab.page.click("#more")
        play.tab.heard("t1", "t2")


def test_a_report(play: Player) -> None:
    """/report goes to the server alone, also in capitals, with spaces or of several lines."""
    play.welcome(0, count=2, members=["alice", "Bob Smith"])
    play.tab.live(2)
    for typed, text in (("bob smith: rude", "rude"), ("bob smith", ""), ("bob smith a\nb", "a\nb")):
        play.tab.type(f" /REPORT {typed}")
        until(lambda: play.tab.js("1") and play.frames[-1], "a request")
        request = play.frames[-1].pop()
        assert request.pop("id")
        assert request == {"type": "report", "name": "Bob Smith", "text": text}
    assert play.says() == []
    play.send({"type": "reported", "by": "alice", "name": "Bob Smith", "text": "rude", "id": "x"})
    play.send({"type": "reported", "by": "alice", "name": "bob", "text": "", "id": "y"})
    notes = [
        "alice reported Bob Smith to the moderators alone: rude",
        "alice reported bob to the moderators alone",
    ]
    until(lambda: play.tab.notes() == notes, "the notes")


def test_private_messages(play: Player) -> None:
    """/msg sends to one member alone, however it is typed, and shows what is private as such."""
    members = ["alice", "bob", "Bob Smith"]
    play.welcome(0, count=3, members=members)
    play.tab.live(3)
    play.send({"type": "left", "name": "Bob Smith", "count": 2})
    play.tab.live(2)

    def sent() -> list[tuple[str, str]]:
        play.tab.js("1")
        return [(each["to"], each["text"]) for each in play.frames[-1] if each["type"] == "private"]

    for count, (typed, to, text) in enumerate(
        (
            ("/msg bob hi: there", "bob", "hi: there"),
            (" /MSG BOB: hi", "bob", "hi"),
            ("/msg bob\none\ntwo", "bob", "one\ntwo"),
            ("/tell bob smith: hi", "Bob Smith", "hi"),  # who has left, but is not bob
            ("/w Eve Lee: hi", "Eve Lee", "hi"),
            ("/msg eve hi", "eve", "hi"),
        ),
        1,
    ):
        play.tab.type(typed)
        until(lambda: len(sent()) == count, typed)  # noqa: B023  # called at once
        assert sent()[-1] == (to, text)
        assert play.tab.js(TEXT) == ""
    assert play.says() == []
    ids = [each["id"] for each in play.frames[-1] if each["type"] == "private"]
    at = "2026-11-24T13:00:00.123Z"
    common = {"type": "private", "at": at}
    play.send(
        message(1, "bob"),
        {**common, "name": "alice", "to": "bob", "text": "one\ntwo", "id": ids[2]},
        {**common, "name": "bob", "to": "alice", "text": "/me <b>alice</b>"},
        message(2, "bob"),
        {"type": "error", "code": "not_here", "text": "eve is not here", "id": ids[5]},
    )
    play.tab.heard("t1", "one\ntwo", "/me <b>alice</b>", "t2")
    assert play.tab.texts("#log .private .you") == ["to bob, in private", "to you, in private"]
    assert play.tab.texts("#log .first b") == ["bob", "alice", "bob", "bob"]
    assert play.tab.last_note() == "* eve is not here"
    assert play.tab.js(TEXT) == "/msg eve: hi"
    audit(play.tab)
    # /r names to whom the answer goes.
    play.tab.page.fill("#text", "")
    play.tab.page.keyboard.type("/r ok")
    until(lambda: play.tab.js(TEXT) == "/msg bob: ok", "the name")
    play.send({"type": "renamed", "name": "bob", "to": "rob"})
    play.tab.page.fill("#text", "/r no")
    play.tab.page.keyboard.press("Enter")
    until(lambda: sent()[-1] == ("rob", "no"), "an answer")
    play.tab.page.fill("#text", "/msg bob s")
    play.tab.page.keyboard.press("Tab")
    assert play.tab.js(TEXT) == "/msg Bob Smith: "  # also who has left, as in the terminal
    play.tab.page.fill("#text", "/msg ro")
    play.tab.page.keyboard.press("Tab")
    assert play.tab.js(TEXT) == "/msg rob: "
    # What has no answer when the connection breaks may not have arrived, and is not sent again.
    play.sockets[-1].close(code=1001)
    lost = "* rob may not have got your private message"
    until(lambda: lost in play.tab.notes(), lost)
    play.tab.page.fill("#text", "/msg rob: later")
    play.tab.page.keyboard.press("Enter")
    until(lambda: play.tab.last_note() == "* not sent: not connected", "a note")
    play.welcome(2, sockets=2)
    play.tab.until("document.querySelector('#banner').hidden")
    assert sent() == []


def test_tab_completes_names(play: Player) -> None:
    """Tab completes names and commands as far as they are unique, and else moves the focus."""
    play.welcome(0, count=5, members=["alice", "bob", "carl-2", "carla", "Dan Smith"])
    play.tab.live(5)
    play.send({"type": "left", "name": "bob", "count": 4})
    play.tab.live(4)
    for typed, completed in {
        "d": "Dan Smith: ",
        "hi D": "hi Dan Smith ",
        "@da": "@Dan Smith ",
        "b": "b",
        "/kick dan s": "/kick Dan Smith ",
        "/Tell b": "/Tell bob: ",
        "/report dan": "/report Dan Smith: ",
        "/ignore carla": "/ignore carla ",
        "/topic dan s": "/topic dan s",
        "car": "carl",
        "/ro": "/room ",
        "see /ro": "see /ro",
        "zoe": "zoe",
    }.items():
        play.tab.page.fill("#text", typed)
        play.tab.page.keyboard.press("Tab")
        moved = play.tab.js("document.activeElement.id") == "send"
        assert (play.tab.js(TEXT), moved) == (completed, typed == completed)
        play.tab.page.focus("#text")


def test_a_taken_name_is_explained(play: Player) -> None:
    """The page says once that the name is taken, which name it has, and how to change it."""
    play.welcome(0, name="alice-2", members=["alice", "alice-2"], count=2)
    note = "alice is taken, you are alice-2. /name NEW changes it."
    until(lambda: play.tab.notes() == [note], "a note")
    play.sockets[-1].close(code=4001)
    play.welcome(0, name="alice-2", members=["alice-2"], sockets=2)
    play.tab.live(1)
    assert play.tab.notes() == [note]


def test_switching_rooms(here: str, tab: Open) -> None:
    """A room's name is made valid, and what is unsent in a room is sent on the return to it."""
    alice = tab(f"{here}&name=alice", AWAY)
    alice.live(1)
    alice.type("first")
    alice.heard("first")
    alice.js("void (window.Real = window.WebSocket, window.WebSocket = class { close() {} })")
    alice.js("dispatchEvent(new Event('offline'))")
    alice.until("!document.querySelector('#banner').hidden")
    alice.type("unsent")
    alice.page.keyboard.insert_text("half ty")
    alice.page.click("#room")
    alice.page.fill("#where", " #My  Room ")
    alice.js("void (window.WebSocket = window.Real)")
    alice.page.keyboard.press("Enter")
    alice.until("document.querySelector('#title').textContent === '#my-room'")
    alice.live(1)
    assert (alice.texts(), alice.texts("#waiting p"), alice.js(TEXT)) == ([], [], "")
    assert alice.page.url.endswith("?room=my-room")
    alice.page.click("#room")
    alice.page.click("#recent button")
    alice.heard("first", "unsent")
    assert alice.texts("#members bdi") == ["alice"]
    assert alice.js(TEXT) == "half ty"


def test_offline_is_noticed(play: Player) -> None:
    """The page shows that it is offline when the system says so, and returns when it is online."""
    play.welcome(1, message(1))
    play.tab.heard("t1")
    play.tab.page.context.set_offline(True)
    play.tab.until("/^You are offline/.test(document.querySelector('#state').textContent)")
    play.tab.page.context.set_offline(False)
    play.welcome(1, sockets=2)
    play.tab.until("document.querySelector('#banner').hidden")
    assert play.query()["since"] == "e.1"


@pytest.mark.parametrize("answers", [True, False])
def test_a_message_without_echo_asks_for_an_answer(play: Player, answers: bool) -> None:
    """If an echo is late the page sends a ping, and reconnects if that has no answer either."""
    play.tab.page.clock.install()
    play.welcome(0)
    play.tab.until("document.querySelector('#banner').hidden")
    play.tab.type("hello")
    until(lambda: play.tab.js("1") and play.says(), "a message")
    play.tab.page.clock.run_for(5_000)
    until(lambda: play.tab.js("1") and play.frames[-1][-1]["type"] == "ping", "a ping")
    if answers:
        play.send({"type": "pong", "id": play.frames[-1][-1]["id"]})
        play.tab.js("new Promise(requestAnimationFrame)")
    play.tab.page.clock.run_for(9_000)
    play.tab.page.clock.run_for(2_000)
    assert play.tab.js("document.querySelector('#banner').hidden") is answers


def test_the_transcript(here: str, tab: Open, tmp_path: Path) -> None:
    """All messages of the room are saved, as text and as JSON lines, also those not shown."""
    url, room = here.partition("?")[0].replace("http", "ws"), here.partition("=")[2]
    say(url, room, "ann", *(f"line {number}" for number in range(250)), "two\nlines")
    alice = tab(f"{here}&name=alice", forgive=AWAY)
    until(lambda: len(alice.texts()) == 200, "the history")
    alice.page.click("#set")
    for button, suffix in (("#save", "txt"), ("#save-json", "ndjson")):
        with alice.page.expect_download() as download:
            alice.page.click(button)
        assert download.value.suggested_filename.startswith(f"{room}-2")
        assert download.value.suggested_filename.endswith(f".{suffix}")
        download.value.save_as(tmp_path / suffix)
    alice.until("document.querySelector('#saved').textContent === 'Saved 251 messages.'")
    alice.page.keyboard.press("Escape")
    alice.page.focus("#text")
    with alice.page.expect_download():
        alice.type("/save")
    until(lambda: alice.notes()[-1:] == ["Saved 251 messages."], "a note")
    assert alice.js("document.querySelector('#text').value") == ""
    lines = (tmp_path / "txt").read_text("utf-8").splitlines()
    assert len(lines) == 252 and lines[0].endswith("Z ann: line 0")
    events = [json.loads(line) for line in (tmp_path / "ndjson").read_text("utf-8").splitlines()]
    assert [event["seq"] for event in events] == [*range(1, 252)]
    assert events[-1]["text"] == "two\nlines"


def test_colours_can_be_chosen(here: str, tab: Open) -> None:
    """A chosen theme takes precedence over the system's, and is kept."""
    ground = "getComputedStyle(document.body).backgroundColor"
    alice = tab(f"{here}&name=alice", color_scheme="light")
    light = alice.js(ground)
    alice.page.click("#set")
    alice.page.select_option("#theme", "dark")
    assert alice.js(ground) != light
    alice.page.reload()
    alice.live(1)
    dark = alice.js(ground)
    alice.page.emulate_media(color_scheme="dark")
    assert alice.js(ground) == dark != light
    alice.page.click("#set")
    alice.page.select_option("#theme", "light")
    assert alice.js(ground) == light


def test_history_of_a_number_of_messages(here: str, tab: Open) -> None:
    """`/history N` loads the last N messages, as in the terminal, and shows where they begin."""
    url, room = here.partition("?")[0].replace("http", "ws"), here.partition("=")[2]
    say(url, room, "ann", *(f"line {number}" for number in range(900)))
    alice = tab(f"{here}&name=alice")
    until(lambda: len(alice.texts()) == 200, "the page's own history")
    alice.page.context.set_offline(True)
    alice.until("!document.querySelector('#banner').hidden")
    alice.type("/history 850")  # is done once the page is connected again
    alice.page.context.set_offline(False)
    until(lambda: "line 50" in alice.texts(), "the first of them")
    alice.until("document.querySelector('#scroll').scrollTop < 20000")
    alice.type("still here")
    until(lambda: "still here" in alice.texts(), "a message")
