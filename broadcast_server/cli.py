"""The command line: starts what was asked for, and tells in a line why it could not.

It imports as little as it can, and of `server` and `client` only the one that is
asked for: the time from Enter to a prompt is the first that anyone sees of us.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .options import parse, parser
from .streams import no_output, note, reason, settle

if TYPE_CHECKING:
    from .protocol import Cursor
    from .server import Settings
    from .target import Target


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for, and return the exit code."""
    try:
        code = _run(arguments)
    except SystemExit as exit:  # by argparse
        code = exit.code if isinstance(exit.code, int) else 0
    error = settle()
    if error is None or isinstance(error, BrokenPipeError):
        return code
    note(no_output(error))
    return 1


def _run(arguments: Sequence[str] | None) -> int:
    try:
        options = parse(arguments)
    except OSError as error:  # in the middle of help
        if not isinstance(error, BrokenPipeError):
            note(no_output(error))
        return 1
    match options.command:
        case "start":
            return _start(options)
        case "connect":
            return _at_target(options, _connect)
        case "send":
            return _at_target(options, _send)
        case "run":
            return _at_target(options, _run_command)
        case "completion" | "manual":
            return _print(options)
    parser().print_help(sys.stderr)
    return 2


def _print(options: argparse.Namespace) -> int:
    """Print what is written from the parser itself, as the installed program has it."""
    from .completion import SHELLS
    from .manual import manual
    from .synopsis import commands

    whole, *found = commands(parser())
    written = manual(whole, found) if options.command == "manual" else None
    if sys.stdout is not None:
        sys.stdout.write(written or SHELLS[options.shell](whole, found))
    return 0


# -- start --------------------------------------------------------------------


def _start(options: argparse.Namespace) -> int:
    import asyncio
    import logging
    from functools import partial

    from .announcement import announce
    from .door import NoPlace
    from .history import LogFileError
    from .logline import formatter
    from .server import serve

    logging.raiseExceptions = False  # a log that cannot be written stops nothing
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(options.log_format))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    try:
        settings = settings_of(options)
    except ValueError as error:
        return _wrong("start", str(error))
    try:
        asyncio.run(serve(settings, partial(announce, options)))
    except (OSError, UnicodeError) as error:
        note(_bind_error(error, options))
        return 1
    except (LogFileError, NoPlace) as error:
        note(str(error))
        return 1
    except ImportError as error:  # the single file was replaced while it started
        note(f"Could not start: {error} (start it again)")
        return 1
    return 0


def settings_of(options: argparse.Namespace) -> Settings:
    """Return what a server is told by the *options* of `start`. Raises ValueError."""
    from .gate import Limits
    from .server import Settings
    from .signin import token

    if options.tls_key is not None and options.tls_cert is None:
        raise ValueError("--tls-key without --tls-cert is of no use, give both")
    if options.unix is not None and options.typed & {"host", "port"}:
        raise ValueError("--unix and --host or --port are too much, give one of them")
    if options.unix is not None and options.open:
        raise ValueError("--open with --unix opens nothing, a browser needs a port")
    return Settings(
        host=options.host,
        port=options.port,
        unix=options.unix,
        tls_cert=options.tls_cert,
        tls_key=options.tls_key,
        max_message_bytes=options.max_message_bytes,
        log_messages=options.log_messages,
        log_bytes=options.log_bytes,
        log=options.log,
        log_sync=options.log_sync,
        origins=options.allow_origin,
        token=token(options),
        trusted=options.trusted_proxy,
        limits=Limits(
            clients=options.max_clients,
            clients_per_address=options.max_clients_per_address,
            rooms=options.max_rooms,
            joins=options.max_joins,
            rate=options.rate,
        ),
        grace=options.grace,
    )


def _bind_error(error: OSError | UnicodeError, options: argparse.Namespace) -> str:
    import socket

    host, port = options.host, options.port
    place, other = f"[{host}]:{port}" if ":" in host else f"{host}:{port}", "--port"
    if options.unix is not None:
        place, other = str(options.unix), "--unix"
    if isinstance(error, (UnicodeError, socket.gaierror)):
        return f"Could not listen on {place}: unknown host (name an address of this machine)"
    if error.errno == errno.EADDRINUSE:
        return f"Address already in use: {place} (choose another with {other})"
    if error.errno == errno.EACCES and options.unix is None:
        return f"Could not listen on {place}: not permitted (choose a --port above 1023)"
    return f"Could not listen on {place}: {reason(error)}"


# -- connect, send, run -------------------------------------------------------


def _at_target(options: argparse.Namespace, do: Callable[[argparse.Namespace, Target], int]) -> int:
    from .target import target

    try:
        where = target(options)
    except ValueError as error:
        return _wrong(options.command, str(error))
    if where.exposes_token:
        note("* your token goes to the server unencrypted (use wss://)")
    return do(options, where)


def _send(options: argparse.Namespace, where: Target) -> int:
    from .send import send

    if options.url is not None and not {":", "/"} & {*options.url}:
        return _wrong(
            "send", f"{options.url} is no address of the form HOST:PORT (quote a text with spaces)"
        )
    return send(options, where)


def _run_command(options: argparse.Namespace, where: Target) -> int:
    from .run import run

    if not options.exec:
        return _wrong("run", "there is no command (put it behind --: run -- make test)")
    return run(options, where)


def _connect(options: argparse.Namespace, where: Target) -> int:
    import asyncio
    import logging

    from .client import Client
    from .conversation import Conversation

    logging.getLogger("websockets").addHandler(logging.NullHandler())
    room, since = options.room or where.query.get("room"), None
    keep: Callable[[Cursor], None] | None = None
    if options.since is not None:
        from .cursorfile import BadCursorFile, CursorFile

        file = CursorFile(options.since)
        try:
            room, since = file.load(room)
        except BadCursorFile as error:
            return _wrong("connect", str(error))

        def keep(cursor: Cursor) -> None:
            file.keep(conversation.room, cursor)

    if options.exec is not None and options.json:
        return _wrong("connect", "--exec and --json (BROADCAST_JSON) are too much, give one")
    if options.exec is not None and (problem := _no_command(options.exec)):
        return _wrong("connect", f"--exec: {problem}")
    conversation = Conversation(options.name, room, options.history, since)

    async def take_part() -> int:
        client = Client(
            where.url,
            where.query,
            conversation,
            token=where.token,
            unix=where.unix,
            trusted=where.trusted,
        )
        if _at_terminal(options):
            if options.plain or _is_dumb():
                from .plain import Plain

                return await Plain(client, bell=options.bell).run()
            from .terminal import Terminal

            return await Terminal(client, bell=options.bell).run()
        from .pipe import Pipe, Printer, Sink

        sink: Sink = Printer(json=options.json)
        if options.exec is not None:
            from .handler import Handler

            sink = Handler(options.exec, conversation, keep)
        return await Pipe(client, sink, listen=options.listen, keep=keep).run()

    return asyncio.run(take_part())


def _no_command(command: list[str]) -> str:
    """Say what is wrong with a command that is to be run, nothing if it is there."""
    from shutil import which

    if not command:
        return "there is no command behind it"
    return "" if which(command[0]) else f"{command[0]} is no command that can be run here"


def _at_terminal(options: argparse.Namespace) -> bool:
    """Tell whether someone sits there to talk, rather than a script or a listener."""
    if options.json or options.listen or options.since or options.exec is not None:
        return False
    if sys.stdin is None or sys.stdout is None:
        return False
    return sys.stdin.isatty() and sys.stdout.isatty()


def _is_dumb() -> bool:
    """Tell whether the terminal can do nothing but print lines."""
    return sys.platform != "win32" and os.environ.get("TERM", "dumb") in ("", "dumb")


def _wrong(command: str, what: str) -> int:
    note(f"broadcast-server {command}: error: {what}")
    return 2
