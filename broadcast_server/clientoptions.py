"""The options of those who take part: what can be typed behind `connect`, `send` and `run`.

It knows nothing of what the options do.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .typed import ENVIRONMENT, TOKEN, Parser, between, name, room

CONNECT = """\
examples:
  %(prog)s --name bob                   talk, at a terminal
  %(prog)s wss://example.org/ --room ops
  make 2>&1 | %(prog)s --name build     say each line, then leave
  %(prog)s --listen --json | jq .text   hear everything, as JSON
  %(prog)s --listen --since place       hear everything since the last time
  %(prog)s --listen --exec ./deploy.sh  run it for each message

The command of --exec gets the message in BROADCAST_EVENT_TEXT, and where it
stands in BROADCAST_EVENT_NAME, BROADCAST_EVENT_ROOM, BROADCAST_EVENT_SEQ,
BROADCAST_EVENT_EPOCH and BROADCAST_EVENT_AT, and all of it as JSON on its
standard input.
"""

SEND = """\
examples:
  %(prog)s "deploy done" --name ci      say it, and tell to how many it went
  git log -1 | %(prog)s - --name git    say what is read, as one message
  %(prog)s "all here?" --require 3 --timeout 60

What is sent again, because there was no answer, is not said twice.
"""

RUN = """\
examples:
  %(prog)s -- make test                 tell when it starts and how it ended
  %(prog)s --name ci --only-failures -- ./nightly.sh --all

It exits as the command did, with 128 and the number of a signal that killed it,
127 if there is no such command and 126 if it cannot be run.
"""


def add_connect(connect: Parser) -> None:
    """Add what can be typed behind `connect`."""
    connect.set_defaults(command="connect", typed=frozenset())
    _add_server(connect)
    _add_entry(connect)
    connect.option(
        "--history",
        0,
        "past messages to see first",
        metavar="N",
        type=between(0, 10**9),
    )
    connect.option(
        "--since",
        None,
        "file that keeps the place in the room, from which it goes on the next time",
        metavar="CURSOR-FILE",
        type=Path,
    )
    connect.switch("--listen", "stay after the end of the input")
    connect.switch("--json", "print the events themselves, as JSON")
    connect.switch("--bell", "at a terminal, ring when somebody says your name")
    connect.switch("--plain", "at a terminal, only whole lines of words, for screen readers")
    connect.add_argument(
        "--exec",
        nargs=argparse.REMAINDER,
        metavar="COMMAND",
        help="print nothing, but run this command (all that follows, no shell) for each message"
        " that is not of one's own name",
    )


def add_send(send: Parser) -> None:
    """Add what can be typed behind `send`."""
    send.set_defaults(command="send", typed=frozenset())
    send.add_argument("text", metavar="TEXT", help="what to say, - for standard input")
    _add_server(send)
    _add_entry(send)
    send.option(
        "--require",
        0,
        "say it only if so many are there to hear it, wait for them until then",
        metavar="N",
        type=between(0, 10**6),
    )
    send.option(
        "--timeout",
        10,
        "how long to try",
        metavar="SECONDS",
        type=between(1, 10**6),
    )
    send.switch("--json", "print the server's answer itself")


def add_run(run: Parser) -> None:
    """Add what can be typed behind `run`, and before its `--`."""
    run.set_defaults(command="run", typed=frozenset(), exec=[])
    run.usage = "%(prog)s [OPTION ...] [URL] -- COMMAND [ARGUMENT ...]"
    _add_server(run)
    _add_entry(run)
    run.option(
        "--label",
        None,
        "what the room is told instead of the command, which may be long or hold a secret",
        metavar="TEXT",
    )
    run.switch("--only-failures", "tell only of a command that did not end with 0")
    run.option(
        "--timeout",
        5,
        "how long to wait for the room when the command has ended",
        metavar="SECONDS",
        type=between(1, 10**6),
    )


def _add_server(client: Parser) -> None:
    client.add_argument(
        "url",
        nargs="?",
        metavar="URL",
        help="the server's address, ws://HOST:PORT/ or HOST:PORT, instead of --host and --port"
        f" [{ENVIRONMENT}URL]",
    )
    client.option("--host", "127.0.0.1", "the server's host", metavar="HOST")
    client.option("--port", 8765, "the server's port", metavar="N", type=between(1, 65535))
    client.option("--unix", None, "the server's socket file, instead", metavar="PATH")
    client.option(
        "--tls-ca",
        None,
        "file with the authorities whose certificates are trusted for wss://, instead of"
        " the system's",
        metavar="FILE",
    )


def _add_entry(client: Parser) -> None:
    client.option("--name", None, "your name (default: anonymous)", metavar="NAME", type=name)
    client.option("--room", None, "the room (default: lobby)", metavar="ROOM", type=room)
    client.option(
        "--token-file",
        None,
        f"file with the token by which you sign in; {TOKEN} may hold one itself",
        metavar="FILE",
    )
