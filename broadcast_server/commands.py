"""The commands: what a line asks for that somebody typed. Pure.

Who carries it out, and whether that is possible just now, is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass

COMMANDS = {
    "/who": ("", "who is here"),
    "/name": ("NEW", "take another name"),
    "/me": ("WAVES", "say what you do"),
    "/room": ("ROOM", "go to another room"),
    "/history": ("N", "see the last N messages again"),
    "/clear": ("", "clear the screen"),
    "/help": ("", "this list"),
    "/quit": ("", "leave"),
    "/exit": ("", "leave"),
}
"""What each takes, and what it does."""

MOST = 10**6
"""So many messages may be asked for: the longest log that is worth a terminal."""


@dataclass(frozen=True, slots=True)
class Command:
    """What is to be done: to ``say`` something, or a command without its slash."""

    verb: str
    argument: str = ""


def parse(text: str) -> Command | None:
    """Return what *text* asks for, None for nothing. Raises ValueError with what is wrong.

    Only what begins with a slash and is one line can be a command: paths and logs are
    pasted, too.
    """
    if not text.strip():
        return None
    if not text.startswith("/") or "\n" in text or text.startswith("/me "):
        return Command("say", text)
    if text.startswith("//"):
        return Command("say", text[1:])
    word, _, rest = text.partition(" ")
    rest = rest.strip()
    if word not in COMMANDS:
        raise ValueError(f"{word} is no command; /help lists them, /{word} says it")
    takes, what = COMMANDS[word]
    if bool(takes) is not bool(rest):
        wanted = f"takes {takes}" if takes else "takes nothing"
        raise ValueError(f"{word} {wanted}: {what}")
    if word == "/history":
        rest = _number(rest)
    if word == "/room":
        rest = _room(rest)
    return Command(word[1:], rest)


def _number(text: str) -> str:
    digits = text.isascii() and text.isdigit() and len(text) < 9
    if not (digits and 1 <= int(text) <= MOST):
        raise ValueError(f"{text} is not a number from 1 to {MOST}")
    return text


def _room(text: str) -> str:
    from urllib.parse import urlencode  # by now it is loaded: the client needs it

    from .entry import parse_entry
    from .protocol import Error, Format

    entry = parse_entry(urlencode({"room": text}, errors="replace"), Format.JSON)
    if isinstance(entry, Error):
        raise ValueError(entry.text)
    return text


def help_lines() -> list[str]:
    """List the commands."""
    usages = [(f"{command} {takes}".rstrip(), what) for command, (takes, what) in COMMANDS.items()]
    usages.append(("//text", "say /text"))
    width = max(len(usage) for usage, _ in usages)
    return [f"{usage:{width}}  {what}" for usage, what in usages]
