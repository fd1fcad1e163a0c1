"""The command line: usage errors, options and variables, streams, signals, exit codes."""

from __future__ import annotations

import array
import fcntl
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import termios
import threading
from contextlib import suppress
from functools import reduce
from pathlib import Path

import pytest
from programs import Running, assert_quiet, running, shell, until
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from broadcast_server.cli.main import main
from broadcast_server.cli.options import parse_options
from broadcast_server.cli.start import settings_of
from broadcast_server.cli.target_option import target_from_options
from broadcast_server.protocol.messages import SUBPROTOCOL
from broadcast_server.server.settings import Settings

ROOMS = itertools.count()


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove environment variables that would set options."""
    for name in list(os.environ):
        if name.startswith("BROADCAST_") or name == "COLUMNS":
            monkeypatch.delenv(name)


# -- usage --


def test_version_names_the_libraries(capsys: pytest.CaptureFixture[str]) -> None:
    """``--version`` prints the versions of the program, its libraries and Python."""
    assert main(["--version"]) == 0
    pattern = r"broadcast-server \d+\.\d+\.\d+ \(websockets \S+, h11 \S+, .*; Python 3\.\S+\)\n"
    assert re.fullmatch(pattern, capsys.readouterr().out)


@pytest.mark.parametrize("command", [[], ["start"], ["connect"], ["send"], ["run"]])
@pytest.mark.parametrize("columns", ["12", "80", "300"])
def test_help_has_examples(
    command: list[str],
    columns: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``--help`` shows examples, in a window of any width."""
    monkeypatch.setenv("COLUMNS", columns)
    assert main([*command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"examples:\n  {' '.join(['broadcast-server', *command])} " in shown


def test_the_jq_example_prints_texts_only(capsys: pytest.CaptureFixture[str]) -> None:
    """The example of --json selects the messages; other events have no text."""
    assert main(["connect", "--help"]) == 0
    example = """--listen --json |\n      jq -r 'select(.type=="message").text'\n"""
    assert example in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "room"),
    [("connect", "room to join"), ("send", "room to publish in"), ("run", "room to publish in")],
)
def test_what_the_room_is_for(
    command: str, room: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only ``connect`` joins its room; ``send`` and ``run`` publish in it without joining."""
    monkeypatch.setenv("COLUMNS", "200")
    assert main([command, "--help"]) == 0
    assert f"{room} (default: lobby) [BROADCAST_ROOM]" in capsys.readouterr().out


def test_a_typed_port_overrides_the_variable_of_a_unix_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is typed takes precedence over a variable, also over one of another option."""
    monkeypatch.setenv("BROADCAST_UNIX", "/x")
    assert settings_of(parse_options(["start"])).unix == Path("/x")
    assert settings_of(parse_options(["start", "--port", "0"])).unix is None
    with pytest.raises(ValueError, match="--unix cannot be combined"):
        settings_of(parse_options(["start", "--port", "0", "--unix", "/x"]))


def test_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a command, the help goes to standard error, and the exit code is 2."""
    assert main([]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "examples:" in shown.err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["dance"], "invalid choice: 'dance'"),
        (["start", "--port", "/tmp/x"], "--port: '/tmp/x' is not a whole number"),
        (["start", "--port", "70000"], "--port: 70000 is not between 0 and 65535"),
        (["start", "--port", "-1"], "--port: "),
        (["start", "--grace", "soon"], "--grace: 'soon' is not a whole number"),
        (
            ["start", "--public-url", "ftp://h/"],
            "--public-url: ftp://h/ is not a valid address: scheme is",
        ),
        (["start", "--port", "\u0661"], "--port: '\u0661' is not a whole number"),
        (["start", "--port", "1_0"], "--port: '1_0' is not a whole number"),
        (["start", "--port", "9" * 5000], "is not a whole number"),
        (["start", "--allow-origin", "*"], "--allow-origin: * is not a web origin (write https://"),
        (["start", "--allow-origin", "https://a,b"], "--allow-origin: b is not a web origin"),
        (["connect", "--port", "0"], "--port: 0 is not between 1 and 65535"),
        (["connect", "--name", "*"], "--name: name begins with *"),
        (["connect", "--name", "\udcff"], "--name: name is not valid UTF-8"),
        (["connect", "--room", "The Löbby"], "--room: room is not 1 to 64 of"),
        (["connect", "--room", "\udcff"], "--room: room is not 1 to 64 of"),
        (["connect", "--history", "-1"], "--history"),
        (["connect", "ftp://h/"], "ftp://h/ is not a valid address: scheme is ftp"),
        (["connect", "ws://h:99999/"], "ws://h:99999/ is not a valid address: port is 99999"),
        (["connect", "--host", ""], "no host"),
        (["connect", "ws://h/", "--port", "1"], "a URL cannot be combined with --host or --port"),
        (["connect", "a", "b"], "unrecognized arguments: b"),
        (["send"], "the following arguments are required: TEXT"),
        (["send", "deploy", "done"], "done is not an address of the form HOST:PORT"),
        (
            ["send", "deploy", "--name", "ci", "done"],
            "done is not an address of the form HOST:PORT",
        ),
        (["send", "deploy", "is", "done"], "unrecognized arguments: done"),
        (
            ["send", "x", "ftp://h/"],
            "broadcast-server send: error: ftp://h/ is not a valid address",
        ),
        (["send", "x", "--timeout", "0"], "--timeout: 0 is not between 1 and"),
        (["run", "--", ""], "no command given (put it after --: run -- make test)"),
        (["run"], "no command given (put it after --: run -- make test)"),
        (["run", "--"], "no command given (put it after --: run -- make test)"),
        (["run", "make", "test"], "no command given (put it after --: run -- make test)"),
        (
            ["run", "ws://h/", "--port", "1", "--", "x"],
            "a URL cannot be combined with --host or --port",
        ),
    ],
)
def test_wrong_usage(arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong usage ends with exit code 2 and the reason in the last line of standard error."""
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert reason in shown.err.splitlines()[-1]


@pytest.mark.parametrize("command", ["start", "connect", "send", "run"])
@pytest.mark.parametrize(
    "arguments",
    [["--token", "s3cret"], ["--token=s3cret"], ["x", "--port", "1", "--token", "s3cret"]],
)
def test_a_token_is_not_an_argument(
    command: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A typed token is one line of error, which has the remedy and not the token."""
    assert main([command, *arguments, *(["--", "x"] if command == "run" else [])]) == 2
    reason = "a token is not an argument: put it into a file and give --token-file FILE"
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", f"broadcast-server {command}: error: {reason}\n")


def test_a_token_before_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """A token that is typed before the command is not printed either."""
    assert main(["--token", "s3cret", "start"]) == 2
    assert capsys.readouterr().err.startswith("broadcast-server: error: a token is not an argument")


def test_what_looks_like_a_token_to_others() -> None:
    """--token belongs to the command to run if it follows the marker, or may be the text."""
    assert parse_options(["run", "--", "x", "--token", "y"]).exec == ["x", "--token", "y"]
    assert parse_options(["connect", "--exec", "x", "--token", "y"]).exec == ["x", "--token", "y"]
    assert parse_options(["send", "--", "--token"]).text == "--token"


@pytest.mark.parametrize(
    ("arguments", "unknown"),
    [
        (["start", "--tok", "s3cret"], "--tok"),
        (["start", "--tokn=s3cret"], "--tokn"),
        (["start", "--por", "1"], "--por"),
        (["send", "x", "--requir", "1"], "--requir"),
    ],
)
def test_options_are_not_abbreviated(
    arguments: list[str], unknown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An abbreviated option is an unknown one, and the error does not have its value."""
    assert main(arguments) == 2
    error = f"broadcast-server {arguments[0]}: error: unrecognized arguments: {unknown}\n"
    assert capsys.readouterr().err == error


@pytest.mark.parametrize(
    ("arguments", "program"),
    [
        (["dance"], "broadcast-server"),
        (["start", "--port", "x"], "broadcast-server start"),
        (["connect", "a", "b"], "broadcast-server connect"),
        (["connect", "ftp://h/"], "broadcast-server connect"),
        (["send"], "broadcast-server send"),
        (["completion", "tcsh"], "broadcast-server completion"),
    ],
)
def test_errors_of_the_single_file_name_the_program(
    arguments: list[str],
    program: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every usage error is one line that begins in the same way; only the remedy is as typed."""
    monkeypatch.setattr(
        "broadcast_server.cli.options.running_archive", lambda: Path("/x/broadcast-server.pyz")
    )
    assert main(arguments) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(f"{program}: error: ")
    _, _, remedy = error.partition(" (see ")
    assert not remedy or remedy.startswith("python3 broadcast-server.pyz")


@pytest.mark.parametrize(
    ("command", "variable", "value", "reason"),
    [
        ("start", "BROADCAST_PORT", "x", "--port: 'x' is not a whole number (from BROADCAST_PORT)"),
        ("start", "BROADCAST_GRACE", "x", "(from BROADCAST_GRACE)"),
        ("start", "BROADCAST_MAX_MESSAGE_BYTES", "0", "(from BROADCAST_MAX_MESSAGE_BYTES)"),
        ("start", "BROADCAST_LOG_MESSAGES", "x", "(from BROADCAST_LOG_MESSAGES)"),
        ("start", "BROADCAST_LOG_BYTES", "x", "(from BROADCAST_LOG_BYTES)"),
        ("connect", "BROADCAST_PORT", "x", "(from BROADCAST_PORT)"),
        ("connect", "BROADCAST_NAME", "/", "(from BROADCAST_NAME)"),
        ("connect", "BROADCAST_ROOM", "/", "(from BROADCAST_ROOM)"),
        ("connect", "BROADCAST_HISTORY", "x", "(from BROADCAST_HISTORY)"),
        ("connect", "BROADCAST_URL", "ftp://h/", "scheme is ftp"),
        ("connect", "BROADCAST_HOST", "a b", "ws://a b:8765/ is not a valid address"),
    ],
)
def test_a_wrong_variable_is_named(
    command: str,
    variable: str,
    value: str,
    reason: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error about an invalid value from the environment names the variable."""
    monkeypatch.setenv(variable, value)
    assert main([command]) == 2
    assert reason in capsys.readouterr().err.splitlines()[-1]


def test_defaults_are_those_of_settings() -> None:
    """The defaults of `start` are the defaults of `Settings`."""
    options = vars(parse_options(["start"]))
    settings = Settings()
    paths = {
        "allow_origin": "origins",
        "allow_host": "hosts",
        "trusted_proxy": "trusted_proxies",
        "max_clients": "limits.clients",
        "max_clients_per_address": "limits.clients_per_address",
        "max_rooms": "limits.rooms",
        "max_joins": "limits.joins",
        "rate": "limits.rate",
    }
    for option, value in options.items():
        if option not in (
            "command",
            "typed",
            "version",
            "token_file",
            "operator_file",
            "log_format",
            "open",
            "public_url",
        ):
            path = paths.get(option, option).split(".")
            assert reduce(getattr, path, settings) == value, option


def test_a_typed_host_overrides_the_url_variable(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A typed host or port overrides BROADCAST_URL."""
    monkeypatch.setenv("BROADCAST_URL", "ftp://h/")
    assert main(["connect", "--host", "a b"]) == 2
    assert "ws://a b:8765/ is not a valid address" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["start"], ["connect"], ["send", "x"], ["run", "--", "x"]])
def test_the_variables_of_a_service_called_broadcast(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kubernetes and Docker set variables that only look like ours."""
    for name, value in {
        "BROADCAST_SERVICE_HOST": "10.96.12.34",
        "BROADCAST_SERVICE_PORT": "8765",
        "BROADCAST_SERVICE_PORT_WS": "8765",
        "BROADCAST_PORT": "tcp://10.96.12.34:8765",
        "BROADCAST_PORT_8765_TCP": "tcp://10.96.12.34:8765",
        "BROADCAST_PORT_8765_TCP_PROTO": "tcp",
        "BROADCAST_PORT_8765_TCP_PORT": "8765",
        "BROADCAST_PORT_8765_TCP_ADDR": "10.96.12.34",
        "BROADCAST_NAME": "/web/broadcast",
        "BROADCAST_ENV_LANG": "C",
    }.items():
        monkeypatch.setenv(name, value)
    options = parse_options(command)
    assert (options.port, getattr(options, "name", None)) == (8765, None)
    monkeypatch.setenv("BROADCAST_PORT", "udp://10.96.12.34:8765")
    assert parse_options(command).port == 8765


@pytest.mark.parametrize("empty", ["", " ", "\n"])
def test_an_empty_variable_is_an_unset_one(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty value changes nothing, and a line break at the end is no part of a value."""
    for command in (["start"], ["connect"], ["send", "x"], ["run", "--", "x"]):
        expected = vars(parse_options(command))
        with monkeypatch.context() as variables:
            for dest in [*expected, "url", "token"]:
                variables.setenv(f"BROADCAST_{dest.upper()}", empty)
            options = parse_options(command)
            assert vars(options) == expected
            if command != ["start"]:  # a server without its token would be open
                assert target_from_options(options).token is None
    monkeypatch.setenv("BROADCAST_PORT", "9000\n")
    monkeypatch.setenv("BROADCAST_TOKEN", "s3cret\r\n")
    options = parse_options(["connect"])
    assert (options.port, target_from_options(options).token) == (9000, "s3cret")


def test_a_typed_option_overrides_its_variable(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A typed option overrides its variable, and an empty variable is ignored."""
    monkeypatch.setenv("BROADCAST_PORT", "x")
    monkeypatch.setenv("BROADCAST_NAME", "")
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["connect", "--port", "1"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("Could not connect to server at ws://127.0.0.1:1/ ")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("0.0.0.0.invalid", "ws://0.0.0.0.invalid:8765/"),
        ("ws://0.0.0.0.invalid", "ws://0.0.0.0.invalid:80/"),
        ("https://0.0.0.0.invalid/chat/", "wss://0.0.0.0.invalid:443/chat/"),
    ],
)
def test_the_port_of_an_address_without_one(
    address: str, shown: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host alone has the server's default port, a URL that of its scheme; errors name it."""
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["connect", address]) == 1
    assert main(["send", "hi", address if "/" in address else f"{address}/"]) == 1
    connect, *_, send = capsys.readouterr().err.splitlines()
    assert connect.startswith(f"Could not connect to server at {shown} (")
    assert send.startswith(f"not sent: Could not connect to server at {shown} (")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no such file or directory (check the path)"),
        (b" \n", "it is empty, a token is 1 to 1024 characters"),
        (b"x" * 2000, "it is too long, a token is 1 to 1024 characters"),
        (b"one\ntwo\n", "a token is one line of visible ASCII characters"),
        (b"gr\xc3\xbc\xc3\x9fe", "a token is one line of visible ASCII characters"),
    ],
    ids=["missing", "empty", "long", "two lines", "not ASCII"],
)
@pytest.mark.parametrize("typed", [True, False])
def test_an_invalid_token_file(
    content: bytes | None,
    reason: str,
    typed: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error about an invalid token file has its name, and not its content."""
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    if not typed:
        monkeypatch.setenv("BROADCAST_TOKEN_FILE", str(path))
    assert main(["connect", *(["--token-file", str(path)] if typed else [])]) == 2
    error = capsys.readouterr().err
    assert error == f"broadcast-server connect: error: token file {path}: {reason}\n"


def test_an_invalid_token_variable(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error about an invalid BROADCAST_TOKEN does not contain the value."""
    monkeypatch.setenv("BROADCAST_TOKEN", "pass word")
    assert main(["connect"]) == 2
    error = capsys.readouterr().err
    assert error.endswith("BROADCAST_TOKEN: a token is one line of visible ASCII characters\n")


@pytest.mark.parametrize(
    ("options", "variables", "problem"),
    [
        ([], {"BROADCAST_TOKEN": ""}, "BROADCAST_TOKEN is set and empty"),
        ([], {"BROADCAST_TOKEN": " \n"}, "BROADCAST_TOKEN is set and empty"),
        ([], {"BROADCAST_TOKEN_FILE": ""}, "BROADCAST_TOKEN_FILE is set and empty"),
        (["--token-file", ""], {}, "--token-file is empty"),
        (["--token-file="], {"BROADCAST_TOKEN": "s3cret"}, "--token-file is empty"),
    ],
)
def test_a_server_whose_token_is_empty_does_not_start(
    options: list[str],
    variables: dict[str, str],
    problem: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A token from a file or variable that is missing must not start an open server."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(["start", "--port", "0", *options]) == 2
    assert problem in capsys.readouterr().err


def test_two_tokens_of_a_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server says which of two tokens has no effect; a client may have one for its child."""
    (file := tmp_path / "token").write_text("sesame")
    monkeypatch.setenv("BROADCAST_TOKEN", "other")
    monkeypatch.setenv("BROADCAST_TOKEN_FILE", str(file))
    line = "BROADCAST_TOKEN_FILE has no effect, as BROADCAST_TOKEN is set (unset one)\n"
    assert main(["start", "--unix", str(tmp_path / "none" / "socket")]) == 1
    assert capsys.readouterr().err.startswith(line)
    assert main(["send", "hi", f"unix:{tmp_path / 'none'}", "--timeout", "1"]) == 1
    assert line not in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        "connect ws://h ws://bob:hush@h",
        "connect ws://h ws://bob:hush@x@h bob:hu'sh\"@h",
        "connect ws://h --nonsense=ws://bob:hush@h",
        "connect --listen=bob:hush@h",
        "connect --port=bob:hush@h",
        "connect --history bob:hush\\\\@h",
        "send hi ws://h bob:hush@h",
        "start ws://bob:hush@h",
        "start --port ws://bob:hush＠h",
        "start --log-format bob:hush@h",
        "run ws://h ws://bob:hush@h -- true",
        "backup a b bob:hush@h",
        "completion bob:hush@h",
        "bob:hush@h",
    ],
)
def test_usage_errors_show_no_password(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Argparse quotes what was typed; what is before an @ of it may be of a password."""
    assert main(arguments.split(" ")) == 2
    errors = capsys.readouterr().err
    assert "error: " in errors
    assert "hu" not in errors.rpartition("error: ")[2].replace("http", "")


def test_a_switch_is_yes_or_no(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable of a switch has few values; a typed switch takes precedence over it."""
    for value, on in (("yes", True), ("1", True), ("", False), ("no", False), ("OFF", False)):
        monkeypatch.setenv("BROADCAST_LOG_SYNC", value)
        assert parse_options(["start"]).log_sync is on
        assert parse_options(["start", "--log-sync"]).log_sync is True
    monkeypatch.setenv("BROADCAST_LOG_SYNC", "maybe")
    with pytest.raises(SystemExit):
        parse_options(["start"])
    assert "argument --log-sync: 'maybe' is not one of 1, true" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "noted"),
    [
        ("ws://127.0.0.1:1/", False),
        ("ws://[::1]:1/", False),
        ("localhost:1", False),
        ("wss://0.0.0.0:1/", False),
        ("ws://0.0.0.0:1/", True),
        ("ws://127.0.0.1.invalid:1/", True),
    ],
)
def test_a_warning_about_an_unencrypted_token(
    url: str, noted: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A note warns about a token only if it leaves this machine unencrypted."""
    monkeypatch.setenv("BROADCAST_TOKEN", "s3cret")
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["connect", url]) == 1
    first = capsys.readouterr().err.splitlines()[0]
    assert (first == "* your token goes to the server unencrypted (use wss://)") is noted


def test_every_option_is_set_by_its_variable(program: list[str], server: Running) -> None:
    """Options can be set by environment variables alone."""
    script = """echo hi | "$@" connect --room variables --name ann; echo | "$@" connect"""
    done = shell(
        script, program, BROADCAST_HOST="127.0.0.1", BROADCAST_PORT=server.port,
        BROADCAST_ROOM="variables", BROADCAST_NAME="bob", BROADCAST_HISTORY="1",
        BROADCAST_JSON="yes",
    )  # fmt: skip
    last = done.output.splitlines()[-1]
    assert '"name":"ann","text":"hi"' in last
    assert '"name":"bob"' in done.output


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk(program: list[str], unbuffered: str) -> None:
    """A failed write to standard output is one line of error, however Python buffers it."""
    done = shell('"$@" --version >/dev/full', program, PYTHONUNBUFFERED=unbuffered)
    error = "Could not write to standard output: no space left on device\n"
    assert (done.code, done.errors) == (1, error)


# -- start --


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    "arguments",
    ["--help", "--version", "start --help", "connect --help", "manual", "completion zsh"],
)
def test_a_full_disk_is_one_line(program: list[str], arguments: str) -> None:
    """What only prints exits with 1, and says why in one line, when the output is full."""
    done = shell(f'"$@" {arguments} >/dev/full', program)
    error = "Could not write to standard output: no space left on device\n"
    assert (done.code, done.errors) == (1, error)


def test_two_servers_on_a_port(program: list[str], server: Running) -> None:
    """The second server on a port exits with 1, and names the port and the remedy."""
    done = shell(f'"$@" start --port {server.port}', program)
    error = f"Address already in use: 127.0.0.1:{server.port} (choose another with --port)\n"
    assert (done.code, done.output, done.errors) == (1, "", error)


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("a..b", "a..b:8765: unknown host (name an address of this machine)"),
        (
            "192.0.2.1",
            "192.0.2.1:8765: it is no address of this machine (--host 0.0.0.0 or --host ::",
        ),
        ("fe80::1", "[fe80::1]:8765: it lacks its interface (for example --host fe80::1%eth0)"),
    ],
)
def test_an_address_of_another_machine(
    host: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An address that this machine does not have is one line of error."""
    assert main(["start", "--host", host]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith(f"Could not listen on {reason}")
    assert shown.count("\n") == 1


def test_over_ipv6(program: list[str]) -> None:
    """Server and client work with an IPv6 address, given as host and as URL."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("there is no IPv6 here")
    with running(*program, "start", "--host", "::1", "--port", "0") as server:
        assert server.url == f"ws://[::1]:{server.port}/"
        script = f'echo hi | "$@" connect --host ::1 --port {server.port}'
        assert shell(script, program).output == "anonymous: hi\n"
        assert server.signal(signal.SIGTERM) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_server_is_stopped(program: list[str], number: int) -> None:
    """SIGINT, SIGTERM and SIGHUP stop a server: it tells its clients and exits with 0."""
    with (
        running(*program, "start", "--port", "0") as server,
        running(*program, "connect", server.url, "--listen", "--json") as client,
    ):
        until(lambda: client.lines, "a welcome")
        assert server.signal(number) == 0
        until(lambda: "* the server is stopping, trying again" in client.errors, "the end")
        assert client.signal(signal.SIGINT) == 0


def test_a_closed_log_pipe(program: list[str]) -> None:
    """A server whose log is a closed pipe keeps serving, and exits with 0."""
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [*program, "start", "--port", "0"], stderr=writer, stdin=subprocess.DEVNULL
    )
    try:
        os.close(writer)
        with os.fdopen(reader) as log:
            url = log.readline().split()[-1]
        assert shell(f'echo hi | "$@" connect {url}', program).output == "anonymous: hi\n"
        process.terminate()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()


# -- connect --


def test_no_server(program: list[str]) -> None:
    """Without a server, `connect` exits with 1 and names the address."""
    done = shell('"$@" connect --port 1', program)
    assert done.code == 1
    assert done.output == ""
    assert done.errors.startswith("Could not connect to server at ws://127.0.0.1:1/ (")
    assert done.errors.count("\n") == 1


@pytest.mark.parametrize(
    ("script", "code", "output", "errors"),
    [
        ('seq 3 | "$@"', 0, "n: 1\nn: 2\nn: 3\n", ""),
        ('seq 3 | "$@" >&-', 0, "", ""),
        ('seq 3 | "$@" 2>&-', 0, "n: 1\nn: 2\nn: 3\n", ""),
        ('"$@" <&-', 0, "", ""),
        ('"$@" </dev/null', 0, "", ""),
        ('"$@" <&- >&- 2>&-', 0, "", ""),
        (
            'seq 3 | "$@" >/dev/full',
            1,
            "",
            "Could not write to standard output: no space left on device\n",
        ),
        (
            '"$@" --listen --history 1 --json >/dev/full',
            1,
            "",
            "Could not write to standard output: no space left on device\n",
        ),
        ('set -o pipefail; seq 3 | "$@" | head -1', 0, "n: 1\n", ""),
        ('set -o pipefail; seq 3 | "$@" --listen | head -1', 0, "n: 1\n", ""),
        ('"$@" --listen --json | head -1 | cut -c1-17', 0, '{"type":"welcome"\n', ""),
        ('"$@" --help | head -1 | cut -c1-7', 0, "usage: \n", ""),
    ],
)
def test_closed_and_full_streams(
    program: list[str],
    server: Running,
    script: str,
    code: int,
    output: str,
    errors: str,
) -> None:
    """A closed, full or abandoned stream ends a client with at most one line of error."""
    command = [*program, "connect", server.url, "--name", "n", "--room", f"room-{next(ROOMS)}"]
    done = shell(script, command)
    assert (done.code, done.output, done.errors) == (code, output, errors)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_client_is_stopped(program: list[str], server: Running, number: int) -> None:
    """SIGINT, SIGTERM and SIGHUP end a client whose input is still open, with exit code 0."""
    with running(*program, "connect", server.url, "--room", "stop") as client:
        client.say("here\n")
        until(lambda: client.output == "anonymous: here\n", "an echo")
        assert client.signal(number) == 0
        assert client.errors == ""


def test_ctrl_c_while_connecting(program: list[str]) -> None:
    """Ctrl+C ends a client that waits for the handshake, with 1 and without output."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"ws://127.0.0.1:{silent.getsockname()[1]}/"
        with running(*program, "connect", url) as client:
            accepted, _ = silent.accept()
            with accepted:
                assert client.signal(signal.SIGINT) == 1
                assert client.errors == ""


def test_ctrl_c_before_the_end_of_the_replay(program: list[str]) -> None:
    """Ctrl+C ends a client that has just joined, and lacks some past messages, with 0."""
    line = (
        '{"type":"welcome","room":"lobby","name":"bob","epoch":"e","seq":0,"recovered":true,'
        '"missed":0,"count":1,"members":["bob"]}'
    )

    def handler(connection: ServerConnection) -> None:
        connection.send(line)
        for _ in connection:  # no ping gets an answer
            pass

    with serve(
        handler, "127.0.0.1", 0, subprotocols=[Subprotocol(SUBPROTOCOL)], compression=None
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/"
            with running(*program, "connect", url, "--listen", "--json") as client:
                until(lambda: client.output, "a welcome")
                assert client.signal(signal.SIGINT) == 0
                assert client.errors == ""
        finally:
            server.shutdown()
            thread.join()


def test_ctrl_c_with_a_server_that_hangs(program: list[str]) -> None:
    """Ctrl+C ends a client of a frozen server, and the unconfirmed messages are counted."""
    with (
        running(*program, "start", "--port", "0") as server,
        running(*program, "connect", server.url) as client,
    ):
        client.say("here\n")
        until(lambda: client.output, "an echo")
        server.process.send_signal(signal.SIGSTOP)
        client.say("lost\n")
        assert client.process.stdin is not None
        pipe = client.process.stdin.fileno()
        until(lambda: unread(pipe) == 0, "a client that reads")
        assert client.signal(signal.SIGINT) == 1
        assert client.errors == "left before 1 message was confirmed\n"


def unread(pipe: int) -> int:
    """Return the number of bytes in a pipe that nobody has read."""
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


def test_ctrl_c_while_output_is_blocked(program: list[str], server: Running) -> None:
    """Ctrl+C ends a client whose output nobody reads."""
    reader, writer = os.pipe()
    command = [*program, "connect", server.url, "--room", "paused"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=writer, stderr=subprocess.PIPE
    )
    try:
        assert process.stdin is not None
        assert process.stderr is not None
        os.close(writer)
        # Without a reader of the output, the client takes only a part of it: what is left fills
        # the pipe of its input.
        os.set_blocking(process.stdin.fileno(), False)
        line = b"x" * 4000 + b"\n"

        def input_is_full() -> bool:
            assert process.stdin is not None
            with suppress(BlockingIOError):
                os.write(process.stdin.fileno(), line)
            return unread(process.stdin.fileno()) > 2**15 and unread(reader) > 2**15

        until(input_is_full, "a client that waits for its output")
        assert os.read(reader, 1) == b"a"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) in (0, 1)
        assert_quiet(process.stderr.read().decode())
    finally:
        process.kill()
        process.communicate()
        os.close(reader)


def test_ctrl_c_at_any_moment(program: list[str], server: Running) -> None:
    """Ctrl+C at any moment of its life ends a client without output."""
    script = (
        "import sys; import broadcast_server.__main__ as program\n"
        "import signal, os; signal.signal(signal.SIGINT, lambda *_: os._exit(1))\n"
        "print('begun', flush=True); sys.exit(program.run())"
    )
    for delay in range(0, 400, 40):
        with running(
            sys.executable, "-c", script, "connect", server.url, "--room", "moments"
        ) as client:
            until(lambda: client.output == "begun\n", "a beginning")
            with suppress(subprocess.TimeoutExpired):
                client.process.wait(delay / 1000)
            assert client.signal(signal.SIGINT) in (0, 1)
            assert client.errors == ""


def test_a_client_waits_for_a_full_server(program: list[str]) -> None:
    """A client of a full server says so, and joins by itself as soon as it can."""
    with running(*program, "start", "--port", "0", "--max-clients", "1") as server:
        with running(*program, "connect", "--port", server.port, "--listen") as first:
            until(lambda: " joined lobby" in server.errors)
            with running(*program, "connect", "--port", server.port) as second:
                second.say("hi\n")
                words = "* server is at its limit of 1 clients, try again later, trying again in "
                until(lambda: words in second.errors)
                assert first.signal(signal.SIGTERM) == 0
                assert second.end() == 0
                assert second.output == "anonymous: hi\n"
        assert server.signal(signal.SIGTERM) == 0


def test_a_wrong_token(program: list[str], token_file: str) -> None:
    """A client with a wrong token, or none, prints one line and exits with 1."""
    with running(*program, "start", "--port", "0", "--token-file", token_file) as server:
        script = f'echo hi | "$@" connect --port {server.port}'
        done = shell(script, program)
        assert (done.code, done.output) == (1, "")
        assert done.errors == "this server requires a token: ask its operator for one\n"
        done = shell(script, program, BROADCAST_TOKEN="guess")
        assert (done.code, done.output) == (1, "")
        assert done.errors == "token is wrong: ask the operator of the server for the right one\n"
        done = shell(f"{script} --token-file {token_file}", program)
        assert (done.code, done.output, done.errors) == (0, "anonymous: hi\n", "")
        assert server.signal(signal.SIGTERM) == 0


@pytest.mark.parametrize("command", [["connect"], ["send", "hi"], ["run"]])
def test_a_socket_that_is_none(
    tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A file or a folder in the place of the socket is an error at once, and no refusal."""
    (tmp_path / "plain").touch()
    for name in ("plain", ""):
        path = tmp_path / name
        more = ["--", "true"] if command == ["run"] else []
        assert main([*command, "--unix", str(path), *more]) == 2
        reason = "it is no socket (name the socket of a server)"
        error = f"broadcast-server {command[0]}: error: --unix {path}: {reason}\n"
        assert capsys.readouterr().err == error


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no", ": no such file or directory (check the path)"),
        ("", ": is a directory (name a file in it)"),
        ("plain", " is empty (name a PEM file)"),
        ("plain/x", ": not a directory (check the path)"),
        ("loop", ": too many levels of symbolic links (name the file itself)"),
    ],
)
def test_authorities_that_cannot_be_read(
    tmp_path: Path, name: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A --tls-ca that cannot be used is a usage error with a true reason and a remedy."""
    (tmp_path / "plain").touch()
    (tmp_path / "loop").symlink_to("loop")
    path = tmp_path / name
    assert main(["send", "hi", "wss://127.0.0.1:1/", "--tls-ca", str(path)]) == 2
    error = f"broadcast-server send: error: --tls-ca {path}{reason}\n"
    assert capsys.readouterr().err == error
