"""Reading on the page: code, mentions, days, what is new, and being alone."""

from __future__ import annotations

from typing import Any

import zxingcpp
from browsing import Open, Tab, audit, browser, here, needed, tab
from conftest import Processes
from deployments import INSTALLED
from page_player import Player, message, play
from programs import say, until

__all__ = ["browser", "here", "play", "tab"]  # fixtures

pytestmark = needed

TRACE = 'File "app.py"\n    raise KeyError'
MARKS = "#log mark"
SIZE = 222
"""Width of the QR code in pixels, when it is read."""


def value(tab: Tab, field: str) -> Any:
    """Return the value of a field, by its id."""
    return tab.js(f"document.querySelector('#{field}').value")


def read_symbol(tab: Tab) -> str:
    """Read the QR code that the page shows, as a phone would."""
    pixels = tab.js(f"""(() => {{
        const context = new OffscreenCanvas({SIZE}, {SIZE}).getContext('2d');
        context.drawImage(document.querySelector('#qr'), 0, 0, {SIZE}, {SIZE});
        return [...context.getImageData(0, 0, {SIZE}, {SIZE}).data.filter((_, at) => at % 4 === 0)];
    }})()""")
    (barcode,) = zxingcpp.read_barcodes(memoryview(bytes(pixels)).cast("B", shape=[SIZE, SIZE]))
    return str(barcode.text)


def blur(tab: Tab, *, away: bool) -> None:
    """Let the page believe that the person looks elsewhere, or has come back."""
    tab.js(f"document.hasFocus = () => {str(not away).lower()}")
    if not away:
        tab.js("dispatchEvent(new Event('focus'))")


def test_code_looks_like_code(play: Player) -> None:
    """Fences, several lines and backticks are set as code, and copied without their marks."""
    texts = [
        f"see:\n```py\n{TRACE}\n```\nis `a*b` it?",
        "one\n\ttwo",
        "```\nnot closed",
        "plain ``` text",
        "`https://a.example/` https://b.example/",
    ]
    play.tab.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    play.welcome(5, *(message(seq, text=text) for seq, text in enumerate(texts, 1)))
    play.tab.heard(
        f"see:{TRACE}is a*b it?",
        "one\n\ttwo",
        "not closed",
        "plain ``` text",
        "https://a.example/ https://b.example/",
    )
    assert play.tab.texts("#log .block") == [TRACE, "one\n\ttwo", "not closed"]
    assert play.tab.texts("#log code:not(.block)") == ["a*b", "https://a.example/"]
    assert play.tab.texts("#log a") == ["https://b.example/"]
    for number, copied in enumerate((TRACE, "one\n\ttwo", "not closed")):
        play.tab.js(f"document.querySelectorAll('.copy')[{number}].click()")
        until(lambda: play.tab.js("navigator.clipboard.readText()") == copied, copied)  # noqa: B023  # called at once
    audit(play.tab)


def test_mentions_stand_out(play: Player) -> None:
    """One's own name and chosen words are marked in messages of others, as whole words."""
    texts = {
        1: "alice: look",
        2: "alice-2 and malice",
        3: "ask ALICE, or @alice",
        4: "the deploy (v1.0+) is out",
        5: "deployed",
    }
    play.welcome(6, *(message(seq, text=text) for seq, text in texts.items()), message(6, "alice"))
    play.tab.heard(*texts.values(), "t6")
    assert play.tab.texts(MARKS) == ["alice", "ALICE", "alice"]
    play.tab.page.click("#set")
    audit(play.tab)
    play.tab.page.fill("#words", "deploy, (v1.0+) ,")
    play.tab.page.keyboard.press("Escape")
    until(lambda: play.tab.texts(MARKS)[3:] == ["deploy", "(v1.0+)"], "the words")
    assert play.tab.texts("#log .hit p") == [texts[1], texts[3], texts[4]]
    play.tab.page.reload()
    play.welcome(0, sockets=2)
    assert value(play.tab, "words") == "deploy, (v1.0+) ,"


AT = "2026-11-24T13:00:00.123Z"


def test_alerts_for_mentions_only(play: Player) -> None:
    """Sounds and notifications come for everything, for mentions, or not at all, as chosen."""
    play.welcome(0)
    play.tab.until("document.querySelector('#banner').hidden")
    play.tab.js(
        """() => {
            window.alerts = [];
            window.Notification = class {
                static requestPermission = async () => "granted";
                constructor(title, { body }) { window.alerts.push(`${title}: ${body}`); }
            };
        }"""
    )
    blur(play.tab, away=True)
    expected: list[str] = []
    seq = 0
    for choice, heard in (("", []), ("mentions", ["alice?"]), ("all", ["hello", "alice?"])):
        play.tab.page.click("#set")
        play.tab.page.select_option("#notify", choice)
        play.tab.page.keyboard.press("Escape")
        play.send(
            message(seq + 1, text="hello"),
            message(seq + 2, text="alice?"),
            {"type": "private", "name": "bob", "to": "alice", "text": "psst", "at": AT},
        )
        expected += [f"bob in {play.query()['room']}: {text}" for text in heard]
        expected += ["bob in private: psst"] if choice else []  # it concerns nobody else
        seq += 2
        play.tab.until(f"document.title.startsWith('({seq + seq // 2}) ')")
        assert play.tab.js("alerts") == expected


def test_days_and_authors(play: Player) -> None:
    """A line separates the days, and a screen reader hears the author of each message."""
    days = ["2026-11-22T12:00:00Z", "2026-11-23T12:00:00Z", "2026-11-23T12:00:30Z"]
    play.welcome(3, *(message(seq, at=at) for seq, at in enumerate(days, 1)))
    play.tab.heard("t1", "t2", "t3")
    assert play.tab.texts("#log .day") == ["Sunday, November 22, 2026", "Monday, November 23, 2026"]
    assert play.tab.texts("#log .row") != play.tab.texts("#log p")
    assert play.tab.texts("#log .row .sr") == ["bob: "]  # the others have a visible head
    exact = play.tab.js("document.querySelector('#log time').title")
    assert exact == play.tab.js(
        "new Intl.DateTimeFormat([], { dateStyle: 'full', timeStyle: 'medium' })"
        f".format(new Date('{days[0]}'))"
    )


def test_what_is_new_is_marked(play: Player) -> None:
    """A line stands above what came while nobody looked, and a button leads to it."""
    play.welcome(100, *map(message, range(1, 101)))
    play.tab.heard(*(f"t{seq}" for seq in range(1, 101)))
    blur(play.tab, away=True)
    play.send(*map(message, range(101, 161)))
    play.tab.until("document.title.startsWith('(60) ')")
    assert play.tab.texts("#log .new") == ["New messages"]
    blur(play.tab, away=False)
    play.tab.until("!document.querySelector('#first').hidden")
    play.tab.page.click("#first")
    play.tab.until("document.querySelector('#first').hidden")
    box = play.tab.page.locator("#log .new").bounding_box()
    assert box is not None and 0 < box["y"] < 720
    blur(play.tab, away=True)
    play.send(message(161))
    play.tab.until("document.title.startsWith('(1) ')")
    blur(play.tab, away=False)
    play.tab.page.click("#down")
    until(lambda: play.tab.texts("#log div:has(> .new) p") == ["t161"], "one line, further down")


def test_alone_in_an_empty_room(here: str, tab: Open) -> None:
    """Who is alone sees how to invite others, until somebody writes or joins."""
    alice = tab(f"{here}&name=alice")
    alice.until("!document.querySelector('#empty').hidden")
    assert value(alice, "link") == here
    assert alice.texts("#empty #curl") == [f"curl -d 'hello' '{here}&name=me'"]
    assert alice.texts("#empty #command") == [
        f"broadcast-server connect '{here.replace('http', 'ws')}'"
    ]
    audit(alice)
    alice.page.click("#invite")
    assert alice.page.is_visible("#inviting #link")
    alice.page.keyboard.press("Escape")
    alice.until("!document.querySelector('#empty').hidden")
    say(here.partition("?")[0].replace("http", "ws"), here.partition("=")[2], "ci", "done")
    alice.until("document.querySelector('#empty').hidden")


def test_an_invitation_from_this_machine_is_for_others(processes: Processes, tab: Open) -> None:
    """A page that was opened by loopback invites to the address that others can use."""
    url = processes.url(INSTALLED, ("--public-url", "wss://chat.example/a-team/incidents/"))
    alice = tab(f"{url.replace('ws', 'http', 1)}?name=alice&room=ops", forgive="Failed to load")
    alice.until("!document.querySelector('#empty').hidden")
    assert value(alice, "link") == "https://chat.example/a-team/incidents/?room=ops"
    assert alice.texts("#hint") == [""]
    alice.until("!document.querySelector('#qr').hidden")
    assert read_symbol(alice) == "https://chat.example/a-team/incidents/?room=ops"
    audit(alice)
    alice.type(f"/room {'x' * 64}")  # its address is 108 bytes long
    alice.until("document.querySelector('#link').value.length === 108")
    alice.until("document.querySelector('#qr').complete")
    assert not alice.page.is_visible("#qr")
