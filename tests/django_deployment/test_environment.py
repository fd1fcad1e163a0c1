"""The settings of the Django deployment: numbers and choices are checked as the options are."""

from __future__ import annotations

import json
import os
import runpy
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from programs import ROOT

from broadcast_server.admission.int_range import IntRange
from broadcast_server.cli.options import parse_options
from django_site.configuration.environment import Environment
from django_site.configuration.startup_failure import FINAL, StartupFailure

SETTINGS = str(ROOT / "django_site" / "settings.py")


def failure(variables: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Return why a process of the site does not start with *variables*, "" if it starts."""
    for name in [each for each in os.environ if each.startswith("BROADCAST_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    try:
        runpy.run_path(SETTINGS)
    except StartupFailure as failure:
        return str(failure) if failure.code == FINAL else f"exit code {failure.code}"
    return ""


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
    option: str,
    value: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """What an option rejects the setting rejects as well, in the same words."""
    with pytest.raises(SystemExit):
        parse_options(["start", option, value])
    reason = capsys.readouterr().err.strip().rpartition(f"argument {option}: ")[2]
    variable = "BROADCAST_" + option.strip("-").replace("-", "_").upper()
    variables = {"BROADCAST_DATA": str(tmp_path), variable: value}
    assert failure(variables, monkeypatch) == f"{variable}: {reason}"
    assert capsys.readouterr().err == f"{variable}: {reason}\n"


URL_IS = "in a user name or a password, write # / ? @ and % as %23 %2F %3F %40 and %25"
SERVER = "(smtp+tls://USER:PASSWORD@HOST:587)"
REDIS_FORMS = "(redis://:PASSWORD@HOST:6379/0, unix:///the/path, or redis+sentinel://:PASSWORD@HOST:26379,HOST:26379/MASTER)"

BAD: dict[str, dict[str, str | None]] = {
    "DATABASE_URL": {
        **{
            f"postgres://{part}": "it has a % without two hexadecimal digits after it (in a user"
            " name or a password, write # / ? @ and % as %23 %2F %3F %40 and %25)"
            for part in ("u:%ZZhush@h/n", "u:hush%@h/n", "u:hush%4@h/n", "u@h/%n", "u@h/n?a=%-1")
        },
        "postgres://u:hush@h/d?CONN_MAX_AGE=x": "CONN_MAX_AGE in its query is not a number from 0 to 1000000, or none",  # noqa: E501
        "postgres://u:hush@h/d?conn_max_age=-1": None,
        "postgres://u:hush@h/d?CONN_MAX_AGE=1_0": None,
        "postgres://u:hush@h/d?conn_health_checks=maybe": "CONN_HEALTH_CHECKS in its query is not one of yes, no",  # noqa: E501
        "postgres://u:hush@h/d?disable_server_side_cursors=2": None,
        "postgres://u:hush@h/d?CONN_MAX_AGE=1&conn_max_age=2": "its query has an option twice",
        "postgres://u:hush@h/d?sslmode=require&sslmode=disable": "its query has an option twice",
        "postgres://u:hush@h/d?foo=hush": None,
        "postgres://u:hush@h/d?hush": None,
        "postgres://u:hush@h/d?pool=true": None,
        "postgres://u:hush@h/d?isolation_level=serializable": None,
        "postgres://u:hush@h/d?sslmode=bogus": "sslmode in its query is not one of libpq's values",
        "postgres://u:hush@h/d?gssencmode=bogus": None,
        "postgres://u:hush@h/d?target_session_attrs=bogus": None,
        "postgres://u:hush@h/d?connect_timeout=x": "connect_timeout in its query is not a number from 0 to 2147483647",  # noqa: E501
        "postgres://u:hush@h/d?keepalives=yes": None,
        "postgres://u:hush@h/d?prepare_threshold=x": None,
        "postgres://u:hush@h/d?server_side_binding=x": None,
        "postgres://u:hush@h/d?dbname=e": "it names two databases",
        "postgres://u:hush@h/d/hush": "the name of its database has a / in it",
        "postgres://u:hush@h h/d": f"its host and port are not valid ({URL_IS})",
        "postgres://u:hush@h1:1,h2:x/d": None,
        "postgres://u:hush@h/d#hush": f"it has an unencoded character ({URL_IS})",
        "postgres://u:hush?x@h/d": f"it has an unencoded character ({URL_IS})",
        "postgres://u:hush/x@h/d": f"it has an unencoded character ({URL_IS})",
        "postgres://u:1/hush@h/d": None,
        "postgres://u:hush:x": None,
        "postgis://u:hush@h/d": "an address begins with postgres:// or postgresql:// or sqlite://",
        "postgres:u:hush@h/d": None,
        "postgres//u:hush@h/d": None,
        "postgres://u:hush@h/d\nx": "it has a line break or another control character in it",
        "postgres://u:hush\udcff@h/d": "it is not UTF-8",
        "sqlite:////tmp?foo=bar": None,
        "sqlite:////tmp/x?timeout=x": "timeout in its query is not a number of seconds up to 3600",
        "sqlite:////tmp/x?timeout=nan": None,
        "sqlite:////tmp/x?timeout=1_0": None,
        "sqlite:////tmp/x?transaction_mode=fast": "transaction_mode in its query is not one of deferred, immediate, exclusive",  # noqa: E501
        "sqlite:////tmp": "its file is a folder (sqlite:////the/path has four slashes)",
        "sqlite:////nonexistent/x": "its file is in no folder that exists (sqlite:////the/path has four slashes)",  # noqa: E501
        "sqlite://tmp/x": "it names no file (sqlite:////the/path has four slashes)",
    },
    "REDIS_URL": {
        "http://h": "an address begins with redis:// or rediss:// or unix:// or redis+sentinel:// or rediss+sentinel://",  # noqa: E501
        "localhost:6379": None,
        "redis://:hush@h:99999": "its port is not between 1 and 65535",
        "redis://:hush@h:x": f"its host and port are not valid ({URL_IS})",
        "redis://:hush@h:0": None,
        "redis://:hush@h/x": f"it names no Redis {REDIS_FORMS}",
        "redis://:hush@h/-1": None,
        "redis://:hush@h/0/1": None,
        "redis://:hush@h/9999999999": None,
        "redis://:hush@h?db=x": "db in its query is not a number from 0 to 999999999",
        "redis://:hush@h?db=-1": None,
        "redis://": f"it names no Redis {REDIS_FORMS}",
        "redis://:hush@h,i": f"it names several hosts, which are for Sentinels {REDIS_FORMS}",
        "redis://:@h": "its password is set and empty (leave out the colon if it has none)",
        "redis://:hu#sh@h": None,
        "redis://:hush@h?foo=hush": None,
        "redis://:hush@h?protocol=9": "protocol in its query is not a number from 2 to 3",
        "redis://:hush@h?retry=1": None,
        "redis://:hush@h?encoding=bogus": None,
        "redis://:hush@h?decode_responses=yes": None,
        "redis://:hush@h?socket_timeout=x": None,
        "redis://:hush@h?max_connections=0": None,
        "redis://:hush@h?ssl_cert_reqs=none": None,
        "rediss://:hush@h?ssl_cert_reqs=bogus": "ssl_cert_reqs in its query is not one of none, optional, required",  # noqa: E501
        "rediss://:hush@h?ssl_ca_certs=/nonexistent": "ssl_ca_certs in its query is not the path of a file",  # noqa: E501
        "unix://x": None,
        "redis+sentinel://:hush@h": f"it names no master or no Sentinel {REDIS_FORMS}",
        "redis+sentinel://:hush@h,/main": None,
        "redis+sentinel://:hush@h/main/x": None,
        "redis+sentinel://:hush@h:1,i:x/main": None,
        "redis+sentinel://:hush@h/main?sentinel_password=": None,
    },
    "EMAIL_URL": {
        "smtp://h?timeout=x": "timeout in its query is not a number of seconds up to 600",
        "smtp://h?timeout=0": None,
        "smtp://h?foo=bar": "option 1 of its query is unknown (it may have timeout)",
        "smtp://h/path": f"it has a path after its host {SERVER}",
        "smtp://u@h": f"it lacks the password {SERVER}",
        "smtp://:hush@h": f"it lacks the user name {SERVER}",
        "smtp://": f"it names no host {SERVER}",
        "smtp://u:hush@h:0": "its port is not between 1 and 65535",
        "smtp://u:hush?x@h": None,
        "smtp://h,i": None,
        "smtp:h": None,
        "mailgun://k:hush@d": None,
        "consolemail://x": "it is not of the form consolemail://",
        "consolemail://?x=1": "option 1 of its query is unknown (it may have none)",
        "filemail://": "it is not of the form filemail:////the/folder",
        "filemail://tmp/x": None,
        "filemail:////nonexistent": "its folder does not exist (filemail:////the/folder)",
    },
    "DEFAULT_FROM_EMAIL": {
        "x": "'x' is not a mail address (Chat <chat@example.org> is one)",
        "a@b, c@d": None,
        "a@b c": None,
        "a@b\nBcc: c@d": "it has a line break or another control character in it",
    },
    "ALLOWED_HOSTS": {
        "http://x": "http://x is not a host name (write HOST, .DOMAIN or *, without a port)",
        ",,": ",, names no host (write HOST, .DOMAIN or *)",
        "a b": None,
        "a:80": "a:80 is not a host name (write HOST, .DOMAIN or *, without a port)",
        "a/b": None,
        "*.x": None,
        "x,http://y": "http://y is not a host name (write HOST, .DOMAIN or *, without a port)",
        "..": None,
        "a;b": None,
        "x..y": None,
        "::1": None,
        "[::g]": None,
        "ä.example": None,
    },
    "BROADCAST_DEAD": {
        "1_0": "'1_0' is not a number",
        "1e1": "'1e1' is not a number",
        "٣": "'٣' is not a number",
        "nan": "'nan' is not a number",
        "soon": "'soon' is not a number",
        "5 s": None,
        "0": "0 is not between 1 and 3600",
        "-5": "-5 is not between 1 and 3600",
        "3601": "3601 is not between 1 and 3600",
    },
    "BROADCAST_KEEP_DAYS": {"-1": "-1 is not between 0 and 36500", "1.5": None},
    "BROADCAST_RATE": {
        "-1": "-1 is not between 0 and 1000000",
        "1_0": None,
        "1.0": None,
    },
    "BROADCAST_DB_CONNECTIONS": {"1": "1 is not between 2 and 1000", "1001": None},
    "BROADCAST_LOGIN": {
        "on": "'on' is not one of optional, required",
        "Required": None,
    },
    "BROADCAST_LOG_FORMAT": {"xml": "'xml' is not one of text, json"},
    "BROADCAST_TLS": {
        "2": "'2' is not one of yes, no",
        "ture": "'ture' is not one of yes, no",
        "enabled": None,
    },
    "DEBUG": {"maybe": "'maybe' is not one of yes, no"},
    "TIME_ZONE": {
        "Mars/Olympus": "'Mars/Olympus' is not a time zone (Europe/Berlin is one)",
        "../etc/passwd": None,
        "/etc/localtime": None,
    },
    "BROADCAST_TRUSTED_PROXY": {
        "127.0.0.1, nginx": "'nginx' is not an address, a network or unix, nor yes or no",
        "127.0.0.1:80": None,
        ",,": "',,' is not an address, a network or unix, nor yes or no",
        "*": None,
    },
    "BROADCAST_ALLOW_ORIGIN": {
        "*": "* is not a web origin (write https://HOST or http://HOST:PORT, without a path)",
        ",,": None,
        "null": None,
    },
    "BROADCAST_PUBLIC_URL": {
        **{
            url: f"{url!r} is not an address (https://HOST/ or https://HOST:PORT/PREFIX/)"
            for url in (
                "chat.example.org",
                "ftp://a",
                "wss://a/",
                "https://",
                "https://a:0/",
                "https://a b/",
                "https://a:99999/",
                "https://a/?x",
                "https://a/#x",
                "https://a//",
                "https://a/b//c/",
                "https://a/../b/",
                "https://a/%2F/",
                "https://[::g]/",
                "https://*/",
                "https://a:/",
                "http://a\\b/",
            )
        },
        "https://u:hush@a/": "'...@a/' is not an address"
        " (https://HOST/ or https://HOST:PORT/PREFIX/)",
        "https://a/\r\nb": None,
    },
    "BROADCAST_DATA": {
        "/nonexistent": "/nonexistent: no such file or directory (name a folder)",
        "/dev/null": "/dev/null: not a directory (name a folder)",
        "/proc": "/proc: no file can be created in it, no such file or directory",
        "/tmp/\udcff": "it is not UTF-8",
    },
    "SECRET_KEY": {
        "": "it is set and empty, a secret may be missing (give it a value, or unset it)",
        "hush\nhush": "it has a line break or another control character in it",
    },
    "BROADCAST_TOKEN": {
        "": "it is set and empty, a secret may be missing (give it a value, or unset it)",
        " ": None,
        "hush hush": "a token is one line of visible ASCII characters",
        "hush" * 300: "it is too long, a token is 1 to 1024 characters",
    },
    "BROADCAST_TOKEN_FILE": {
        " ": "it is set and empty, a secret may be missing (give it a value, or unset it)",
        "/nonexistent": "token file /nonexistent: no such file or directory (check the path)",
        "/tmp": None,
        "/dev/null": None,
    },
}
"""Values that a setting cannot have. With the reason, or None where another value shows it."""


@pytest.mark.parametrize(
    ("variable", "value"), [(variable, value) for variable in BAD for value in BAD[variable]]
)
def test_a_bad_setting_ends_the_start(
    variable: str,
    value: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """There is one line, with the name of the variable and without a secret."""
    found = failure({"BROADCAST_DATA": str(tmp_path), variable: value}, monkeypatch)
    reason = BAD[variable][value]
    assert found == f"{variable}: {reason}" if reason else found.startswith(f"{variable}: ")
    assert capsys.readouterr().err == f"{found}\n"
    assert "hush" not in found and "\n" not in found


def test_a_wildcard_needs_the_public_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where any host is allowed, a request could choose the host of a link in a mail."""
    variables = {
        "BROADCAST_DATA": str(tmp_path), "EMAIL_URL": "consolemail://", "ALLOWED_HOSTS": "*",
    }  # fmt: skip
    reason = "ALLOWED_HOSTS is *, so a mail could link anywhere: set BROADCAST_PUBLIC_URL"
    assert failure(variables, monkeypatch) == reason


GOOD = {
    "DATABASE_URL": (
        "",
        "postgres://h/d?CONN_MAX_AGE=none&conn_health_checks=false&sslmode=require",
        "postgres://u:a%2Fb%3Fc%23d%40e@h1:1,h2/d?target_session_attrs=read-write",
        "postgres://h?dbname=d&options=-c%20work_mem%3D1MB&keepalives=1&assume_role=chat",
        "postgres:///?service=chat",
        "sqlite:////tmp/x?timeout=20&transaction_mode=IMMEDIATE",
    ),
    "REDIS_URL": (
        "",
        "redis://u:a%2Fb%3Fc@[::1]:6379/3?health_check_interval=30&socket_timeout=5",
        "rediss://h?ssl_cert_reqs=none&ssl_ca_certs=/dev/null",
        "unix:///run/redis?db=1",
    ),
    "EMAIL_URL": ("", "smtp+tls://u:hush@h:587?timeout=30", "consolemail://", "filemail:////tmp"),
    "DEFAULT_FROM_EMAIL": ("", "chat@localhost", "The Chat <chat@example.org>"),
    "ALLOWED_HOSTS": ("", "a.example", "a.example, b.example ,", ".example.org", "*", "[::1]"),
    "BROADCAST_PUBLIC_URL": (
        "",
        "https://a",
        "http://a.example:8000/",
        "HTTPS://[::1]:443/chat/room/",
        "https://a./b",
    ),
    "BROADCAST_DEAD": ("", "1", " 2.5 ", "3600"),
    "BROADCAST_TLS": ("", "yes", "TRUE", "off"),
    "BROADCAST_TRUSTED_PROXY": ("", "yes", "10.0.0.0/8, unix"),
    "TIME_ZONE": ("", "Europe/Berlin"),
    "BROADCAST_TOKEN": ("hush\n",),
}
"""Values that a setting can have."""


@pytest.mark.parametrize(
    ("variable", "value"), [(variable, value) for variable in GOOD for value in GOOD[variable]]
)
def test_a_good_setting_is_taken(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What the documentation says that a setting may have is no error."""
    assert failure({"BROADCAST_DATA": str(tmp_path), variable: value}, monkeypatch) == ""


@pytest.mark.parametrize("variable", ["BROADCAST_TOKEN", "BROADCAST_TOKEN_FILE"])
def test_settings_that_exclude_each_other(
    variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The error has the variable that was set."""
    token = tmp_path / "token"
    token.write_text("s3cret")
    value = str(token) if variable.endswith("FILE") else "s3cret"
    variables = {variable: value, "BROADCAST_LOGIN": "required", "BROADCAST_DATA": str(tmp_path)}
    found = failure(variables, monkeypatch)
    assert found == (
        f"{variable} is for guests, and BROADCAST_LOGIN=required admits none: unset one of them"
    )


def test_a_failure_has_the_format_of_the_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With BROADCAST_LOG_FORMAT=json, the line is JSON as all others are."""
    failure({"BROADCAST_LOG_FORMAT": "json", "BROADCAST_DATA": "/nonexistent"}, monkeypatch)
    line = json.loads(capsys.readouterr().err)
    assert (line["level"], line["text"].partition(":")[0]) == ("critical", "BROADCAST_DATA")


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
            with pytest.raises(StartupFailure, match=f"N: {value} is not between 1 and 9"):
                read()


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("BROADCAST_RAET", "BROADCAST_RATE"),
        ("BROADCAST_TRUSTED_PROXIES", "BROADCAST_TRUSTED_PROXY"),
        ("BROADCAST_MAX_CLIENT", "BROADCAST_MAX_CLIENTS"),
        ("ALLOWED_HOST", "ALLOWED_HOSTS"),
        ("BROADCAST_TLSS", "BROADCAST_TLS"),
        ("DATABASE_URI", "DATABASE_URL"),
        ("BROADCAST_RATE", None),
        ("BROADCAST_LOG", None),  # a client and a server of the standalone program have these
        ("BROADCAST_PORT", None),
        ("BROADCAST_URL", None),
        ("BROADCAST_SERVICE_PORT", None),
        ("LANG", None),
    ],
)
def test_a_misspelled_variable_is_named(name: str, setting: str | None) -> None:
    """A variable that is almost a setting is an oversight; others may be for something else."""
    env = Environment({name: "5"})
    known_names = "RATE MAX_CLIENTS TLS LOGIN DATA DEAD TOKEN LOG_FORMAT TRUSTED_PROXY"
    for known in known_names.split():
        env.text(f"BROADCAST_{known}")
    for known in ("ALLOWED_HOSTS", "DATABASE_URL", "DEBUG"):
        env.secret(known)
    assert env.misspelled() == ({name: setting} if setting else {})
