"""The connect command: a terminal, a pipe, or a command run for each message."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from broadcast_server.http.program import keep_compiled

from .usage import usage_error

PLAIN_HISTORY = 5
"""Past messages that are shown first on a screen that reads them out, or is small."""

STARTUP_ROWS = 6
"""Rows of a terminal that notices, prompt and status line take at the start."""

if TYPE_CHECKING:
    from broadcast_server.client.target import Target
    from broadcast_server.protocol.messages import Cursor


def connect(options: argparse.Namespace, target: Target) -> int:
    """Run `connect` with its *options*, and return the exit code."""
    import asyncio
    import logging

    from broadcast_server.client.client import ReconnectingClient
    from broadcast_server.client.session import ClientSession

    logging.getLogger("websockets").addHandler(logging.NullHandler())
    room, since = options.room or target.query.get("room"), None
    keep: Callable[[Cursor], None] | None = None
    if options.since is not None:
        from broadcast_server.pipe.cursor_file import CursorFile, CursorFileError

        try:
            file = CursorFile(options.since)
            room, since = file.load(room)
        except CursorFileError as error:
            return usage_error("connect", str(error))

        def keep(cursor: Cursor) -> None:
            file.save(session.room, cursor)

    if options.exec is not None and options.json:
        return usage_error("connect", "--exec cannot be combined with --json or BROADCAST_JSON")
    if options.exec is not None and (reason := _command_error(options.exec)):
        return usage_error("connect", f"--exec: {reason}")
    history = _default_history(options) if options.history is None else options.history
    session = ClientSession(options.name, room, history, since, quiet=options.quiet_join)

    async def run() -> int:
        client = ReconnectingClient(
            target.url,
            target.query,
            session,
            token=target.token,
            unix=target.unix,
            authorities=target.authorities,
            proxy=target.proxy,
            operator_key=target.operator_key,
        )
        if _at_terminal(options):
            if options.plain or _is_dumb():
                from broadcast_server.terminal.plain import PlainUI

                return await _run_loaded(
                    PlainUI(client, bell=options.bell, timestamps=options.timestamps).run
                )
            from broadcast_server.terminal.prompt import PromptUI

            return await _run_loaded(PromptUI(client, bell=options.bell).run)
        from broadcast_server.pipe.message_filter import MessageFilter
        from broadcast_server.pipe.pipe import Pipe, Sink
        from broadcast_server.pipe.printer import Printer

        sink: Sink = Printer(json=options.json, timestamps=options.timestamps)
        if options.exec is not None:
            from broadcast_server.pipe.exec_sink import ExecSink

            sink = ExecSink(options.exec, session, keep)
        pipe = Pipe(
            client,
            sink,
            listen=options.listen or _waits(options),
            save_cursor=keep,
            wanted=MessageFilter(options.match, options.count),
            timeout=options.timeout,
            oversize=options.oversize,
        )
        return await _run_loaded(pipe.run)

    return asyncio.run(run())


async def _run_loaded(run: Callable[[], Awaitable[int]]) -> int:
    """Run a client whose modules are loaded: from now on there may be garbage."""
    keep_compiled()
    gc.freeze()
    gc.enable()
    return await run()


def _command_error(command: list[str]) -> str:
    """Return why *command* cannot be run, an empty string if it can."""
    from shutil import which

    if not command:
        return "no command given after it"
    return "" if which(command[0]) else f"{command[0]} is not an executable command"


def _at_terminal(options: argparse.Namespace) -> bool:
    """Whether a person chats here, as opposed to a script, a pipe or a listener."""
    if options.json or options.listen or options.since or options.exec is not None:
        return False
    if _waits(options):
        return False
    if sys.stdin is None or sys.stdout is None:
        return False
    return sys.stdin.isatty() and sys.stdout.isatty()


def _default_history(options: argparse.Namespace) -> int:
    """Return how many messages fill the screen below what is printed at the start; 0 in a pipe.

    A screen reader would read all of them out, so `--plain` has only a few.
    """
    if not _at_terminal(options):
        return 0
    if options.plain or _is_dumb():
        return PLAIN_HISTORY
    from shutil import get_terminal_size

    return max(PLAIN_HISTORY, get_terminal_size().lines - STARTUP_ROWS)


def _waits(options: argparse.Namespace) -> bool:
    """Whether the client waits for messages, or for a time."""
    return any(value is not None for value in (options.match, options.count, options.timeout))


def _is_dumb() -> bool:
    """Whether the terminal can only print lines."""
    return sys.platform != "win32" and os.environ.get("TERM", "dumb") in ("", "dumb")
