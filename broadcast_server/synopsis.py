"""The synopsis: which commands and options there are, read out of the parser. Pure.

What is written from it, a completion or a manual, has whatever the parser has.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

PROGRAM = "broadcast-server"


@dataclass(frozen=True, slots=True)
class Argument:
    """An option, or without *flags* what stands for itself."""

    flags: tuple[str, ...]
    metavar: str
    """What stands for its value; empty if it takes none."""
    help: str
    known: tuple[str, ...] = ()
    """All that its value can be, if that is known."""
    optional: bool = True
    rest: bool = False
    """Whether it is a command to run, which takes all that follows."""

    @property
    def is_file(self) -> bool:
        """Whether its value is the name of a file."""
        return self.metavar.endswith(("FILE", "PATH"))

    @property
    def summary(self) -> str:
        """What it is, without the defaults that end the help of ours."""
        return self.help.partition(" [")[0]


@dataclass(frozen=True, slots=True)
class Command:
    """What can be typed behind the program's name; the whole program is one without a *name*."""

    name: str
    summary: str
    arguments: tuple[Argument, ...]
    examples: str

    @property
    def options(self) -> tuple[Argument, ...]:
        """Those that have a name."""
        return tuple(each for each in self.arguments if each.flags)

    @property
    def operands(self) -> tuple[Argument, ...]:
        """Those that have none."""
        return tuple(each for each in self.arguments if not each.flags)


def commands(parser: argparse.ArgumentParser) -> list[Command]:
    """Return the whole program, and then each of its commands."""
    found = [_command("", parser)]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found += [_command(name, each) for name, each in action.choices.items()]
    return found


def _command(name: str, parser: argparse.ArgumentParser) -> Command:
    prog = f"{PROGRAM} {name}".rstrip()
    arguments = [
        _argument(action, prog)
        for action in parser._actions
        if not isinstance(action, argparse._SubParsersAction)
    ]
    examples = (parser.epilog or "") % {"prog": prog}
    return Command(name, parser.description or "", tuple(arguments), examples.rstrip())


def _argument(action: argparse.Action, prog: str) -> Argument:
    takes = action.nargs != 0
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    known = getattr(action, "known", None) or action.choices or ()
    return Argument(
        flags=tuple(action.option_strings),
        metavar=metavar if takes else "",
        help=(action.help or "") % {**vars(action), "prog": prog},
        known=tuple(map(str, known)),
        optional=bool(action.option_strings or action.nargs is not None),
        rest=action.nargs == argparse.REMAINDER,
    )
