"""The options: the parser of the whole command line, and the options of `start`.

`client_options` has those of `connect`, `send` and `run`. What the options do is up to the
modules of the commands.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from broadcast_server import __version__
from broadcast_server.admission.int_range import CLIENTS, JOINS, MESSAGE_BYTES, RATE, ROOMS
from broadcast_server.console.child_environment import OPERATOR_VARIABLE, TOKEN_VARIABLE
from broadcast_server.http.program import running_archive
from broadcast_server.protocol.bounds import MAX_MESSAGE_BYTES
from broadcast_server.protocol.userinfo import without_userinfo

from .env_parser import Choice, Command, EnvParser, int_range
from .usage import usage_error

COMMAND_MARKERS = {"connect": "--exec", "run": "--"}
"""The word after which all arguments are the command to run, by our command."""

TOKEN_COMMANDS = ("start", "connect", "send", "history", "run")
"""The commands that have --token-file."""

OWN_COMMANDS = ("start", "backup", "completion", "manual")
"""The commands that are no clients."""

EPILOGS = {
    "": """\
examples:
  %(prog)s start                        start a server for this machine
  %(prog)s connect --name bob           join a room and chat
  tail -f app.log | %(prog)s connect --name app
  %(prog)s send "deploy done"           send one message
  %(prog)s run -- make test             report how a command ended
""",
    "start": """\
examples:
  %(prog)s                              for this machine only, on port 8765
  %(prog)s --host 0.0.0.0 --port 80     for everyone who can reach this machine
  %(prog)s --port 0                     on a free port; the first line says which

Ctrl+C or SIGTERM stops the server.
""",
    "backup": """\
examples:
  %(prog)s rooms.log "rooms-$(date +%%F).log"

The server may be running. Start a server with the copy to restore it; its rooms
have new epochs then, so clients learn that messages may be missing.
""",
    "completion": """\
examples:
  source <(%(prog)s bash)               in this shell only
  %(prog)s bash > ~/.local/share/bash-completion/completions/broadcast-server
  %(prog)s zsh > ~/.zfunc/_broadcast-server     needs fpath+=~/.zfunc before compinit
  %(prog)s fish > ~/.config/fish/completions/broadcast-server.fish
""",
    "manual": """\
examples:
  %(prog)s | man -l -                   read it
  %(prog)s > ~/.local/share/man/man1/broadcast-server.1
""",
}


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line, by default that of this process.

    In the result `command` is None if none was given, and `typed` has the names of the options
    that were typed rather than set in the environment or left at their defaults. Raises
    SystemExit for wrong usage, and after printing help or the version.
    """
    ours, to_run = _split_command(list(sys.argv[1:] if arguments is None else arguments))
    _reject_token(ours)
    # One command alone parses 15 ms faster from the single file that compiles it.
    command = ours[0] if ours and ours[0] in (*OWN_COMMANDS, *TOKEN_COMMANDS) else ""
    parser = make_parser(command)
    options, rest = parser.parse_known_args(ours)
    # argparse accepts the address of `send` only directly after the text, not after an option.
    if options.command == "send" and options.url is None and len(rest) == 1 and rest[0][:1] != "-":
        options.url = rest.pop()
    if rest:
        # The value of an unknown option is not printed: it may be a secret.
        unknown = [word.partition("=")[0] for word in rest if word.startswith("-")] or rest
        shown = " ".join(map(without_userinfo, unknown))
        raise SystemExit(usage_error(options.command, f"unrecognized arguments: {shown}"))
    if to_run is not None:
        options.exec = to_run
    return options


def _reject_token(arguments: Sequence[str]) -> None:
    """Raise SystemExit if a token was typed, before any error about its value prints it."""
    typed = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if any(word.partition("=")[0] == "--token" for word in typed):
        command = typed[0] if typed[0] in TOKEN_COMMANDS else None
        text = "a token is not an argument: put it into a file and give --token-file FILE"
        raise SystemExit(usage_error(command, text))


def _split_command(arguments: list[str]) -> tuple[list[str], list[str] | None]:
    """Split *arguments* into ours and the command to run (None if there is no marker).

    This happens before parsing, so that an option of that command is never taken for ours.
    """
    marker = COMMAND_MARKERS.get(arguments[0]) if arguments else None
    if marker is None or marker not in arguments:
        # Without the marker, the words of the command of `run` would be parsed as an address.
        lacks_marker = arguments[:1] == ["run"] and not {"-h", "--help"} & {*arguments}
        return (["run"], []) if lacks_marker else (arguments, None)
    index = arguments.index(marker)
    to_run = arguments[index + 1 :]
    return arguments[:index], to_run[1:] if to_run[:1] == ["--"] else to_run


def make_parser(only: str = "") -> EnvParser:
    """Return the parser of the whole command line, or as much of it as the command *only* needs."""
    parser = EnvParser(
        prog=_program(),
        description="A chat room in one file: every message reaches everyone connected.",
        epilog=EPILOGS[""],
    )
    parser.set_defaults(command=None)
    parser.add_argument(
        "--version",
        action=_Version,
        nargs=0,
        help="print the version of this program, its libraries and Python",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", prog=parser.prog)
    for name, command in _commands(only).items():
        if only in ("", name):
            command.add_options(
                commands.add_parser(
                    name,
                    help=command.summary,
                    description=command.summary,
                    epilog=command.epilog,
                )
            )
    return parser


def _commands(only: str) -> dict[str, Command]:
    """Return all commands, without those of the clients if *only* is another."""
    found = {"start": Command("Start a server.", EPILOGS["start"], _add_start)}
    if only not in OWN_COMMANDS:
        from .client_options import CLIENT_COMMANDS

        found |= CLIENT_COMMANDS
    copy = "Copy the log file of a server, which may be running."
    tab = "Print a shell script that completes this program's commands and options with Tab."
    return found | {
        "backup": Command(copy, EPILOGS["backup"], _add_backup),
        "completion": Command(tab, EPILOGS["completion"], _add_completion),
        "manual": Command("Print the man page.", EPILOGS["manual"], _add_manual),
    }


def _program() -> str:
    """Return the command that runs this program: the single file is not on the PATH."""
    archive = running_archive()
    return "broadcast-server" if archive is None else f"python3 {archive.name}"


def _add_completion(completion: EnvParser) -> None:
    completion.set_defaults(command="completion")
    completion.add_argument(
        "shell", metavar="SHELL", choices=("bash", "zsh", "fish"), help="bash, zsh or fish"
    )


def _add_manual(manual: EnvParser) -> None:
    manual.set_defaults(command="manual")


def _add_backup(backup: EnvParser) -> None:
    backup.set_defaults(command="backup")
    backup.add_argument("log_file", metavar="LOG-FILE", type=Path, help="the file of start --log")
    backup.add_argument("new_file", metavar="NEW-FILE", type=Path, help="where to put the copy")


def _add_start(start: EnvParser) -> None:
    from broadcast_server.server.log_format import (
        FORMATS,  # it loads logging, which clients need not
    )

    start.set_defaults(command="start", typed=frozenset())
    start.option("--host", "127.0.0.1", "address to listen on", metavar="HOST")
    port = int_range(0, 65535)
    start.option("--port", 8765, "port to listen on, 0 for any free port", metavar="N", type=port)
    start.option(
        "--unix",
        None,
        "Unix socket to listen on, instead of a port",
        metavar="PATH",
        type=Path,
    )
    start.option(
        "--token-file",
        None,
        "file with the token that clients must present;"
        f" {TOKEN_VARIABLE} can hold the token itself",
        metavar="FILE",
    )
    start.option(
        "--operator-file",
        None,
        "file with the key of operators, who may kick, mute and lock; made if it does not exist;"
        f" {OPERATOR_VARIABLE} can hold the key itself",
        metavar="FILE",
    )
    start.option(
        "--tls-cert",
        None,
        "PEM file with the certificate (chain) for wss://; SIGHUP reloads it",
        metavar="FILE",
        type=Path,
    )
    start.option("--tls-key", None, "private key, if not in that file", metavar="FILE", type=Path)
    start.option(
        "--trusted-proxy",
        "",
        "proxies whose X-Forwarded-For is trusted: comma-separated addresses or networks, or"
        " unix for every connection to the --unix socket",
        metavar="ADDRESS",
        type=_trusted,
    )
    start.option(
        "--max-clients",
        10_000,
        "maximum number of clients at the same time",
        metavar="N",
        type=int_range(*CLIENTS),
    )
    start.option(
        "--max-clients-per-address",
        500,
        "maximum number of clients from one address (an IPv6 /64 network is one address; this"
        " machine is exempt)",
        metavar="N",
        type=int_range(*CLIENTS),
    )
    start.option(
        "--max-rooms",
        1000,
        "maximum number of rooms with someone in them",
        metavar="N",
        type=int_range(*ROOMS),
    )
    start.option(
        "--max-joins",
        50,
        "maximum new clients per second from one address; ten times as many in a burst",
        metavar="N",
        type=int_range(*JOINS),
    )
    start.option(
        "--rate",
        50,
        "maximum messages per second from one client, of 256 bytes each; twenty times as many in a"
        " burst; further ones wait; 0 for no limit",
        metavar="N",
        type=int_range(*RATE),
    )
    start.option(
        "--max-message-bytes",
        MAX_MESSAGE_BYTES,
        "maximum size of a message in bytes",
        metavar="N",
        type=int_range(*MESSAGE_BYTES),
    )
    start.option(
        "--log-messages",
        50_000,
        "messages that each room keeps, for clients that reconnect or ask for history",
        metavar="N",
        type=int_range(0, 10**8),
    )
    start.option(
        "--log-bytes",
        2**24,
        "maximum bytes of text that each room keeps",
        metavar="N",
        type=int_range(0, 2**40),
    )
    start.option(
        "--log",
        None,
        "file that stores the messages, so that they survive a restart",
        metavar="FILE",
        type=Path,
    )
    start.switch(
        "--log-sync",
        "with --log, wait for the disk on each write, so that a power cut loses nothing; slower",
    )
    start.option(
        "--log-format",
        "text",
        "format of the server's log lines: text, or json for a log collector",
        metavar="FORMAT",
        type=Choice(FORMATS),
    )
    start.option(
        "--allow-origin",
        "",
        "comma-separated web origins, besides the server's own, whose pages may join",
        metavar="ORIGIN",
        type=_origins,
    )
    start.option(
        "--allow-host",
        "",
        "comma-separated host names under which the server is reached, such as a proxy's, besides"
        " this machine's own; .DOMAIN for all below it, * for any",
        metavar="HOST",
        type=_hosts,
    )
    start.option(
        "--public-url",
        None,
        "address to show to others, if it differs: a proxy's, or the name in the certificate",
        metavar="URL",
        type=_address,
    )
    start.switch("--open", "open the page in this machine's browser")
    start.option(
        "--grace",
        5,
        "seconds that clients have to disconnect when the server stops",
        metavar="SECONDS",
        type=int_range(0, 3600),
    )


def _origins(value: str) -> frozenset[str]:
    from broadcast_server.http.cors import parse_origins

    try:
        return parse_origins(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _hosts(value: str) -> frozenset[str]:
    from broadcast_server.http.allowed_hosts import parse_hosts

    try:
        return parse_hosts(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _address(value: str) -> str:
    from broadcast_server.client.address import invalid_address, parse_address

    try:
        return parse_address(value)[0].rstrip("/") + "/"
    except ValueError as error:
        raise argparse.ArgumentTypeError(invalid_address(value, error)) from None


def _trusted(value: str) -> object:
    from broadcast_server.admission.trusted_proxies import parse_trusted_proxies

    try:
        return parse_trusted_proxies(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


class _Version(argparse.Action):
    """Prints the versions of this program, its libraries and Python, and exits."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> NoReturn:
        from importlib.metadata import PackageNotFoundError, version

        libraries = []
        for name in ("websockets", "h11", "prompt_toolkit", "wcwidth"):
            try:
                libraries.append(f"{name} {version(name)}")
            except PackageNotFoundError:  # its metadata was stripped from the installation
                libraries.append(f"{name} of unknown version")
        python = ".".join(map(str, sys.version_info[:3]))
        print(f"broadcast-server {__version__} ({', '.join(libraries)}; Python {python})")
        parser.exit()
