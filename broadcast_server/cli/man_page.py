"""The man page of all commands and options, generated from the parser's schema. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from broadcast_server import __version__

from .parser_schema import ArgumentSpec, CommandSpec
from .usage import PROGRAM

EXIT_CODES = {"0": "done", "1": "failed", "2": "wrong usage"}

ENVIRONMENT = (
    "An option whose description ends with the name of a variable in brackets can also be set by"
    " that environment variable. An option on the command line takes precedence. An empty"
    " variable is ignored. A switch is set by 1, true, yes or on."
)


def man_page(program: CommandSpec, commands: Sequence[CommandSpec]) -> str:
    """Return the page, in the format of man(7)."""
    return "\n".join(_lines(program, commands)) + "\n"


def _lines(program: CommandSpec, commands: Sequence[CommandSpec]) -> Iterator[str]:
    name = _text(PROGRAM)
    yield f'.TH {name.upper()} 1 "" "{name} {__version__}" "User Commands"'
    yield ".SH NAME"
    yield f"{name} \\- {_text(program.summary.removesuffix('.'))}"
    yield ".SH SYNOPSIS"
    for number, command in enumerate(commands):
        if number:
            yield ".br"
        words = [_bold(PROGRAM), _bold(command.name), "[\\fIoptions\\fR]"]
        words += map(_operand, command.operands)
        if command.command_to_run:
            placeholders = re.sub("[A-Z]+", lambda match: _italic(match[0]), command.command_to_run)
            words += [_bold("--"), placeholders]
        yield " ".join(words)
    yield ".SH OPTIONS"
    yield from _arguments(program.options)
    yield from _examples(program)
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


def _arguments(arguments: Sequence[ArgumentSpec]) -> Iterator[str]:
    for argument in arguments:
        yield ".TP"
        flags = ", ".join(map(_bold, argument.flags))
        yield " ".join(filter(None, [flags, argument.metavar and _italic(argument.metavar)]))
        yield _text(argument.help)


def _examples(command: CommandSpec) -> Iterator[str]:
    if command.examples:
        yield ".PP"
        yield ".nf"
        yield from map(_text, command.examples.splitlines())
        yield ".fi"


def _operand(argument: ArgumentSpec) -> str:
    name = _italic(argument.metavar)
    return f"[{name}]" if argument.optional else name


def _bold(text: str) -> str:
    return f"\\fB{_text(text)}\\fR"


def _italic(text: str) -> str:
    return f"\\fI{_text(text)}\\fR"


def _text(text: str) -> str:
    """Escape *text*: hyphens stay ASCII hyphens, and no line is taken for a macro."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^(?=[.'])", r"\\&", escaped)
