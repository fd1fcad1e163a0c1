"""The menu of a member on the page, from the list and from a message."""

from __future__ import annotations

from typing import Any

from browsing import audit, browser, here, needed, tab
from page_player import Player, message, play
from programs import until

__all__ = ["browser", "here", "play", "tab"]  # fixtures

pytestmark = needed

FOR_ALL = ["Private message", "Ignore"]
ACTIONS = "#person[open] #actions button"
MEMBERS: dict[str, Any] = {
    "count": 3,
    "members": ["alice", "Bob Smith", "carl"],
}


def sent(play: Player, type: str) -> list[dict[str, Any]]:
    """Return the requests of a type that the page has sent, without their ids."""
    play.tab.js("1")
    found = [each for frame in play.frames for each in frame if each["type"] == type]
    return [{key: value for key, value in each.items() if key != "id"} for each in found]


def have_moderators(play: Player) -> None:
    """Let the page believe that the server has moderators, as the Django deployment says in it."""
    play.tab.js("""() => {
        const meta = Object.assign(document.createElement("meta"), { name: "moderated" });
        document.head.append(meta);
    }""")


def press(play: Player, label: str) -> None:
    """Press a button of the menu."""
    play.tab.page.click(f"#actions button:text-is('{label}')")


def test_the_menu_of_a_message(play: Player) -> None:
    """It is offered where the mouse is, and says whose message it is about."""
    have_moderators(play)
    play.welcome(2, message(1, "Bob Smith", text="<i>rude</i>"), message(2, "alice"), **MEMBERS)
    play.tab.live(3)
    play.tab.page.hover("#log .row:has-text('rude')")
    assert play.tab.js("document.querySelector('#act').ariaLabel") == "Actions for Bob Smith"
    play.tab.page.click("#act")
    assert play.tab.texts(ACTIONS) == [*FOR_ALL, "Report this message"]
    assert play.tab.texts("#person h2, #excerpt") == ["Bob Smith", "<i>rude</i>"]
    audit(play.tab)
    press(play, "Report this message")
    assert play.tab.texts("#question") == ["Reason"]
    audit(play.tab)
    play.tab.page.keyboard.type("spam: twice")
    play.tab.page.keyboard.press("Enter")
    report = {"type": "report", "name": "Bob Smith", "text": "spam: twice", "seq": 1}
    until(lambda: sent(play, "report") == [report], "a report")
    assert not play.tab.page.is_visible("#person")
    # A draft stays where it is.
    play.tab.page.fill("#text", "draft")
    play.tab.page.click("#log .head b:text-is('Bob Smith')")
    press(play, "Private message")
    play.tab.page.keyboard.type("please stop")
    play.tab.page.keyboard.press("Enter")
    private = {"type": "private", "to": "Bob Smith", "text": "please stop"}
    until(lambda: sent(play, "private") == [private], "a private message")
    assert play.tab.js("document.querySelector('#text').value") == "draft"
    play.tab.page.click("#log .first > .face")
    press(play, "Ignore")
    play.tab.until("document.querySelector('#log .row.ignored')")
    play.tab.page.click("#log .head b:text-is('alice')")
    assert play.tab.texts(ACTIONS) == ["Change your name"]
    press(play, "Change your name")
    play.tab.page.keyboard.type("alicia")
    play.tab.page.keyboard.press("Enter")
    until(lambda: sent(play, "name") == [{"type": "name", "name": "alicia"}], "a new name")
    assert play.says() == []


BOB = {"name": "Bob Smith"}
FOR_OPERATORS: dict[str, dict[str, Any]] = {
    "Hide the last messages": {"type": "hide", **BOB},
    "Mute": {"type": "mute", **BOB},
    "Unmute": {"type": "mute", **BOB, "on": False},
    "Kick for ten minutes": {"type": "kick", **BOB},
    "Ban for a day": {"type": "ban", **BOB, "text": "spam"},
}
"""What the menu of a member offers to operators, and what the page then asks the server for."""


def test_the_menu_of_an_operator(play: Player) -> None:
    """Operators alone can hide, mute, kick and ban from it, on a phone as well."""
    play.tab.page.set_viewport_size({"width": 390, "height": 844})
    have_moderators(play)
    play.welcome(1, message(1, "Bob Smith"), operator=True, **MEMBERS)
    play.tab.live(3)
    for label, request in FOR_OPERATORS.items():
        if not play.tab.page.is_visible("#members"):
            play.tab.page.click("#open")
        play.tab.page.click("#members button:has-text('Bob Smith')")
        assert play.tab.texts(ACTIONS) == [*FOR_ALL, "Report the last messages", *FOR_OPERATORS]
        audit(play.tab)
        press(play, label)
        if "text" in request:
            assert play.tab.texts("#do") == [label]
            play.tab.page.keyboard.type(request["text"])
            play.tab.page.keyboard.press("Enter")
        until(lambda: request in sent(play, request["type"]), label)  # noqa: B023
        assert play.tab.js("document.querySelector('#open').ariaExpanded") == "false"
        assert play.tab.page.is_visible("#log")  # where one sees what came of it
    play.tab.page.click("#log .head b")
    press(play, "Hide this message")
    wanted = {"type": "hide", **BOB, "seq": 1}
    until(lambda: sent(play, "hide")[-1] == wanted, "a message to be hidden")


def test_a_server_without_moderators_offers_neither_reports_nor_bans(play: Player) -> None:
    """The standalone server has no moderators, so the menu has only what works there."""
    play.welcome(0, operator=True, **MEMBERS)
    play.tab.live(3)
    play.tab.page.click("#members button:has-text('Bob Smith')")
    assert play.tab.texts(ACTIONS) == [*FOR_ALL, *list(FOR_OPERATORS)[:-1]]


def test_the_menu_without_a_mouse(play: Player) -> None:
    """Each list is one stop of the Tab key; arrows move in it, and Enter opens the menu."""
    play.welcome(3, message(1), message(2, "carl"), message(3, "dora"), **MEMBERS)
    play.tab.live(3)
    keyboard = play.tab.page.keyboard
    play.tab.page.focus("#scroll")
    focused = "document.activeElement.querySelector('p')?.textContent"
    for key, text in (("ArrowUp", "t3"), ("ArrowUp", "t2"), ("ArrowDown", "t3"), ("ArrowUp", "t2")):
        keyboard.press(key)
        assert play.tab.js(focused) == text
    keyboard.press("Enter")
    assert play.tab.texts("#person[open] :is(h2, #excerpt)") == ["carl", "t2"]
    assert play.tab.js("document.activeElement.textContent") == "Private message"
    keyboard.press("Escape")
    assert play.tab.js(focused) == "t2"
    play.tab.page.focus("#members")
    keyboard.press("ArrowDown")
    keyboard.press("ArrowUp")
    keyboard.press("Enter")
    assert play.tab.texts("#person h2") == ["Bob Smith"]
    keyboard.press("Tab")
    keyboard.press("Enter")
    until(lambda: play.tab.last_note() == "messages of Bob Smith are hidden", "a note")
    play.tab.page.click("#members button:has-text('Bob Smith')")
    press(play, "Stop ignoring")
    until(lambda: play.tab.last_note() == "messages of Bob Smith are shown", "a note")
