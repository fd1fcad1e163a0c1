"""The screen: what an event looks like there, as lines of styled text.

A line is a list of fragments, each a style and a text that is safe to print.
What prints them, and on what, is not known here.
"""

from __future__ import annotations

import zlib
from datetime import datetime

from .conversation import missed_words
from .names import name_key
from .protocol import Error, Event, Head, Members, Message, Welcome, text_line
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

STYLE = {"quiet": "ansibrightblack", "own": "bold underline"}

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


def lines(event: Event, me: str, *, again: bool) -> list[Line]:
    """Return what *event* looks like to *me*, who may be here *again*."""
    match event:
        case Message(name=name, at=at):
            # The name as we have it now: after a reconnect it may be another.
            mark, style = (
                ("> ", f"class:own {colour(name)}") if name == me else ("  ", colour(name))
            )
            return [
                [
                    ("class:quiet", f"{clock(at)} "),
                    ("", mark),
                    (style, safe_text(name)),
                    ("", safe_text(line.removeprefix(name))),
                ]
                for line in (text_line(event) or "").split("\n")
            ]
        case Welcome():
            return _welcome(event, again=again)
        case Error(text=text):
            return [quiet(f"{clock()}   * {safe_text(text)}")]
        case Head():
            return []
    line = text_line(event)
    return [] if line is None else [quiet(f"{clock()}   {safe_text(line)}")]


def _welcome(welcome: Welcome, *, again: bool) -> list[Line]:
    you = f"you are {safe_text(welcome.name)} in {safe_text(welcome.room)}"
    members = Members(welcome.count, welcome.members, welcome.verified)
    here = safe_text((text_line(members) or "").removeprefix("* "))
    if again:
        found = [quiet(f"-- connected again, {you} --")]
    else:
        found = [quiet(f"-- {you}, {here} --"), quiet("-- /help for help --")]
    if not welcome.recovered:
        found.append(quiet(missed_words(welcome.missed)))
    return found
