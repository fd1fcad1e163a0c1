"""The commands: parses a typed line into a message to send or a slash command. Pure.

`chat.ChatUI` carries the commands out.
"""

from __future__ import annotations

from dataclasses import dataclass

from broadcast_server.protocol.names import room_from_text, validate_room

COMMANDS = {
    "/who": ("", "list who is in the room"),
    "/name": ("NEW", "change your name"),
    "/me": ("ACTION", "show an action, as in /me waves"),
    "/room": ("ROOM", "switch to another room"),
    "/history": ("N", "show the last N messages again"),
    "/quiet": ("", "hide who joins and leaves, or show it again"),
    "/ignore": ("NAME", "hide the messages of NAME, or show them again"),
    "/clear": ("", "clear the screen"),
    "/help": ("", "list the commands"),
    "/quit": ("", "leave"),
    "/exit": ("", "leave"),
}
"""Each command's argument (empty if it takes none) and what it does."""

ALIASES = {"/nick": "/name", "/names": "/who", "/join": "/room"}
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
    list of paths is sent as a message. Raises ValueError for an unknown command and for an
    argument that is missing, unexpected or invalid; its text says how to type the command.
    """
    if not text.strip():
        return None
    if not text.startswith("/") or "\n" in text or text.startswith("/me "):
        return TypedCommand("say", text)
    if text.startswith("//"):
        return TypedCommand("say", text[1:])
    word, _, rest = text.partition(" ")
    rest = rest.strip()
    word = ALIASES.get(word, word)
    if word not in COMMANDS:
        raise ValueError(_unknown_text(word))
    argument, effect = COMMANDS[word]
    if bool(argument) is not bool(rest):
        expected = argument or "no argument"
        raise ValueError(f"{word} takes {expected}: {effect}")
    if word == "/history":
        rest = _validate_count(rest)
    if word == "/room":
        rest = validate_room(room_from_text(rest))
    return TypedCommand(word[1:], rest)


def _unknown_text(word: str) -> str:
    from difflib import get_close_matches

    nearest = get_close_matches(word, [*COMMANDS, *ALIASES], n=1)
    hint = f" (did you mean {nearest[0]}?)" if nearest else ""
    return f"unknown command {word}{hint}: see /help, or type /{word} to send it as text"


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
