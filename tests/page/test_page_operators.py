"""An operator on the page: the key, the commands, the topic, and what everyone sees of it."""

from __future__ import annotations

from typing import Any

from browsing import AWAY, Open, audit, browser, here, needed, tab
from conftest import OPERATOR_FILE
from page_player import Player, message, play
from programs import until

__all__ = ["browser", "here", "play", "tab"]  # fixtures

pytestmark = needed

KEY = OPERATOR_FILE.read_text(encoding="ascii").strip()
TOPIC = "document.querySelector('#topic').textContent"
MODES = "document.querySelector('#modes').textContent"
FIELD = "document.querySelector('#text')"


def test_an_operator_and_a_member(here: str, tab: Open) -> None:
    """/operator asks for the key; what the operator does is seen, and a kicked member is told."""
    bob = tab(f"{here}&name=bob")
    bob.live(1)
    alice = tab(f"{here}&name=alice")
    alice.live(2)
    alice.type("/topic mine")
    refused = "* topic is for operators of the room: connect with the operator key"
    until(lambda: alice.notes()[-1:] == [f"{refused} (/operator asks for it)"], "an error")
    alice.type("/operator")
    alice.until("document.querySelector('#secret label').textContent === 'Operator key'")
    assert alice.js("document.querySelector('#token').type") == "password"
    audit(alice)
    alice.type("guess")
    alice.until("document.querySelector('#why').textContent.startsWith('operator key is wrong')")
    assert alice.js("document.activeElement.ariaInvalid") == "true"
    alice.type(f" {KEY} ")
    alice.live(2)
    until(lambda: alice.notes()[-1:] == ["you are an operator"], "an operator")
    assert KEY not in alice.js("JSON.stringify([{...sessionStorage}, {...localStorage}])")
    alice.type("/topic release  at \u202e five")
    for each in (alice, bob):
        each.until(f"{TOPIC} === 'release at five'")
        until(lambda: each.last_note() == "alice set the topic: release at five", "it")  # noqa: B023
        audit(each)
    bob.type("/topic")
    until(lambda: bob.last_note() == "topic: release at five", "the topic")
    alice.type("/mute bob")
    until(lambda: bob.last_note() == "alice muted bob", "a mute")
    bob.type("unheard")
    until(lambda: bob.last_note().startswith("* you are muted in this room"), "an error")
    bob.page.keyboard.type("/who")  # replaces the text that came back, which nobody may hear
    assert bob.js(f"{FIELD}.value") == "/who"
    bob.page.keyboard.press("Enter")
    until(lambda: bob.last_note() == "2 here: alice, bob", "who is here")
    bob.page.keyboard.type("unheard")
    bob.js(f"document.querySelector('#send').click(), {FIELD}.value = 'draft'")
    until(lambda: bob.last_note().startswith("* you are muted in this room"), "an error")
    assert bob.js(f"{FIELD}.value") == "draft"
    assert bob.js(MODES) == "you are muted"
    alice.type("/unmute bob", "/lock", "/announce", "/kick bobb")
    bob.until(f"{MODES} === 'the room is locked · only operators write'")
    until(lambda: alice.last_note().endswith("(do you mean bob?)"), "an error")
    assert alice.notes()[-4:-1] == [
        "alice unmuted bob",
        "alice locked the room",
        "alice turned announce mode on, so only operators write",
    ]
    alice.type("/topic -", "/announce off", "/unlock", "/kick bob")
    bob.until("document.querySelector('#state').textContent.includes('you were kicked')")
    until(lambda: "alice kicked bob" in alice.notes(), "a kick")
    # Who is out can publish nothing, and keeps what it typed.
    bob.page.fill("#text", "and now?")
    bob.page.keyboard.press("Enter")
    until(lambda: bob.notes()[-1] == "* not sent: not connected", "an error")
    assert bob.js(f"{FIELD}.value") == "and now?"
    assert bob.texts("#here") == ["Not connected"]
    assert (alice.js(TOPIC), alice.js(MODES)) == ("", "you are an operator")
    alice.live(1)


def test_the_key_is_kept_as_a_token_is(here: str, tab: Open) -> None:
    """It is in the storage of the tab only if that is asked for, and lets an operator come back."""
    alice = tab(f"{here}&name=alice", forgive=AWAY)
    alice.live(1)
    alice.type("/operator")
    alice.until("document.activeElement.id === 'token'")
    alice.page.keyboard.insert_text(KEY)
    alice.page.check("#keep")
    alice.page.click("#enter button")
    until(lambda: alice.notes()[-1:] == ["you are an operator"], "an operator")
    assert alice.js("sessionStorage.getItem('/ operator')") == KEY
    alice.page.reload()
    alice.live(1)
    until(lambda: "you are an operator" in alice.notes(), "an operator again")
    assert KEY not in alice.js("location.href + JSON.stringify(localStorage)")


def test_what_a_hostile_server_says_of_operators(play: Player) -> None:
    """Names and topics are text, without what could reorder a line, and may be empty."""
    play.welcome(0, topic="<b>tea</b>\u202e", locked=True, announce=True, muted=True)
    play.tab.until(f"{TOPIC} === '<b>tea</b>'")
    facts = "the room is locked, only operators write, you are muted"
    until(lambda: play.tab.notes() == [facts], "the facts")
    assert play.tab.js(MODES) == facts.replace(", ", " · ")
    play.send({"type": "kicked", "name": "<i>\u2066x", "by": "a\nb"})
    until(lambda: play.tab.last_note() == "a\nb kicked <i>x", "a kick")
    typed: dict[str, dict[str, Any]] = {
        "/kick bob": {"type": "kick", "name": "bob"},
        "/announce off": {"type": "announce", "on": False},
        "/unlock": {"type": "lock", "on": False},
        "/slow 30": {"type": "slow", "seconds": 30},
        "/slow off": {"type": "slow", "seconds": 0},
        "/hide Bob Smith": {"type": "hide", "name": "Bob Smith"},
        "/hide bob smith last": {"type": "hide", "name": "Bob Smith", "seq": 2},
        "/ban bob smith: spam": {"type": "ban", "name": "Bob Smith", "text": "spam"},
    }
    play.send(message(1, "Bob Smith"), message(2, "Bob Smith"), message(3, "bob"))
    play.tab.heard("t1", "t2", "t3")
    play.tab.type(*typed)
    wanted = {each["type"] for each in typed.values()}

    def sent() -> list[Any]:
        return [each for frame in play.frames for each in frame if each["type"] in wanted]

    until(lambda: play.tab.js("1") and len(sent()) == len(typed), "the requests")
    assert all(each.pop("id") for each in sent())
    assert sent() == list(typed.values())


def test_what_operators_do_is_told(play: Player) -> None:
    """Each act is a line of the chat, and what holds on is below the topic."""
    play.welcome(0, slow=30)
    play.tab.until(f"{MODES} === 'slow mode: one message in 30 s'")
    lines: dict[str, dict[str, Any]] = {
        "eve turned slow mode on: one message in 5 s": {"type": "slow", "seconds": 5},
        "eve turned slow mode off": {"type": "slow", "seconds": 0},
        "eve hid 1 message of bob": {"type": "hid", "name": "bob", "messages": 1, "seq": 7},
        "eve hid 3 messages of bob": {"type": "hid", "name": "bob", "messages": 3},
        "eve banned bob": {"type": "banned", "name": "bob"},
    }
    for count, (line, act) in enumerate(lines.items(), 2):
        play.send({**act, "by": "eve"})
        until(lambda: play.tab.last_note() == line and len(play.tab.notes()) == count, line)  # noqa: B023
        wanted = "slow mode: one message in 5 s" if act.get("seconds") else ""
        assert play.tab.js(MODES) == wanted
    play.send({"type": "constructor", "by": "eve"}, {"type": "info", "text": "new"}, message(1))
    play.tab.heard("t1")
    assert len(play.tab.notes()) == 1 + len(lines)
