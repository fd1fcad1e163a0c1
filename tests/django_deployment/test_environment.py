"""The settings of the Django deployment: numbers and choices are checked as the options are."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from programs import ROOT

from broadcast_server.admission.int_range import IntRange
from broadcast_server.cli.options import parse_options
from django_site.configuration.environment import Environment, InvalidSetting


def invalid_setting(variable: str, value: str) -> str:
    """Return the one line that the settings print when *variable* has a value."""
    done = subprocess.run(
        [sys.executable, "-c", "import django_site.settings"],
        check=False,
        capture_output=True,
        cwd=ROOT,
        encoding="utf-8",
        env={**os.environ, variable: value},
        timeout=60,
    )
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--rate", "-5"),
        ("--rate", "1000001"),
        ("--max-joins", "0"),
        ("--max-clients", "x"),
        ("--max-clients-per-address", "0"),
        ("--max-rooms", "1e3"),
        ("--max-message-bytes", "1048576"),
        ("--max-message-bytes", "0"),
        ("--log-format", "x"),
    ],
)
def test_a_setting_has_the_bounds_of_the_option(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What an option rejects the setting rejects as well, in the same words."""
    with pytest.raises(SystemExit):
        parse_options(["start", option, value])
    reason = capsys.readouterr().err.strip().rpartition(f"argument {option}: ")[2]
    variable = "BROADCAST_" + option.strip("-").replace("-", "_").upper()
    assert invalid_setting(variable, value) == f"{variable}: {reason}"


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("BROADCAST_LOGIN", "on", "'on' is not one of optional, required"),
        ("BROADCAST_DEAD", "nan", "nan is not between 1 and 3600"),
        ("BROADCAST_DEAD", "0", "0 is not between 1 and 3600"),
        ("BROADCAST_DEAD", "soon", "'soon' is not a number"),
    ],
)
def test_a_setting_without_an_option_is_checked(variable: str, value: str, reason: str) -> None:
    """Settings that only the Django deployment has are checked in the same way."""
    assert invalid_setting(variable, value) == f"{variable}: {reason}"


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (lambda env: env.number("SET", IntRange(1, 9), 5), 7),
        (lambda env: env.number("EMPTY", IntRange(1, 9), 5), 5),
        (lambda env: env.number("NOT_SET", IntRange(1, 9), 5), 5),
        (lambda env: env.seconds("SET", 1, 9, 5.0), 7.0),
        (lambda env: env.seconds("EMPTY", 1, 9, 5.0), 5.0),
        (lambda env: env.choice("SET", ("5", "7")), "7"),
        (lambda env: env.choice("EMPTY", ("5", "7")), "5"),
    ],
)
def test_a_variable_that_is_empty_counts_as_not_set(
    read: Callable[[Environment], object], expected: object
) -> None:
    """A valid value is taken, and an empty one is as good as none: the options do the same."""
    env = Environment({"SET": "7", "EMPTY": ""})
    assert read(env) == expected


def test_bounds_include_their_ends() -> None:
    """The smallest and the largest number are allowed, and the next ones are not."""
    variables: dict[str, str] = {}
    env = Environment(variables)
    for value in ("1", "9"):
        variables["N"] = value
        assert env.number("N", IntRange(1, 9), 5) == int(value)
        assert env.seconds("N", 1, 9, 5.0) == float(value)
    for value in ("0", "10"):
        variables["N"] = value
        for read in (lambda: env.number("N", IntRange(1, 9), 5), lambda: env.seconds("N", 1, 9, 5)):
            with pytest.raises(InvalidSetting, match=f"N: {value} is not between 1 and 9"):
                read()
