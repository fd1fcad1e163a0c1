"""The environment: settings from its variables, each value exactly as it was set.

Nothing in a value is special: no reference to another variable, no quotes, no escapes. A value that
cannot be used ends the process with one line that has the variable's name and the remedy. The line
of a secret does not contain the value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from broadcast_server.admission.int_range import IntRange, parse_choice

from .startup_failure import end_start

YES = ("yes", "y", "true", "on", "ok", "1")
NO = ("no", "n", "false", "off", "0")

_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


class Environment:
    """Reads settings from *variables*. An empty variable is an unset one, but for secrets."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self._read: set[str] = set()

    def text(self, name: str, default: str = "") -> str:
        """Return a setting without the white space around it."""
        self._read.add(name)
        value = self._variables.get(name, "").strip()
        if not value:
            return default
        _check_characters(name, value)
        return value

    def choice(self, name: str, known: tuple[str, ...]) -> str:
        """Return one of *known*, the first of them by default."""
        try:
            return parse_choice(self.text(name, known[0]), known)
        except ValueError as error:
            end_start(f"{name}: {error}")

    def flag(self, name: str, default: bool) -> bool:
        """Return whether a setting is yes or no."""
        value = self.text(name).lower()
        if value and value not in YES + NO:
            end_start(f"{name}: {value!r} is not one of yes, no")
        return value in YES if value else default

    def number(self, name: str, allowed: IntRange, default: int) -> int:
        """Return a whole number that is *allowed*."""
        value = self.text(name)
        try:
            return allowed.parse(value) if value else default
        except ValueError as error:
            end_start(f"{name}: {error}")

    def seconds(self, name: str, minimum: int, maximum: int, default: float) -> float:
        """Return a duration in seconds, from *minimum* to *maximum*."""
        value = self.text(name)
        if not value:
            return default
        # `float` also accepts 1_0, 1e1, nan and the digits of all scripts.
        if not _SECONDS.fullmatch(value.removeprefix("-")):
            end_start(f"{name}: {value!r} is not a number")
        seconds = float(value)
        if not minimum <= seconds <= maximum:
            end_start(f"{name}: {seconds:g} is not between {minimum} and {maximum}")
        return seconds

    def secret(self, name: str) -> str | None:
        """Return a secret, None if it is not set. It may end with a line break, as of a file.

        A secret that is set and empty is an error: it may come from a file or a variable that is
        missing, and without it the site would be open.
        """
        self._read.add(name)
        value = self._variables.get(name)
        if value is None:
            return None
        value = value.rstrip("\r\n")
        if not value.strip():
            reason = "it is set and empty, a secret may be missing"
            end_start(f"{name}: {reason} (give it a value, or unset it)")
        _check_characters(name, value)
        return value

    def misspelled(self) -> dict[str, str]:
        """Return variables that nobody has read but almost, by name, with the name of the setting.

        Any other variable may belong to a client, or to a service of the same name.
        """
        return {
            name: setting
            for name in self._variables
            for setting in self._read
            if name not in self._read
            and (_singular(name) == setting or _differ_by_a_slip(name, setting))
        }


def _singular(name: str) -> str:
    return f"{name[:-3]}Y" if name.endswith("IES") else name


def _differ_by_a_slip(one: str, other: str) -> bool:
    """Tell whether two names differ by one letter, or by two that are interchanged."""
    short, long = sorted((one, other), key=len)
    if len(long) == len(short):
        places = [place for place in range(len(long)) if long[place] != short[place]]
        first, last = places[0], places[-1]
        swapped = long[first] == short[last] and long[last] == short[first]
        return len(places) == 1 or (len(places) == 2 and last == first + 1 and swapped)
    return any(long[:place] + long[place + 1 :] == short for place in range(len(long)))


def _check_characters(name: str, value: str) -> None:
    """End the process if *value* has a control character, or was not text."""
    if any(char < " " or char == "\x7f" for char in value):
        end_start(f"{name}: it has a line break or another control character in it")
    try:
        value.encode()
    except UnicodeEncodeError:  # the system passes on bytes that are not UTF-8 as surrogates
        end_start(f"{name}: it is not UTF-8")
