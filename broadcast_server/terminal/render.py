"""The rendering of events at a terminal: each event as lines of styled text. Pure.

A line is a list of fragments; a fragment is a style and a text without control characters.
`prompt` prints the lines.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from datetime import datetime

from broadcast_server.client.report_texts import missed_text
from broadcast_server.protocol.appearance import IGNORED
from broadcast_server.protocol.codec import encode_text, private_heading
from broadcast_server.protocol.messages import (
    Error,
    Event,
    Heartbeat,
    Members,
    Message,
    PrivateMessage,
    Renamed,
    Welcome,
)
from broadcast_server.protocol.sanitize import strip_control

MAX_WELCOME_NAMES = 10
"""How many of those who are here a newcomer is told by name; /who lists all."""

# Those of the 16 ANSI colours that are readable on a light and on a dark background.
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
    "private": "bold",
    "status": "reverse",
}

ACTION_PREFIX = "/me "
"""A message that begins with this is an action, by the convention of IRC."""

Line = list[tuple[str, str]]


def colour(name: str) -> str:
    """Return the colour of *name*: always the same, and as on the page."""
    # Not the key by which servers compare names: the page would need its table of look-alikes.
    folded = unicodedata.normalize("NFKC", IGNORED.sub("", name)).casefold()
    spelling = unicodedata.normalize("NFKC", folded)
    return COLOURS[zlib.crc32(spelling.encode("utf-8", "replace")) % len(COLOURS)]


def local_time(at: str | None = None) -> str:
    """Return an event's time *at* (RFC 3339), or now, as local ``HH:MM:SS``."""
    try:
        when = datetime.fromisoformat(at.replace("Z", "+00:00")) if at else datetime.now()
        return when.astimezone().strftime("%H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return "--:--:--"


def local_day(at: str) -> str:
    """Return the day of an event's time *at* (RFC 3339) in words, empty if it is no time."""
    try:
        when = datetime.fromisoformat(at.replace("Z", "+00:00")).astimezone()
        return f"{when:%A}, {when.day} {when:%B %Y}"
    except (ValueError, OverflowError, OSError):
        return ""


def today() -> str:
    """Return the present day, as `local_day` does."""
    return local_day(datetime.now().astimezone().isoformat())


def dim(text: str) -> Line:
    """Return *text* as a line in the colour of notices."""
    return [("class:quiet", text)]


def find_mentions(text: str, name: str) -> list[tuple[int, int]]:
    """Return the start and end of each place where *text* contains *name* as a word."""
    pattern = rf"(?<!\w){re.escape(name)}(?!\w|-\w)"  # "bob-2" does not mention bob
    return [match.span() for match in re.finditer(pattern, text, re.IGNORECASE)]


def is_mention(event: Event, me: str) -> bool:
    """Whether *event* is somebody else's message that mentions *me*, or is for me alone."""
    if isinstance(event, PrivateMessage):
        return event.id is None
    return isinstance(event, Message) and event.name != me and bool(find_mentions(event.text, me))


def render_event(event: Event, me: str, *, again: bool) -> list[Line]:
    """Return the lines that show *event* to *me*; *again* is true after a reconnect."""
    match event:
        case Message():
            return _render_message(event, me)
        case PrivateMessage():
            return _render_private(event)
        case Renamed(to=to) if to == me:
            return [dim(f"-- you are {strip_control(me)} --")]
        case Welcome():
            return _render_welcome(event, again=again)
        case Error(text=text):
            return [dim(f"{local_time()}   * {strip_control(text)}")]
        case Heartbeat():
            return []
    line = encode_text(event)
    return [] if line is None else [dim(f"{local_time()}   {strip_control(line)}")]


def _render_message(message: Message, me: str) -> list[Line]:
    """Return a message's lines, each with the sender's name.

    The mark before the name is two columns wide, so that no text can imitate one.
    """
    name = message.name
    own = name == me  # by our current name, which may have changed on a reconnect
    style = f"class:own {colour(name)}" if own else colour(name)
    lines: list[Line] = []
    for number, text in enumerate(message.text.splitlines() or [""]):
        is_action = number == 0 and text.startswith(ACTION_PREFIX)
        mark = "• " if is_action else "> " if own else "  "
        line: Line = [("class:quiet", f"{local_time(message.at)} "), ("", mark)]
        line += [(style, strip_control(name)), ("", ": ")]
        shown = strip_control(text.removeprefix(ACTION_PREFIX) if is_action else text)
        lines.append([*line, ("", shown)] if own else line + _highlight_mentions(shown, me))
    return lines


def _render_private(message: PrivateMessage) -> list[Line]:
    """Return a private message's lines. No public message has this mark, and no name a comma."""
    begin = [("class:quiet", f"{local_time(message.at)} "), ("class:private", "* ")]
    heading = ("class:private", f"{strip_control(private_heading(message))}: ")
    texts = message.text.splitlines() or [""]
    return [[*begin, heading, ("", strip_control(text))] for text in texts]


def _highlight_mentions(text: str, me: str) -> Line:
    line: Line = []
    done = 0
    for start, end in find_mentions(text, me):
        line += [("", text[done:start]), ("class:mention", text[start:end])]
        done = end
    return [*line, ("", text[done:])]


def present_text(welcome: Welcome) -> str:
    """Return who is here, by count and by the first names. A class of thirty would fill lines."""
    names = welcome.members[:MAX_WELCOME_NAMES]
    verified = tuple(name for name in welcome.verified or () if name in names)
    text = encode_text(Members(welcome.count, names, verified or None)) or ""
    return text.removeprefix("* ")


def _render_welcome(welcome: Welcome, *, again: bool) -> list[Line]:
    you = f"you are {strip_control(welcome.name)} in {strip_control(welcome.room)}"
    present = strip_control(present_text(welcome))
    lines = [dim(f"-- connected again, {you} --" if again else f"-- {you}, {present} --")]
    if not welcome.recovered:
        lines.append(dim(missed_text(welcome.missed)))
    return lines
