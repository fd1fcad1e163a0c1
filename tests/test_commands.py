"""The commands: what a typed line asks for."""

from __future__ import annotations

import pytest

from broadcast_server.commands import COMMANDS, Command, help_lines, parse


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("", None),
        ("  \n ", None),
        ("hi", Command("say", "hi")),
        (" /who", Command("say", " /who")),
        ("//who", Command("say", "/who")),
        ("/me waves", Command("say", "/me waves")),
        ("/etc/passwd\n/etc/shadow", Command("say", "/etc/passwd\n/etc/shadow")),
        ("/who", Command("who")),
        ("/who ", Command("who")),
        ("/name Carol Ann ", Command("name", "Carol Ann")),
        ("/room ops", Command("room", "ops")),
        ("/history 10", Command("history", "10")),
        ("/exit", Command("exit")),
    ],
)
def test_what_a_line_asks_for(text: str, command: Command | None) -> None:
    """One line that begins with one slash is a command, all else is said as it is."""
    assert parse(text) == command


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("/nick bob", "/nick is no command; /help lists them, //nick says it"),
        ("/", "/ is no command; /help lists them, // says it"),
        ("/name", "/name takes NEW: take another name"),
        ("/me", "/me takes WAVES: say what you do"),
        ("/quit now", "/quit takes nothing: leave"),
        ("/room Ops", "room is not 1 to 64 of a-z 0-9 . _ - beginning with a-z 0-9"),
        ("/room \udcff", "room is not 1 to 64 of a-z 0-9 . _ - beginning with a-z 0-9"),
        *(
            (f"/history {n}", f"{n} is not a number from 1 to 1000000")
            for n in ("x", "0", "²", "-1")
        ),
        ("/history 99999999999", "99999999999 is not a number from 1 to 1000000"),
    ],
)
def test_a_command_that_is_none(text: str, wrong: str) -> None:
    """What cannot be done is told with the remedy, and not said to the room."""
    with pytest.raises(ValueError) as error:
        parse(text)
    assert str(error.value) == wrong


def test_help_lists_every_command() -> None:
    """Help has a line for each command, and one for how to say a slash."""
    listed = [line.split()[0] for line in help_lines()]
    assert listed == [*COMMANDS, "//text"]
