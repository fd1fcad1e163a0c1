"""The screen: what an event looks like there, as lines of styled text.

A line is a list of fragments, each a style and a text that is safe to print.
What prints them, and on what, is not known here.
"""

from __future__ import annotations

import re
import zlib
from datetime import datetime

from .conversation import missed_words
from .names import name_key
from .protocol import Error, Event, Head, Members, Message, Renamed, Welcome, text_line
from .safe import safe_text

# Those of the sixteen that can be read on a light and on a dark ground.
COLOURS = (
    "ansired",
    "ansigreen",
    "ansiyellow",
    "ansiblue",
    "ansimagenta",
    "ansicyan",
    "ansibrightred",
    "ansibrightgreen",
    "ansibrightblue",
    "ansibrightmagenta",
)

STYLE = {
    "quiet": "ansibrightblack",
    "own": "bold underline",
    "mention": "bold reverse",
    "status": "reverse",
}

ACTION = "/me "
"""What begins with this is something that one does, by convention."""

Line = list[tuple[str, str]]


def colour(name: str) -> str:
    """Return the colour of *name*, the same on every screen at all times."""
    return COLOURS[zlib.crc32(name_key(name).encode()) % len(COLOURS)]


def clock(at: str | None = None) -> str:
    """Return the local time of an event, or of now."""
    try:
        when = datetime.fromisoformat(at.replace("Z", "+00:00")) if at else datetime.now()
        return when.astimezone().strftime("%H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return "--:--:--"


def quiet(text: str) -> Line:
    """Return a line of the program's own, which is to be out of the way."""
    return [("class:quiet", text)]


def mentions(text: str, name: str) -> list[tuple[int, int]]:
    """Find where *text* names someone, as places from and to."""
    pattern = rf"(?<!\w){re.escape(name)}(?!\w|-\w)"  # bob-2 is not bob
    return [match.span() for match in re.finditer(pattern, text, re.IGNORECASE)]


def mentioned(event: Event, me: str) -> bool:
    """Whether somebody else names *me*."""
    return isinstance(event, Message) and event.name != me and bool(mentions(event.text, me))


def lines(event: Event, me: str, *, again: bool) -> list[Line]:
    """Return what *event* looks like to *me*, who may be here *again*."""
    match event:
        case Message():
            return _message(event, me)
        case Renamed(to=to) if to == me:
            return [quiet(f"-- you are {safe_text(me)} --")]
        case Welcome():
            return _welcome(event, again=again)
        case Error(text=text):
            return [quiet(f"{clock()}   * {safe_text(text)}")]
        case Head():
            return []
    line = text_line(event)
    return [] if line is None else [quiet(f"{clock()}   {safe_text(line)}")]


def _message(message: Message, me: str) -> list[Line]:
    """Show a message. Its marks are two columns wide, so that nothing in it can pass for one."""
    name = message.name
    # The name as we have it now: after a reconnect it may be another.
    own = name == me
    style = f"class:own {colour(name)}" if own else colour(name)
    found: list[Line] = []
    for number, text in enumerate(message.text.splitlines() or [""]):
        acts = number == 0 and text.startswith(ACTION)
        mark = "• " if acts else "> " if own else "  "
        line: Line = [("class:quiet", f"{clock(message.at)} "), ("", mark)]
        line += [(style, safe_text(name)), ("", ": ")]
        said = safe_text(text.removeprefix(ACTION) if acts else text)
        found.append(line + _text(said, me, plain=own))
    return found


def _text(text: str, me: str, *, plain: bool) -> Line:
    """Set off where *text* names *me*, unless it is *plain*."""
    line: Line = []
    done = 0
    for start, end in [] if plain else mentions(text, me):
        line += [("", text[done:start]), ("class:mention", text[start:end])]
        done = end
    return [*line, ("", text[done:])]


def _welcome(welcome: Welcome, *, again: bool) -> list[Line]:
    you = f"you are {safe_text(welcome.name)} in {safe_text(welcome.room)}"
    members = Members(welcome.count, welcome.members, welcome.verified)
    here = safe_text((text_line(members) or "").removeprefix("* "))
    found = [quiet(f"-- connected again, {you} --" if again else f"-- {you}, {here} --")]
    if not welcome.recovered:
        found.append(quiet(missed_words(welcome.missed)))
    return found
