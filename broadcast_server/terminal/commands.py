"""The commands: parses a typed line into a message to send or a slash command. Pure.

`chat.ChatUI` carries the commands out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from broadcast_server.protocol.names import room_from_text, validate_name, validate_room
from broadcast_server.protocol.operators import MAX_SLOW_S

COMMANDS = {
    "/who": ("", "list who is here"),
    "/name": ("NEW", "change your name"),
    "/msg": ("NAME TEXT", "send TEXT to NAME alone"),
    "/r": ("TEXT", "answer the last private message"),
    "/me": ("ACTION", "show an action, as in /me waves"),
    "/room": ("ROOM", "switch to another room"),
    "/history": ("N", "show the last N messages again"),
    "/save": ("FILE", "save all messages of the room in a new file, as JSON lines if it is .json"),
    "/quiet": ("", "hide or show joins and leaves"),
    "/ignore": ("NAME", "hide or show the messages of NAME"),
    "/report": (
        "NAME [REASON]",
        "tell the moderators of the last message of NAME, and nobody else",
    ),
    "/topic": ("[TEXT]", "show the topic, or set it as an operator; - removes it"),
    "/kick": ("NAME", "as an operator, send NAME out for ten minutes"),
    "/mute": ("NAME", "as an operator, let nobody receive what NAME writes"),
    "/unmute": ("NAME", "as an operator, let NAME write again"),
    "/lock": ("", "as an operator, let nobody new in"),
    "/unlock": ("", "as an operator, let everyone in again"),
    "/announce": ("[off]", "as an operator, let only operators write, or everyone again"),
    "/ban": ("NAME [REASON]", "as an operator of a site with accounts, ban NAME for a day"),
    "/hide": (
        "NAME [last]",
        "as an operator, hide what NAME has published lately, or the last message of it",
    ),
    "/slow": ("SECONDS", "as an operator, let each write one message in SECONDS; off is no limit"),
    "/clear": ("", "clear the screen"),
    "/help": ("", "list the commands"),
    "/quit": ("", "leave the room"),
}
"""Each command's argument (empty if it takes none, in brackets if it is optional) and what it does.
"""

PRIVATE = ("/msg", "/r", "/report")
"""The commands whose text may have several lines: as messages, everyone would read them."""

ALIASES = {
    "/nick": "/name",
    "/names": "/who",
    "/join": "/room",
    "/tell": "/msg",
    "/w": "/msg",
    "/reply": "/r",
    "/exit": "/quit",
    "/leave": "/quit",
}
"""Other names of commands, as people know them from IRC."""

MAX_HISTORY = 10**6
"""Messages that /history can ask for at most."""


@dataclass(frozen=True, slots=True)
class TypedCommand:
    """A parsed line: the verb ``say`` with a message, or a command's name without its slash."""

    verb: str
    argument: str = ""


def parse_command(text: str) -> TypedCommand | None:
    """Parse a typed line; return None if it is blank.

    Only a single line that begins with a slash can be a command, so that a pasted log or a
    list of paths is sent as a message. `PRIVATE` commands are commands in any case, also with
    several lines, after spaces or in capitals: a slip must not publish what is for one person.

    Raises ValueError for an unknown command and for an argument that is missing, unexpected or
    invalid; its text says how to type the command.
    """
    if not text.strip():
        return None
    first = text.split(maxsplit=1)[0].lower()
    if ALIASES.get(first, first) in PRIVATE:
        text = first + text.lstrip()[len(first) :]
    elif not text.startswith("/") or "\n" in text or text.startswith("/me "):
        return TypedCommand("say", text)
    if text.startswith("//"):
        return TypedCommand("say", text[1:])
    word = text.split(maxsplit=1)[0]
    rest = text[len(word) :].strip()
    word = ALIASES.get(word.lower(), word.lower())
    if word not in COMMANDS:
        raise ValueError(_unknown_text(word))
    argument, effect = COMMANDS[word]
    if not argument.startswith("[") and bool(argument) is not bool(rest):
        expected = argument or "no argument"
        raise ValueError(f"{word} takes {expected}: {effect}")
    if word == "/announce" and rest not in ("", "on", "off"):
        raise ValueError(f"{word} takes on or off: {effect}")
    if word == "/slow":
        rest = _validate_seconds(rest)
    if word == "/history":
        rest = _validate_count(rest)
    if word == "/room":
        rest = validate_room(room_from_text(rest))
    return TypedCommand(word[1:], rest)


def split_recipient(text: str, names: Iterable[str], *, needs_text: bool = True) -> tuple[str, str]:
    """Split what follows a command into a name and a text. The page does the same.

    A name can have spaces. So the longest of *names* with which *text* begins is the name. It ends
    at white space or at a colon, which no name has. *names* are those who are here and those who
    were, so that a message to "ann lee", who has left, does not go to "ann". If none of them fits,
    what is before a colon is the name, if it can be one, else the first word.

    Raises ValueError if there is no text and *needs_text* is true.
    """
    name = max((name for name in names if _begins(text, name)), key=len, default="")
    if not name:
        before, colon, _ = text.partition(":")
        name = before if colon and _is_name(before) else text.split(maxsplit=1)[0]
    rest = text[len(name) :].removeprefix(":").strip()
    if needs_text and not rest:
        raise ValueError("/msg takes NAME TEXT: send TEXT to NAME alone")
    return name, rest


def _is_name(text: str) -> bool:
    try:
        return validate_name(text) == text
    except ValueError:
        return False


def _begins(text: str, name: str) -> bool:
    end = text[len(name) : len(name) + 1]
    is_name = text[: len(name)].casefold() == name.casefold()
    return is_name and (not end or end == ":" or end.isspace())


def _unknown_text(word: str) -> str:
    from difflib import get_close_matches

    nearest = get_close_matches(word, [*COMMANDS, *ALIASES], n=1) if len(word) > 1 else []
    hint = f" (did you mean {nearest[0]}?)" if nearest else ""
    return f"unknown command {word}{hint}: see /help, or type /{word} to send it as text"


def _validate_seconds(text: str) -> str:
    if text == "off":
        return "0"
    if not (text.isascii() and text.isdigit() and int(text[:9]) <= MAX_SLOW_S):
        raise ValueError(f"{text} is not off or a number of seconds up to {MAX_SLOW_S}")
    return text


def _validate_count(text: str) -> str:
    digits = text.isascii() and text.isdigit() and len(text) < 9
    if not (digits and 1 <= int(text) <= MAX_HISTORY):
        raise ValueError(f"{text} is not a number from 1 to {MAX_HISTORY}")
    return text


def help_lines() -> list[str]:
    """Return the lines that /help prints: one for each command, and one for ``//text``."""
    usages = [
        (f"{command} {argument}".rstrip(), effect)
        for command, (argument, effect) in COMMANDS.items()
    ]
    usages.append(("//text", "send /text as a message"))
    width = max(len(usage) for usage, _ in usages)
    return [f"{usage:{width}}  {effect}" for usage, effect in usages]
