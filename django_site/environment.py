"""The environment: settings of the site from environment variables, checked like the options.

The standalone server has the same limits as options, with the same ranges and the same errors.
"""

from __future__ import annotations

import math

import environ
from django.core.exceptions import ImproperlyConfigured

from broadcast_server.admission.int_range import IntRange, parse_choice


class Environment(environ.Env):  # type: ignore[misc]  # it has no types
    """The environment variables of the process. An empty one counts as not set.

    All methods raise ImproperlyConfigured, which names the variable and what is wrong with it.
    """

    def number(self, variable: str, allowed: IntRange, default: int) -> int:
        """Return a whole number in the range *allowed*."""
        value = self.ENVIRON.get(variable)
        if not value:
            return default
        try:
            return allowed.parse(value)
        except ValueError as error:
            raise _invalid(variable, error) from None

    def seconds(self, variable: str, minimum: float, maximum: float, default: float) -> float:
        """Return a number of seconds from *minimum* to *maximum*."""
        value = self.ENVIRON.get(variable)
        if not value:
            return default
        try:
            seconds = float(value)
        except ValueError:
            raise _invalid(variable, f"{value!r} is not a number") from None
        if math.isnan(seconds) or not minimum <= seconds <= maximum:
            raise _invalid(variable, f"{value} is not between {minimum:g} and {maximum:g}")
        return seconds

    def choice(self, variable: str, known: tuple[str, ...]) -> str:
        """Return one of *known*, of which the first is the default."""
        try:
            return parse_choice(self.ENVIRON.get(variable) or known[0], known)
        except ValueError as error:
            raise _invalid(variable, error) from None


def _invalid(variable: str, reason: object) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"{variable}: {reason}")
