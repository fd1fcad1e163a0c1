"""The options: what can be typed or set in the environment, and what is wrong with it.

It knows nothing of what the options do.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from . import __version__
from .logline import FORMATS
from .protocol import MAX_MESSAGE_BYTES
from .typed import TOKEN, OneOf, Parser, between, texts

CUTS = {"connect": "--exec", "run": "--"}
"""Behind this word all is a command to run, and nothing is ours any more."""

EXAMPLES = {
    "": """\
examples:
  %(prog)s start                        serve on this machine
  %(prog)s connect --name bob           join, and talk
  tail -f app.log | %(prog)s connect --name app
  %(prog)s send "deploy done"           say one message
  %(prog)s run -- make test             tell how a command ended
""",
    "start": """\
examples:
  %(prog)s                              for this machine, on port 8765
  %(prog)s --host 0.0.0.0 --port 80     for everyone who can reach this machine
  %(prog)s --port 0                     on a free port, which the first line names

Ctrl+C or SIGTERM stops it.
""",
    "completion": """\
examples:
  source <(%(prog)s bash)               for this session
  %(prog)s bash > ~/.local/share/bash-completion/completions/broadcast-server
  %(prog)s zsh > ~/.zfunc/_broadcast-server     with fpath+=~/.zfunc before compinit
  %(prog)s fish > ~/.config/fish/completions/broadcast-server.fish
""",
    "manual": """\
examples:
  %(prog)s | man -l -                   read it
  %(prog)s > ~/.local/share/man/man1/broadcast-server.1
""",
}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line. Raises SystemExit when it is wrong, or asks for help.

    `command` is None where none was given, and `typed` holds the names of the
    options that were not left to the environment or a default.
    """
    given, behind = _cut(list(sys.argv[1:] if arguments is None else arguments))
    # Most of the parser would cost the start of the single file 15 ms for nothing.
    whole = parser(start_only=given[:1] == ["start"])
    options, rest = whole.parse_known_args(given)
    # argparse looks for an address right behind the text, and no further.
    if options.command == "send" and options.url is None and len(rest) == 1 and rest[0][:1] != "-":
        options.url = rest.pop()
    if rest:
        whole.error(f"unrecognized arguments: {' '.join(rest)}")
    if behind is not None:
        options.exec = behind
    return options


def _cut(given: list[str]) -> tuple[list[str], list[str] | None]:
    """Take a command to run off what was typed, before anything in it is taken for an option."""
    mark = CUTS.get(given[0]) if given else None
    if mark is None or mark not in given:
        # Without its mark the words of a command would be taken for an address.
        helpless = given[:1] == ["run"] and not {"-h", "--help"} & {*given}
        return (["run"], []) if helpless else (given, None)
    place = given.index(mark)
    behind = given[place + 1 :]
    return given[:place], behind[1:] if behind[:1] == ["--"] else behind


def parser(*, start_only: bool = False) -> Parser:
    """Make the parser of the whole command line, or as much of it as `start` needs."""
    whole = Parser(
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
    commands = whole.add_subparsers(title="commands", metavar="COMMAND")
    _add_start(commands.add_parser("start", **texts("Serve.", EXAMPLES["start"])))
    if start_only:
        return whole
    from .clientoptions import CONNECT, RUN, SEND, add_connect, add_run, add_send

    add_connect(commands.add_parser("connect", **texts("Join a room, and talk.", CONNECT)))
    add_send(commands.add_parser("send", **texts("Say one message.", SEND)))
    add_run(commands.add_parser("run", **texts("Run a command, and tell a room of it.", RUN)))
    tab = "Print what a shell needs to complete this program's commands and options."
    _add_completion(commands.add_parser("completion", **texts(tab, EXAMPLES["completion"])))
    manual = commands.add_parser("manual", **texts("Print a page for man.", EXAMPLES["manual"]))
    manual.set_defaults(command="manual")
    return whole


def _program() -> str:
    """Return what one types to run us: who has the single file has no other command."""
    archive = getattr(__spec__.loader, "archive", None)
    return "broadcast-server" if archive is None else f"python3 {Path(archive).name}"


def _add_completion(completion: Parser) -> None:
    completion.set_defaults(command="completion")
    completion.add_argument(
        "shell", metavar="SHELL", choices=("bash", "zsh", "fish"), help="bash, zsh or fish"
    )


def _add_start(start: Parser) -> None:
    start.set_defaults(command="start", typed=frozenset())
    start.option("--host", "127.0.0.1", "address to listen on", metavar="HOST")
    port = between(0, 65535)
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
        type=between(1, 10**6),
    )
    start.option(
        "--max-clients-per-address",
        500,
        "the same, from one address (an IPv6 network of 64 bits is one, this machine is free)",
        metavar="N",
        type=between(1, 10**6),
    )
    start.option(
        "--max-rooms",
        1000,
        "rooms with anyone in them",
        metavar="N",
        type=between(1, 10**6),
    )
    start.option(
        "--max-joins",
        50,
        "new clients a second from one address, ten times as many at once",
        metavar="N",
        type=between(1, 10**6),
    )
    start.option(
        "--rate",
        0,
        "messages a second of one client, what is over waits; 0 is no limit",
        metavar="N",
        type=between(0, 10**6),
    )
    start.option(
        "--max-message-bytes",
        MAX_MESSAGE_BYTES,
        "longest message",
        metavar="N",
        type=between(1, 2**17),
    )
    start.option(
        "--log-messages",
        50_000,
        "messages that a room keeps for those who come back",
        metavar="N",
        type=between(0, 10**8),
    )
    start.option(
        "--log-bytes",
        2**24,
        "bytes of text that a room keeps at the most",
        metavar="N",
        type=between(0, 2**40),
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
        type=OneOf(FORMATS),
    )
    start.option(
        "--allow-origin",
        "",
        "web origins besides this server's own whose pages may join, with commas between",
        metavar="ORIGIN",
        type=_origins,
    )
    start.option(
        "--public-url",
        None,
        "address to invite others by, if it is another: a proxy's, or the name in the certificate",
        metavar="URL",
        type=_address,
    )
    start.switch("--open", "open the page in this machine's browser")
    start.option(
        "--grace",
        5,
        "seconds to say goodbye in",
        metavar="SECONDS",
        type=between(0, 3600),
    )


def _origins(value: str) -> frozenset[str]:
    return frozenset(each.strip().lower() for each in value.split(",") if each.strip())


def _address(value: str) -> str:
    from .address import address

    try:
        return address(value)[0].rstrip("/") + "/"
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{value} is no address: {error}") from None


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
