"""The environment parser: an argparse parser whose options have environment variables as well.

It also has the types of option values. The options themselves are in `options` and
`client_options`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from broadcast_server.admission.int_range import IntRange, parse_choice
from broadcast_server.protocol.names import validate_name, validate_room

from .usage import usage_error

VARIABLE_PREFIX = "BROADCAST_"

ON = ("1", "true", "yes", "on")
OFF = ("0", "false", "no", "off")


class _EnvValue(str):
    """An option's value from an environment variable."""

    variable: str
    """The variable's name, for error messages."""


class _StoreTyped(argparse.Action):
    """Stores an option's value, and adds the option's name to the set `typed`.

    *known* lists all possible values, if there is such a list; `completion` offers them.
    """

    def __init__(self, *arguments: Any, known: tuple[str, ...], **options: Any) -> None:
        super().__init__(*arguments, **options)
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


class _Switch(argparse.Action):
    """Stores True. Unlike argparse's own action, it converts a default from the environment."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, True)


class EnvParser(argparse.ArgumentParser):
    """A parser whose options can be set by environment variables; an empty variable is ignored.

    The variable of ``--some-option`` is ``BROADCAST_SOME_OPTION``. Options cannot be abbreviated:
    an abbreviation would get another meaning when an option is added.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Print the usage and the error, with the same program name as our own errors."""
        self.print_usage(sys.stderr)
        self.exit(usage_error(self.get_default("command"), message))

    def print_help(self, file: Any = None) -> None:
        """Print the help. Raises OSError where argparse itself would print nothing and succeed."""
        target = sys.stdout if file is None else file
        if target is not None:
            target.write(self.format_help())

    def option(
        self,
        flag: str,
        default: object,
        help: str,
        metavar: str,
        type: Callable[[str], object] = str,
    ) -> None:
        """Add an option with a value. Its variable, if set, replaces *default*."""
        variable = _variable(flag)
        shown = f"default: {default}, " if default not in (None, "") else ""
        # argparse converts a default that is a string with *type*, as if it had been typed.
        value = default if default is None else str(default)
        if os.environ.get(variable):
            value = _EnvValue(os.environ[variable])
            value.variable = variable
        help = f"{help} [{shown}{variable}]"
        self.add_argument(
            flag,
            action=_StoreTyped,
            default=value,
            help=help,
            metavar=metavar,
            type=_name_variable_on_error(type),
            known=type.known if isinstance(type, Choice) else (),
        )

    def switch(self, flag: str, help: str) -> None:
        """Add an option without a value. The variable sets it with 1, true, yes or on."""
        variable = _variable(flag)
        default: object = False
        if os.environ.get(variable):
            default = _EnvValue(os.environ[variable])
            default.variable = variable
        self.add_argument(
            flag,
            action=_Switch,
            nargs=0,
            default=default,
            help=f"{help} [{variable}=1]",
            type=_name_variable_on_error(_on),
        )


def command_help(summary: str, examples: str) -> dict[str, Any]:
    """Return the keyword arguments of `add_parser` for a command's help."""
    return {
        "help": summary,
        "description": summary,
        "epilog": examples,
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }


def _variable(flag: str) -> str:
    return VARIABLE_PREFIX + flag.strip("-").replace("-", "_").upper()


def _on(value: str) -> bool:
    if value.lower() not in ON + OFF:
        raise argparse.ArgumentTypeError(f"{value!r} is not one of {', '.join(ON + OFF)}")
    return value.lower() in ON


def _name_variable_on_error(convert: Callable[[str], object]) -> Callable[[str], object]:
    """Wrap *convert*: its errors name the variable if the value comes from the environment."""

    def convert_and_name(value: str) -> object:
        try:
            return convert(value)
        except argparse.ArgumentTypeError as error:
            if isinstance(value, _EnvValue):
                raise argparse.ArgumentTypeError(f"{error} (from {value.variable})") from None
            raise

    return convert_and_name


def int_range(minimum: int, maximum: int) -> Callable[[str], int]:
    """Return a type for integers from *minimum* to *maximum*."""
    allowed = IntRange(minimum, maximum)

    def number(value: str) -> int:
        try:
            return allowed.parse(value)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return number


@dataclass(frozen=True, slots=True)
class Choice:
    """The type of options whose value is one of *known*."""

    known: tuple[str, ...]

    def __call__(self, value: str) -> str:
        """Validate *value*."""
        try:
            return parse_choice(value, self.known)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None


def name_type(value: str) -> str:
    """Validate a member's name."""
    try:
        return validate_name(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def room_type(value: str) -> str:
    """Validate a room's name."""
    try:
        return validate_room(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
