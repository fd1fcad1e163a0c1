"""The options of the client commands: `connect`, `send` and `run`."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from broadcast_server.client.oversize import OVERSIZE, SPLIT
from broadcast_server.console.argument import argument_text
from broadcast_server.console.child_environment import OPERATOR_VARIABLE, TOKEN_VARIABLE

from .env_parser import VARIABLE_PREFIX, Choice, Command, EnvParser, int_range, name_type, room_type

CONNECT_EPILOG = """\
examples:
  %(prog)s --name bob                   chat in the terminal
  %(prog)s wss://example.org/ --room ops
  make 2>&1 | %(prog)s --name build     send each line, then leave
  %(prog)s --listen --json |
      jq -r 'select(.type=="message").text'
  %(prog)s --match '^deployed' --count 1 --timeout 600    wait for a message
  %(prog)s --listen --since place       print everything since the last run
  %(prog)s --listen --exec ./deploy.sh  run a command for each message

The command of --exec gets the text of the message in BROADCAST_EVENT_TEXT, its
other fields in BROADCAST_EVENT_NAME, BROADCAST_EVENT_ROOM, BROADCAST_EVENT_SEQ,
BROADCAST_EVENT_EPOCH and BROADCAST_EVENT_AT, and the whole event as JSON on its
standard input.
"""

SEND_EPILOG = """\
examples:
  %(prog)s "deploy done" --name ci      send it, and print how many receive it
  git log -1 | %(prog)s - --name git    send standard input as one message
  %(prog)s "all here?" --require 3 --timeout 60

If no answer arrives, the message is sent again; it is published only once.
"""

HISTORY_EPILOG = """\
examples:
  %(prog)s ops > incident.txt           all that the server still has
  %(prog)s ops --json > incident.ndjson
  %(prog)s ops wss://example.org/ --last 100

Each line has the time (UTC), the name and the text. Nobody sees you read it.
"""

RUN_EPILOG = """\
examples:
  %(prog)s -- make test                 report its start and how it ended
  %(prog)s --name ci --only-failures -- ./nightly.sh --all

The exit code is the command's own, 128 plus the number of the signal that killed
it, 127 if there is no such command, and 126 if it cannot be run.
"""


def add_connect(connect: EnvParser) -> None:
    """Add the arguments of `connect`."""
    connect.set_defaults(command="connect", typed=frozenset())
    _add_server(connect, "ws://HOST:PORT/, HOST:PORT or HOST")
    _add_join(connect, "room to join")
    connect.option(
        "--history",
        None,
        "past messages to show first (default: what fills the screen at a terminal, else 0)",
        metavar="N",
        type=int_range(0, 10**9),
    )
    connect.option(
        "--since",
        None,
        "file that stores the position in the room, so that the next run continues there",
        metavar="CURSOR-FILE",
        type=Path,
    )
    connect.switch("--listen", "stay connected after the end of the input")
    connect.switch("--json", "print events as JSON, one per line")
    # These three describe one run, so no variable sets them: BROADCAST_TIMEOUT is for `send`.
    connect.add_argument(
        "--match",
        metavar="REGEX",
        type=_pattern,
        help="print only the messages of others whose text matches this regular expression;"
        " implies --listen",
    )
    connect.add_argument(
        "--count",
        metavar="N",
        type=int_range(1, 10**9),
        help="leave after N messages of others, or N that match; implies --listen",
    )
    connect.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=int_range(1, 10**6),
        help="leave after this time with exit code 124; implies --listen",
    )
    _add_oversize(connect, "line of piped input")
    connect.switch("--quiet-join", "let people see no line when you join and leave, only the list")
    connect.switch("--bell", "at a terminal, ring the bell when somebody mentions your name")
    connect.switch("--timestamps", "in a pipe or with --plain, begin each line with the time")
    connect.switch("--plain", "at a terminal, print plain lines only, for screen readers")
    connect.add_argument(
        "--exec",
        nargs=argparse.REMAINDER,
        metavar="COMMAND",
        help="print nothing, but run this command (everything that follows, without a shell) for"
        " each message that does not have your own name",
    )


def _pattern(value: str) -> re.Pattern[str]:
    """Compile a regular expression."""
    try:
        return re.compile(argument_text(value))
    except re.error as error:
        raise argparse.ArgumentTypeError(f"invalid regular expression: {error}") from None


def add_send(send: EnvParser) -> None:
    """Add the arguments of `send`."""
    send.set_defaults(command="send", typed=frozenset())
    send.add_argument("text", metavar="TEXT", help="message to send, - for standard input")
    # A single word is rather a part of a text that lacks its quotes than a host.
    _add_server(send, "ws://HOST:PORT/ or HOST:PORT")
    _add_join(send, "room to publish in")
    send.option(
        "--require",
        0,
        "send only if at least N connections would receive it; wait until there are N",
        metavar="N",
        type=int_range(0, 10**6),
    )
    send.option(
        "--timeout",
        10,
        "seconds to keep trying",
        metavar="SECONDS",
        type=int_range(1, 10**6),
    )
    _add_oversize(send, "text")
    send.switch("--json", "print the server's JSON response")


def add_history(history: EnvParser) -> None:
    """Add the arguments of `history`."""
    history.set_defaults(command="history", typed=frozenset(), operator_file=None)
    history.add_argument(
        "room", nargs="?", metavar="ROOM", type=_room_or_address, help="room (default: lobby)"
    )
    _add_server(history, "ws://HOST:PORT/, HOST:PORT or HOST")
    # It describes one run, so no variable sets it.
    history.add_argument(
        "--last", metavar="N", type=int_range(1, 10**9), help="print only the last N messages"
    )
    _add_token(history)
    history.switch("--json", "print messages as JSON, one per line")


def _room_or_address(value: str) -> str:
    """Validate a room; an address in its place passes."""
    return value if {":", "/"} & {*value} else room_type(value)


def add_run(run: EnvParser) -> None:
    """Add the arguments of `run` before its `--`."""
    # The command runs whatever is in the environment.
    run.troubles = []
    run.set_defaults(command="run", typed=frozenset(), exec=[], troubles=run.troubles)
    run.usage = "%(prog)s [OPTION ...] [URL] -- COMMAND [ARGUMENT ...]"
    _add_server(run, "ws://HOST:PORT/, HOST:PORT or HOST")
    _add_join(run, "room to publish in")
    run.option(
        "--label",
        None,
        "text to report instead of the command, which may be long or contain a secret",
        metavar="TEXT",
    )
    _add_oversize(run, "report")
    run.switch("--only-failures", "report nothing if the command exits with 0")
    run.option(
        "--timeout",
        5,
        "seconds to wait for the server when the command has ended",
        metavar="SECONDS",
        type=int_range(1, 10**6),
    )


def _add_oversize(client: EnvParser, what: str) -> None:
    """Add the option for *what* may be longer than a message."""
    client.option(
        "--oversize",
        SPLIT,
        f"split or cut a {what} that is longer than the server's limit: send it in several"
        " messages, or its beginning with a mark",
        metavar="HOW",
        type=Choice(OVERSIZE),
    )


def _add_server(client: EnvParser, forms: str) -> None:
    """Add the options that name the server; *forms* are the possible forms of an address."""
    client.add_argument(
        "url",
        nargs="?",
        metavar="URL",
        help=f"server address, {forms}, instead of --host and --port [{VARIABLE_PREFIX}URL]",
    )
    client.option("--host", "127.0.0.1", "host of the server", metavar="HOST")
    client.option("--port", 8765, "port of the server", metavar="N", type=int_range(1, 65535))
    client.option(
        "--unix", None, "Unix socket of the server, instead of a host and port", metavar="PATH"
    )
    client.option(
        "--tls-ca",
        None,
        "PEM file with the certificate authorities to trust for wss://, instead of the system's",
        metavar="FILE",
    )
    client.option(
        "--proxy",
        None,
        "HTTP proxy to go through, http://[USER:PASSWORD@]HOST:PORT, or auto for that of"
        " HTTPS_PROXY, HTTP_PROXY or ALL_PROXY; never for loopback addresses",
        metavar="URL",
    )


def _add_join(client: EnvParser, room: str) -> None:
    """Add the options for the name, the room and the token; *room* says what the room is for."""
    client.option("--name", None, "your name (default: anonymous)", metavar="NAME", type=name_type)
    client.option("--room", None, f"{room} (default: lobby)", metavar="ROOM", type=room_type)
    _add_token(client)
    client.option(
        "--operator-file",
        None,
        "file with the server's operator key, to be an operator of the room;"
        f" {OPERATOR_VARIABLE} can hold the key itself",
        metavar="FILE",
    )


def _add_token(client: EnvParser) -> None:
    client.option(
        "--token-file",
        None,
        f"file with the token to sign in with; {TOKEN_VARIABLE} can hold the token itself",
        metavar="FILE",
    )


CLIENT_COMMANDS = {
    "connect": Command("Join a room and chat.", CONNECT_EPILOG, add_connect),
    "send": Command("Send one message.", SEND_EPILOG, add_send),
    "history": Command("Print the messages of a room.", HISTORY_EPILOG, add_history),
    "run": Command("Run a command and report to a room how it ended.", RUN_EPILOG, add_run),
}
"""The commands whose options are here."""
