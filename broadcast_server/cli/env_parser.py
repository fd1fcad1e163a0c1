"""The environment parser: an argparse parser whose options have environment variables as well.

It also has the types of option values. The options themselves are in `options` and
`client_options`.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from broadcast_server.admission.int_range import IntRange, parse_choice
from broadcast_server.console.argument import argument_text
from broadcast_server.protocol.names import room_from_text, validate_name, validate_room
from broadcast_server.protocol.userinfo import without_typed_userinfo

from .usage import usage_error

VARIABLE_PREFIX = "BROADCAST_"

ON = ("1", "true", "yes", "on")
OFF = ("0", "false", "no", "off")


_SERVICE_LINKS = {
    f"{VARIABLE_PREFIX}PORT": re.compile("(?:tcp|udp|sctp)://"),
    f"{VARIABLE_PREFIX}NAME": re.compile("/[^/]+/broadcast$"),
}
"""Values that are set for each container beside a service that is called `broadcast`: by Kubernetes
the address of its port, and by Docker's links also a name. Nobody meant them for us."""


def variable_value(variable: str) -> str:
    """Return the value of an environment variable of ours, empty if it is unset or means nothing.

    A line break at its end is no part of it, as in a file.
    """
    value = os.environ.get(variable, "").rstrip("\r\n")
    link = _SERVICE_LINKS.get(variable)
    return "" if not value.strip() or (link is not None and link.match(value)) else value


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
    """A parser whose options can be set by environment variables; `variable_value` reads them.

    The variable of ``--some-option`` is ``BROADCAST_SOME_OPTION``. Options cannot be abbreviated:
    an abbreviation would get another meaning when an option is added.
    """

    def __init__(self, **options: Any) -> None:
        self._help_width: int | None = 80
        super().__init__(**options, allow_abbrev=False, formatter_class=self._formatter)
        self._typed: list[str] = []
        self.troubles: list[str] | None = None
        """If this is a list, a variable with an invalid value is no error, but added to it."""

    def _formatter(self, prog: str) -> argparse.HelpFormatter:
        """Make a formatter: argparse makes one for each option, too, only to check its metavar.

        Not to ask for the width of the terminal each time saves 3 ms of a start.
        """
        return argparse.RawDescriptionHelpFormatter(prog, width=self._help_width)

    def format_help(self) -> str:
        """Return the help, as wide as the terminal."""
        self._help_width = None
        return super().format_help()

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse *args*, and remember them for `error`."""
        self._typed = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(self._typed, namespace)

    def error(self, message: str) -> NoReturn:
        """Print the error alone, in the form of our own: the usage would push it out of sight.

        argparse quotes what was typed, which may be an address with a password.
        """
        text = without_typed_userinfo(message, self._typed)
        if not message.startswith("argument "):  # those say which values there are
            text += f" (see {self.prog} --help)"
        self.exit(usage_error(self.get_default("command"), text))

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
        if found := variable_value(variable):
            value = _EnvValue(found)
            value.variable = variable
        help = f"{help} [{shown}{variable}]"
        self.add_argument(
            flag,
            action=_StoreTyped,
            default=value,
            help=help,
            metavar=metavar,
            type=self._converting(flag, type, default),
            known=type.known if isinstance(type, Choice) else (),
        )

    def switch(self, flag: str, help: str) -> None:
        """Add an option without a value. The variable sets it with 1, true, yes or on."""
        variable = _variable(flag)
        default: object = False
        if found := variable_value(variable):
            default = _EnvValue(found)
            default.variable = variable
        self.add_argument(
            flag,
            action=_Switch,
            nargs=0,
            default=default,
            help=f"{help} [{variable}=1]",
            type=self._converting(flag, _on, False),
        )

    def _converting(
        self, flag: str, convert: Callable[[str], object], default: object
    ) -> Callable[[str], object]:
        """Wrap *convert*: its errors name the variable if the value comes from the environment."""

        def convert_and_name(value: str) -> object:
            try:
                return convert(value)
            except argparse.ArgumentTypeError as error:
                if not isinstance(value, _EnvValue):
                    raise
                text = f"{error} (from {value.variable})"
                if self.troubles is None:
                    raise argparse.ArgumentTypeError(text) from None
                self.troubles.append(f"{flag}: {text}")
                return default

        return convert_and_name


class Command(NamedTuple):
    """A command, as the help shows it."""

    summary: str
    epilog: str
    """Examples."""
    add_options: Callable[[EnvParser], None]


def _variable(flag: str) -> str:
    return VARIABLE_PREFIX + flag.strip("-").replace("-", "_").upper()


def _on(value: str) -> bool:
    if value.lower() not in ON + OFF:
        raise argparse.ArgumentTypeError(f"{value!r} is not one of {', '.join(ON + OFF)}")
    return value.lower() in ON


def int_range(minimum: int, maximum: int) -> Callable[[str], int]:
    """Return a type for integers from *minimum* to *maximum*."""
    allowed = IntRange(minimum, maximum)

    def number(value: str) -> int:
        try:
            return allowed.parse(value)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return number


class Choice:
    """The type of options whose value is one of *known*."""

    def __init__(self, known: tuple[str, ...]) -> None:
        self.known = known

    def __call__(self, value: str) -> str:
        """Validate *value*."""
        try:
            return parse_choice(value, self.known)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None


def name_type(value: str) -> str:
    """Validate a member's name."""
    try:
        return validate_name(argument_text(value, "strict"))
    except UnicodeDecodeError:
        raise argparse.ArgumentTypeError("name is not valid UTF-8") from None
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def room_type(value: str) -> str:
    """Validate a room's name."""
    try:
        return validate_room(room_from_text(argument_text(value)))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
