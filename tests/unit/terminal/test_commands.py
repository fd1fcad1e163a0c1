"""The commands: how a typed line is parsed."""

from __future__ import annotations

import re

import pytest

from broadcast_server.http.chat_page import chat_page
from broadcast_server.terminal.commands import (
    ALIASES,
    COMMANDS,
    TypedCommand,
    help_lines,
    parse_command,
    split_recipient,
)

TO_SEND = "see /help, or type //"


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("", None),
        ("  \n ", None),
        ("hi", TypedCommand("say", "hi")),
        (" /who", TypedCommand("say", " /who")),
        ("//who", TypedCommand("say", "/who")),
        ("/me waves", TypedCommand("say", "/me waves")),
        ("/etc/passwd\n/etc/shadow", TypedCommand("say", "/etc/passwd\n/etc/shadow")),
        ("/who", TypedCommand("who")),
        ("/who ", TypedCommand("who")),
        ("/Who", TypedCommand("who")),
        ("/name Carol Ann ", TypedCommand("name", "Carol Ann")),
        ("/room ops", TypedCommand("room", "ops")),
        ("/history 10", TypedCommand("history", "10")),
        ("/room #My  Room", TypedCommand("room", "my-room")),
        ("/join Ops", TypedCommand("room", "ops")),
        ("/nick bob", TypedCommand("name", "bob")),
        ("/names", TypedCommand("who")),
        ("/ignore Bob B", TypedCommand("ignore", "Bob B")),
        ("/exit", TypedCommand("quit")),
        ("/leave", TypedCommand("quit")),
        # What is for one person is never sent as a message, whatever slips in.
        ("/msg bob hi there", TypedCommand("msg", "bob hi there")),
        ("/msg bob one\ntwo", TypedCommand("msg", "bob one\ntwo")),
        ("/tell bob hi\n", TypedCommand("msg", "bob hi")),
        ("/w bob\nhi", TypedCommand("msg", "bob\nhi")),
        (" /msg bob hi", TypedCommand("msg", "bob hi")),
        ("\n/MSG bob hi", TypedCommand("msg", "bob hi")),
        ("/msg\nbob hi", TypedCommand("msg", "bob hi")),
        ("/r yes", TypedCommand("r", "yes")),
        ("/Reply yes\nno", TypedCommand("r", "yes\nno")),
        ("//msg bob hi", TypedCommand("say", "/msg bob hi")),
    ],
)
def test_a_typed_line_is_parsed(text: str, command: TypedCommand | None) -> None:
    """A single line that begins with one slash is a command; everything else is a message."""
    assert parse_command(text) == command


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("/hlep", f"unknown command /hlep (did you mean /help?): {TO_SEND}hlep to send it as text"),
        ("/xyz", f"unknown command /xyz: {TO_SEND}xyz to send it as text"),
        ("/", "unknown command /: see /help, or type // to send it as text"),
        ("/name", "/name takes NEW: change your name"),
        ("/me", "/me takes ACTION: show an action, as in /me waves"),
        ("/msg", "/msg takes NAME TEXT: send TEXT to NAME alone"),
        (" /r", "/r takes TEXT: answer the last private message"),
        ("/quit now", "/quit takes no argument: leave the room"),
        ("/room Öps", "room is not 1 to 64 of a-z 0-9 . _ - beginning with a-z 0-9"),
        ("/room \udcff", "room is not 1 to 64 of a-z 0-9 . _ - beginning with a-z 0-9"),
        *(
            (f"/history {n}", f"{n} is not a number from 1 to 1000000")
            for n in ("x", "0", "²", "-1")
        ),
        ("/history 99999999999", "99999999999 is not a number from 1 to 1000000"),
    ],
)
def test_an_invalid_command_is_rejected(text: str, error: str) -> None:
    """An invalid command is not sent as a message, and the error says how to type it."""
    with pytest.raises(ValueError) as raised:
        parse_command(text)
    assert str(raised.value) == error


NAMES = ("bob", "Bob Smith", "ann", "Straße")


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("bob hi", "bob", "hi"),
        ("BOB hi", "bob", "hi"),
        ("bob: hi", "bob", "hi"),
        ("bob :) hi", "bob", ":) hi"),
        ("bob see: this", "bob", "see: this"),
        ("bob\nhi", "bob", "hi"),
        ("bob smith hi", "Bob Smith", "hi"),
        ("bob smith: hi", "Bob Smith", "hi"),
        ("bob: smith hi", "bob", "smith hi"),
        ("bobby hi", "bobby", "hi"),
        ("ann Lee: hi", "ann", "Lee: hi"),
        ("Eve Lee: hi", "Eve Lee", "hi"),
        ("eve see: /x", "eve see", "/x"),
        ("eve hi\nnote: x", "eve", "hi\nnote: x"),
        ("straße hi", "Straße", "hi"),
        ("STRASSE hi", "STRASSE", "hi"),
    ],
)
def test_a_private_message_is_for_the_longest_name(text: str, name: str, message: str) -> None:
    """The longest known name is meant, with spaces too; a colon ends it. The page does the same."""
    assert split_recipient(text, NAMES) == (name, message)


@pytest.mark.parametrize("text", ["bob", "bob:", "bob smith", "eve", "Eve Lee:", ":"])
def test_a_private_message_without_a_text(text: str) -> None:
    """Without a text, or a name, nothing is sent."""
    with pytest.raises(ValueError, match="/msg takes NAME TEXT"):
        split_recipient(text, NAMES)


def test_help_lists_every_command() -> None:
    """/help has a line for each command, and one for sending a text that begins with a slash."""
    listed = [line.split()[0] for line in help_lines()]
    assert listed == [*COMMANDS, "//text"]


PAGE_ONLY = {"invite", "save", "operator"}
"""Commands that the terminal may lack: for an operator it has `--operator-file`."""

TERMINAL_ONLY = {"report", "slow", "hide", "ban"}
"""Commands that the page may lack: there a message has a menu, and the room a form in the admin."""

OTHER_ARGUMENT = {"history", "save"}
"""Commands that may have another argument there: the page goes back page by page."""

SHORTER = {
    "report",
    "kick",
    "mute",
    "unmute",
    "lock",
    "unlock",
    "announce",
    "topic",
    "slow",
    "ban",
    "hide",
}
"""Commands of operators, which the page tells in fewer words: its weight is limited."""


def test_the_page_has_the_same_commands() -> None:
    """Commands, their arguments, what they do, and aliases are the same in terminal and page."""
    page = chat_page().html.decode()
    table = page[page.index("const COMMANDS = {") : page.index("const ALIASES = {")]
    aliases = page[page.index("const ALIASES = {") :].partition("}")[0]
    found = {
        name: (argument, effect)
        for name, argument, effect in re.findall(
            r'^\t(\w+): \["([^"]*)", "([^"]*)"', table, re.MULTILINE
        )
    }
    own = {command[1:]: usage for command, usage in COMMANDS.items()}
    assert len(found) == len(re.findall(r"^\t\w+: \[", table, re.MULTILINE)) > 10
    assert own.keys() - found.keys() <= TERMINAL_ONLY
    assert found.keys() - own.keys() <= PAGE_ONLY
    for name in (own.keys() & found.keys()) - OTHER_ARGUMENT:
        assert found[name][0] == own[name][0], name
        assert name in SHORTER or found[name] == own[name], name
    expected = {alias[1:]: command[1:] for alias, command in ALIASES.items()}
    assert dict(re.findall(r'(\w+): "(\w+)"', aliases)) == expected
