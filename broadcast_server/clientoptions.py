"""The options of those who take part: what can be typed behind `connect`.

It knows nothing of what the options do.
"""

from __future__ import annotations

from .typed import ENVIRONMENT, Parser, between, name, room

TOKEN = f"{ENVIRONMENT}TOKEN"
CONNECT = """\
examples:
  %(prog)s --name bob                   talk, at a terminal
  %(prog)s wss://example.org/ --room ops
  make 2>&1 | %(prog)s --name build     say each line, then leave
  %(prog)s --listen --json | jq .text   hear everything, as JSON
"""


def add_connect(connect: Parser) -> None:
    """Add what can be typed behind `connect`."""
    connect.set_defaults(command="connect", typed=frozenset())
    connect.add_argument(
        "url",
        nargs="?",
        metavar="URL",
        help="the server's address, ws://HOST:PORT/ or HOST:PORT, instead of --host and --port"
        f" [{ENVIRONMENT}URL]",
    )
    connect.option("--host", "127.0.0.1", "the server's host", metavar="HOST")
    connect.option("--port", 8765, "the server's port", metavar="N", type=between(1, 65535))
    connect.option("--unix", None, "the server's socket file, instead", metavar="PATH")
    connect.option(
        "--tls-ca",
        None,
        "file with the authorities whose certificates are trusted for wss://, instead of"
        " the system's",
        metavar="FILE",
    )
    connect.option("--name", None, "your name (default: anonymous)", metavar="NAME", type=name)
    connect.option("--room", None, "the room (default: lobby)", metavar="ROOM", type=room)
    connect.option(
        "--history",
        0,
        "past messages to see first",
        metavar="N",
        type=between(0, 10**9),
    )
    connect.option(
        "--token-file",
        None,
        f"file with the token by which you sign in; {TOKEN} may hold one itself",
        metavar="FILE",
    )
    connect.switch("--listen", "stay after the end of the input")
    connect.switch("--json", "print the events themselves, as JSON")
