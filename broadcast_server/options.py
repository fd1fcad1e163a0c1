"""The options: what can be typed or set in the environment, and what is wrong with it.

It knows nothing of what the options do.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from . import __version__
from .logline import FORMATS
from .names import check_name
from .protocol import MAX_MESSAGE_BYTES

ENVIRONMENT = "BROADCAST_"
TOKEN = f"{ENVIRONMENT}TOKEN"
EXAMPLES = {
    "": """\
examples:
  %(prog)s start                        serve on this machine
  %(prog)s connect --name bob           join, and talk
  tail -f app.log | %(prog)s connect --name app
""",
    "start": """\
examples:
  %(prog)s                              for this machine, on port 8765
  %(prog)s --host 0.0.0.0 --port 80     for everyone who can reach this machine
  %(prog)s --port 0                     on a free port, which the first line names

Ctrl+C or SIGTERM stops it.
""",
    "connect": """\
examples:
  %(prog)s --name bob                   talk, at a terminal
  %(prog)s wss://example.org/ --room ops
  make 2>&1 | %(prog)s --name build     say each line, then leave
  %(prog)s --listen --json | jq .text   hear everything, as JSON
""",
}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line. Raises SystemExit when it is wrong, or asks for help.

    `command` is None where none was given, and `typed` holds the names of the
    options that were not left to the environment or a default.
    """
    return parser().parse_args(arguments)


class _Set(str):
    """A value that comes from an environment variable."""

    variable: str


class _Store(argparse.Action):
    """Keeps a value, and that it was typed."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, values)
        namespace.typed |= {self.dest}


class _Parser(argparse.ArgumentParser):
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
            flag, action=_Store, default=value, help=help, metavar=metavar, type=_blaming(type)
        )

    def switch(self, flag: str, help: str) -> None:
        """Add an option that takes none. The environment switches it on by a yes."""
        variable = _variable(flag)
        on = os.environ.get(variable, "").lower() in ("1", "true", "yes", "on")
        self.add_argument(flag, action="store_true", default=on, help=f"{help} [{variable}=1]")


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


def parser() -> _Parser:
    """Make the parser of the whole command line."""
    whole = _Parser(
        prog=_program(),
        description="A broadcast server: whatever one says, everyone hears.",
        epilog=EXAMPLES[""],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.set_defaults(command=None)
    whole.add_argument(
        "--version",
        action=_Version,
        nargs=0,
        help="say which version this is, and of what",
    )
    commands = whole.add_subparsers(title="commands", metavar="start | connect")
    _add_start(commands.add_parser("start", **_texts("start", "Serve.")))
    _add_connect(commands.add_parser("connect", **_texts("connect", "Join a room, and talk.")))
    return whole


def _program() -> str:
    """Return what one types to run us: who has the single file has no other command."""
    archive = getattr(__spec__.loader, "archive", None)
    return "broadcast-server" if archive is None else f"python3 {Path(archive).name}"


def _texts(command: str, summary: str) -> dict[str, Any]:
    return {
        "help": summary,
        "description": summary,
        "epilog": EXAMPLES[command],
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }


def _add_start(start: _Parser) -> None:
    start.set_defaults(command="start", typed=frozenset())
    start.option("--host", "127.0.0.1", "address to listen on", metavar="HOST")
    port = _between(0, 65535)
    start.option("--port", 8765, "port to listen on, 0 for a free one", metavar="N", type=port)
    start.option(
        "--unix",
        None,
        "socket file to listen on, instead of a port",
        metavar="PATH",
        type=Path,
    )
    start.option(
        "--token-file",
        None,
        f"file with a token that everyone has to know; {TOKEN} may hold one itself",
        metavar="FILE",
    )
    start.option(
        "--tls-cert",
        None,
        "certificate (chain) for wss://, as PEM; SIGHUP has it read again",
        metavar="FILE",
        type=Path,
    )
    start.option("--tls-key", None, "its key, if not in the same file", metavar="FILE", type=Path)
    start.option(
        "--trusted-proxy",
        "",
        "proxies whose X-Forwarded-For is believed: addresses or networks, or unix for all who"
        " come by --unix, with commas between",
        metavar="ADDRESS",
        type=_trusted,
    )
    start.option(
        "--max-clients",
        10_000,
        "clients at the same time",
        metavar="N",
        type=_between(1, 10**6),
    )
    start.option(
        "--max-clients-per-address",
        500,
        "the same, from one address (an IPv6 network of 64 bits is one, this machine is free)",
        metavar="N",
        type=_between(1, 10**6),
    )
    start.option(
        "--max-rooms",
        1000,
        "rooms with anyone in them",
        metavar="N",
        type=_between(1, 10**6),
    )
    start.option(
        "--max-joins",
        50,
        "new clients a second from one address, ten times as many at once",
        metavar="N",
        type=_between(1, 10**6),
    )
    start.option(
        "--rate",
        0,
        "messages a second of one client, what is over waits; 0 is no limit",
        metavar="N",
        type=_between(0, 10**6),
    )
    start.option(
        "--max-message-bytes",
        MAX_MESSAGE_BYTES,
        "longest message",
        metavar="N",
        type=_between(1, 2**17),
    )
    start.option(
        "--log-messages",
        50_000,
        "messages that a room keeps for those who come back",
        metavar="N",
        type=_between(0, 10**8),
    )
    start.option(
        "--log-bytes",
        2**24,
        "bytes of text that a room keeps at the most",
        metavar="N",
        type=_between(0, 2**40),
    )
    start.option(
        "--log",
        None,
        "file that keeps what is said, so that a restart goes on where it was",
        metavar="FILE",
        type=Path,
    )
    start.switch(
        "--log-sync",
        "with --log, wait for the disk at each turn, so that a power cut loses nothing; slower",
    )
    start.option(
        "--log-format",
        "text",
        "how the server tells what happens: text, or json for a collector",
        metavar="FORMAT",
        type=_one_of(FORMATS),
    )
    start.option(
        "--allow-origin",
        "",
        "web origins besides this server's own whose pages may join, with commas between",
        metavar="ORIGIN",
        type=_origins,
    )
    start.option(
        "--grace",
        5,
        "seconds to say goodbye in",
        metavar="SECONDS",
        type=_between(0, 3600),
    )


def _add_connect(connect: _Parser) -> None:
    connect.set_defaults(command="connect", typed=frozenset())
    connect.add_argument(
        "url",
        nargs="?",
        metavar="URL",
        help="the server's address, ws://HOST:PORT/ or HOST:PORT, instead of --host and --port"
        f" [{ENVIRONMENT}URL]",
    )
    connect.option("--host", "127.0.0.1", "the server's host", metavar="HOST")
    connect.option("--port", 8765, "the server's port", metavar="N", type=_between(1, 65535))
    connect.option("--unix", None, "the server's socket file, instead", metavar="PATH")
    connect.option(
        "--tls-ca",
        None,
        "file with the authorities whose certificates are trusted for wss://, instead of"
        " the system's",
        metavar="FILE",
    )
    connect.option("--name", None, "your name (default: anonymous)", metavar="NAME", type=_name)
    connect.option("--room", None, "the room (default: lobby)", metavar="ROOM", type=_room)
    connect.option(
        "--history",
        0,
        "past messages to see first",
        metavar="N",
        type=_between(0, 10**9),
    )
    connect.option(
        "--token-file",
        None,
        f"file with the token by which you sign in; {TOKEN} may hold one itself",
        metavar="FILE",
    )
    connect.switch("--listen", "stay after the end of the input")
    connect.switch("--json", "print the events themselves, as JSON")


def _between(least: int, most: int) -> Callable[[str], int]:
    def number(value: str) -> int:
        try:
            found = int(value)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{value!r} is not a number") from None
        if not least <= found <= most:
            raise argparse.ArgumentTypeError(f"{found} is not between {least} and {most}")
        return found

    return number


def _one_of(known: tuple[str, ...]) -> Callable[[str], str]:
    def known_one(value: str) -> str:
        if value not in known:
            raise argparse.ArgumentTypeError(f"{value!r} is not one of {', '.join(known)}")
        return value

    return known_one


def _name(value: str) -> str:
    try:
        return check_name(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _room(value: str) -> str:
    from urllib.parse import urlencode

    from .entry import parse_entry
    from .protocol import Error, Format

    entry = parse_entry(urlencode({"room": value}, errors="replace"), Format.JSON)
    if isinstance(entry, Error):
        raise argparse.ArgumentTypeError(entry.text)
    return value


def _origins(value: str) -> frozenset[str]:
    return frozenset(each.strip().lower() for each in value.split(",") if each.strip())


def _trusted(value: str) -> object:
    from .proxies import parse_trusted

    try:
        return parse_trusted(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


class _Version(argparse.Action):
    """Name this program's version and those of what it carries."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> NoReturn:
        from importlib.metadata import PackageNotFoundError, version

        carried = []
        for name in ("websockets", "h11", "prompt_toolkit", "wcwidth"):
            try:
                carried.append(f"{name} {version(name)}")
            except PackageNotFoundError:  # stripped from an installation
                carried.append(f"{name} of unknown version")
        python = ".".join(map(str, sys.version_info[:3]))
        print(f"broadcast-server {__version__} ({', '.join(carried)}; Python {python})")
        parser.exit()
