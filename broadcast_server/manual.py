"""The manual: a page for man, of all commands and options. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from . import __version__
from .synopsis import PROGRAM, Argument, Command

EXIT_CODES = {"0": "done", "1": "failed", "2": "wrong usage"}

ENVIRONMENT = (
    "Each option can be set in the environment as well, by the variable that is named in"
    " brackets behind it. What is typed goes before the environment, and a variable that"
    " is empty sets nothing. A switch is set by 1, true, yes or on."
)


def manual(whole: Command, commands: Sequence[Command]) -> str:
    """Write the page in the language of man(7)."""
    return "\n".join(_lines(whole, commands)) + "\n"


def _lines(whole: Command, commands: Sequence[Command]) -> Iterator[str]:
    name = _text(PROGRAM)
    yield f'.TH {name.upper()} 1 "" "{name} {__version__}" "User Commands"'
    yield ".SH NAME"
    yield f"{name} \\- {_text(whole.summary.removesuffix('.'))}"
    yield ".SH SYNOPSIS"
    for number, command in enumerate(commands):
        if number:
            yield ".br"
        shown = [_bold(PROGRAM), _bold(command.name), "[\\fIoptions\\fR]"]
        yield " ".join([*shown, *map(_operand, command.operands)])
    yield ".SH OPTIONS"
    yield from _arguments(whole.options)
    yield from _examples(whole)
    yield ".SH COMMANDS"
    for command in commands:
        yield f'.SS "{_text(PROGRAM)} {_text(command.name)}"'
        yield _text(command.summary)
        yield from _arguments(command.arguments)
        yield from _examples(command)
    yield ".SH ENVIRONMENT"
    yield _text(ENVIRONMENT)
    yield ".SH EXIT STATUS"
    for code, meaning in EXIT_CODES.items():
        yield ".TP"
        yield _bold(code)
        yield _text(meaning)


def _arguments(arguments: Sequence[Argument]) -> Iterator[str]:
    for argument in arguments:
        yield ".TP"
        flags = ", ".join(map(_bold, argument.flags))
        yield " ".join(filter(None, [flags, argument.metavar and _italic(argument.metavar)]))
        yield _text(argument.help)


def _examples(command: Command) -> Iterator[str]:
    if command.examples:
        yield ".PP"
        yield ".nf"
        yield from map(_text, command.examples.splitlines())
        yield ".fi"


def _operand(argument: Argument) -> str:
    shown = _italic(argument.metavar)
    return f"[{shown}]" if argument.optional else shown


def _bold(text: str) -> str:
    return f"\\fB{_text(text)}\\fR"


def _italic(text: str) -> str:
    return f"\\fI{_text(text)}\\fR"


def _text(text: str) -> str:
    """Write text as it is: a hyphen as what is typed, and no line that man would obey."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^(?=[.'])", r"\\&", escaped)
