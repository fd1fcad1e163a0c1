"""What is typed: a parser whose options the environment can set too, and what their values may be.

It knows no option by name.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .names import check_name

ENVIRONMENT = "BROADCAST_"
TOKEN = f"{ENVIRONMENT}TOKEN"


class _Set(str):
    """A value that comes from an environment variable."""

    variable: str


class _Store(argparse.Action):
    """Keeps a value, and that it was typed; *known* is all that can be, if that is known."""

    def __init__(self, *arguments: Any, known: tuple[str, ...], **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.known = known

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, values)
        namespace.typed |= {self.dest}


class Parser(argparse.ArgumentParser):
    """A parser whose options can be set in the environment too; what is empty there is not set."""

    def option(
        self,
        flag: str,
        default: object,
        help: str,
        metavar: str,
        type: Callable[[str], object] = str,
    ) -> None:
        """Add an option that takes a value. The environment replaces *default*."""
        variable = _variable(flag)
        shown = f"default: {default}, " if default not in (None, "") else ""
        # argparse converts a default that is a string as if it had been typed.
        value = default if default is None else str(default)
        if os.environ.get(variable):
            value = _Set(os.environ[variable])
            value.variable = variable
        help = f"{help} [{shown}{variable}]"
        self.add_argument(
            flag,
            action=_Store,
            default=value,
            help=help,
            metavar=metavar,
            type=_blaming(type),
            known=type.known if isinstance(type, OneOf) else (),
        )

    def switch(self, flag: str, help: str) -> None:
        """Add an option that takes none. The environment switches it on by a yes."""
        variable = _variable(flag)
        on = os.environ.get(variable, "").lower() in ("1", "true", "yes", "on")
        self.add_argument(flag, action="store_true", default=on, help=f"{help} [{variable}=1]")


def texts(summary: str, examples: str) -> dict[str, Any]:
    """Return what the help of a command says, for the parser that is made for it."""
    return {
        "help": summary,
        "description": summary,
        "epilog": examples,
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }


def _variable(flag: str) -> str:
    return ENVIRONMENT + flag.strip("-").replace("-", "_").upper()


def _blaming(convert: Callable[[str], object]) -> Callable[[str], object]:
    """Have an error say that it is about the environment, where nobody typed anything wrong."""

    def blaming(value: str) -> object:
        try:
            return convert(value)
        except argparse.ArgumentTypeError as error:
            if isinstance(value, _Set):
                raise argparse.ArgumentTypeError(f"{error} (from {value.variable})") from None
            raise

    return blaming


def between(least: int, most: int) -> Callable[[str], int]:
    """Read a number from *least* to *most*."""

    def number(value: str) -> int:
        try:
            found = int(value)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{value!r} is not a number") from None
        if not least <= found <= most:
            raise argparse.ArgumentTypeError(f"{found} is not between {least} and {most}")
        return found

    return number


@dataclass(frozen=True, slots=True)
class OneOf:
    """Reads a word that is *known*."""

    known: tuple[str, ...]

    def __call__(self, value: str) -> str:
        """Read it."""
        if value not in self.known:
            raise argparse.ArgumentTypeError(f"{value!r} is not one of {', '.join(self.known)}")
        return value


def name(value: str) -> str:
    """Read a name."""
    try:
        return check_name(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def room(value: str) -> str:
    """Read the name of a room."""
    from urllib.parse import urlencode

    from .entry import parse_entry
    from .protocol import Error, Format

    entry = parse_entry(urlencode({"room": value}, errors="replace"), Format.JSON)
    if isinstance(entry, Error):
        raise argparse.ArgumentTypeError(entry.text)
    return value
