"""The parser's schema: its commands and arguments as plain data. Pure.

`completion` and `man_page` are generated from it, so they always match the parser.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from .usage import PROGRAM


@dataclass(frozen=True, slots=True)
class ArgumentSpec:
    """An option, or a positional argument if it has no *flags*."""

    flags: tuple[str, ...]
    metavar: str
    """The placeholder of its value; empty if it takes none."""
    help: str
    known: tuple[str, ...] = ()
    """All possible values, if there is such a list."""
    optional: bool = True
    rest: bool = False
    """Whether it is a command to run, which takes all further arguments."""

    @property
    def is_file(self) -> bool:
        """Whether its value is a path."""
        return self.metavar.endswith(("FILE", "PATH"))

    @property
    def summary(self) -> str:
        """Its help, without the default and the variable in brackets at the end."""
        return self.help.partition(" [")[0]


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """A command and its arguments; the whole program is a command without a *name*."""

    name: str
    summary: str
    arguments: tuple[ArgumentSpec, ...]
    examples: str
    command_to_run: str
    """The part of its usage after the marker ``--``; empty if no command to run follows there."""

    @property
    def options(self) -> tuple[ArgumentSpec, ...]:
        """The arguments with flags."""
        return tuple(argument for argument in self.arguments if argument.flags)

    @property
    def operands(self) -> tuple[ArgumentSpec, ...]:
        """The positional arguments."""
        return tuple(argument for argument in self.arguments if not argument.flags)


def parser_schema(parser: argparse.ArgumentParser) -> list[CommandSpec]:
    """Return the whole program, followed by each of its commands."""
    schema = [_command("", parser)]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            schema += [_command(name, command) for name, command in action.choices.items()]
    return schema


def _command(name: str, parser: argparse.ArgumentParser) -> CommandSpec:
    prog = f"{PROGRAM} {name}".rstrip()
    arguments = [
        _argument(action, prog)
        for action in parser._actions
        if not isinstance(action, argparse._SubParsersAction)
    ]
    examples = (parser.epilog or "") % {"prog": prog}
    # What follows the marker never reaches argparse, so no action describes it.
    command_to_run = (parser.usage or "").partition(" -- ")[2]
    return CommandSpec(
        name, parser.description or "", tuple(arguments), examples.rstrip(), command_to_run
    )


def _argument(action: argparse.Action, prog: str) -> ArgumentSpec:
    takes_value = action.nargs != 0
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    known = getattr(action, "known", None) or action.choices or ()
    return ArgumentSpec(
        flags=tuple(action.option_strings),
        metavar=metavar if takes_value else "",
        help=(action.help or "") % {**vars(action), "prog": prog},
        known=tuple(map(str, known)),
        optional=bool(action.option_strings or action.nargs is not None),
        rest=action.nargs == argparse.REMAINDER,
    )
