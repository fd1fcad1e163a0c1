"""The entry point of the command line: runs a command and returns its exit code.

Only what the given command needs is imported, so that the program starts quickly.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from broadcast_server.console.streams import flush_streams, note, print_text, stdout_error
from broadcast_server.protocol.userinfo import without_userinfo

from .env_parser import VARIABLE_PREFIX
from .options import make_parser, parse_options
from .usage import usage_error

if TYPE_CHECKING:
    from broadcast_server.client.target import Target

TOKEN_NOTE = "* your {} goes to the server unencrypted (use wss://)"  # noqa: S105  # it has no token


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return the exit code: 0 done, 1 failed, 2 wrong usage."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # what its encoding does not have is no error
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = _run(arguments)
    except SystemExit as exit:  # raised by argparse
        code = exit.code if isinstance(exit.code, int) else 0
    error = flush_streams()
    if error is None or isinstance(error, BrokenPipeError):
        return code
    note(stdout_error(error))
    return 1


def _run(arguments: Sequence[str] | None) -> int:
    try:
        options = parse_options(arguments)
    except OSError as error:  # while printing help
        if not isinstance(error, BrokenPipeError):
            note(stdout_error(error))
        return 1
    match options.command:
        case "start":
            from .start import start

            return start(options)
        case "connect":
            from .connect import connect

            return _with_target(options, connect)
        case "send":
            return _with_target(options, _send)
        case "history":
            from .history import history

            if options.url is None and {":", "/"} & {*(options.room or "")}:
                options.url, options.room = options.room, None  # it names the room as well
            return _with_target(options, history)
        case "run":
            return _run_command(options, arguments)
        case "backup":
            from .backup import backup

            return backup(options)
        case "completion" | "manual":
            return _print_generated(options)
    make_parser().print_help(sys.stderr)
    return 2


def _print_generated(options: argparse.Namespace) -> int:
    """Print a completion script or the man page, generated from the parser."""
    from .completion import SHELLS
    from .man_page import man_page
    from .parser_schema import parser_schema

    program, *commands = parser_schema(make_parser())
    write = man_page if options.command == "manual" else SHELLS[options.shell]
    return print_text(write(program, commands))


def _with_target(
    options: argparse.Namespace, command: Callable[[argparse.Namespace, Target], int]
) -> int:
    """Run a client's *command* with the server that the *options* name."""
    from .target_option import target_from_options

    try:
        target = target_from_options(options)
    except ValueError as error:
        return usage_error(options.command, str(error))
    if target.exposes_token:
        note(TOKEN_NOTE.format("token" if target.token is not None else "operator key"))
    return command(options, target)


def _send(options: argparse.Namespace, target: Target) -> int:
    from .send import send

    # Whatever standard input is: in CI it is often a pipe with nothing in it.
    is_named = options.url is not None or options.typed & {"host", "port", "unix"}
    if not is_named and _names_server(options.text):
        return usage_error(
            "send",
            f"{without_userinfo(options.text)} is an address, and the text comes first: send TEXT"
            " ADDRESS, or send - ADDRESS for what is in a file or a pipe",
        )
    if options.url is not None and not {":", "/"} & {*options.url}:
        return usage_error(
            "send",
            f"{without_userinfo(options.url)} is not an address of the form HOST:PORT"
            " (quote a text with spaces)",
        )
    return send(options, target)


def _names_server(text: str) -> bool:
    """Return whether a *text* of `send` is an address with a port, or a WebSocket's."""
    host, _, port = text.partition("/")[0].rpartition(":")
    is_host = any(char.isalpha() or char in ".]" for char in host) and port.isdecimal()
    return len(text.split()) == 1 and (is_host or text.startswith(("ws://", "wss://")))


def _run_command(options: argparse.Namespace, arguments: Sequence[str] | None) -> int:
    """Run the command of `run`, without a report if our variables are at fault."""
    from .target_option import NoTLSError, target_from_options

    if not options.exec or not options.exec[0]:
        return usage_error("run", "no command given (put it after --: run -- make test)")
    target: Target | None = None
    troubles = list(options.troubles)
    try:
        target = target_from_options(options)
    except NoTLSError as error:
        troubles.append(str(error))
    except ValueError as error:
        if problem := _target_problem(arguments, _variables()):
            return usage_error("run", problem)
        at_fault = [each for each in _variables() if not _target_problem(arguments, [each])]
        named = not at_fault or str(error).startswith(at_fault[0])
        troubles.append(str(error) if named else f"{error} (from {' or '.join(at_fault)})")
    if troubles:
        note(f"* nothing is reported to the room: {troubles[0]}")
        target = None
    elif target is not None and target.exposes_token:
        note(TOKEN_NOTE.format("token" if target.token is not None else "operator key"))
    from .run import run  # not before it is known whether there is a module ssl

    return run(options, target)


def _variables() -> list[str]:
    return [name for name in os.environ if name.startswith(VARIABLE_PREFIX)]


def _target_problem(arguments: Sequence[str] | None, removed: Sequence[str]) -> str:
    """Return what is wrong with the target without the variables *removed*, empty if nothing is."""
    from .target_option import target_from_options

    values = {name: os.environ.pop(name) for name in removed}
    try:
        target_from_options(parse_options(arguments))
    except ValueError as error:
        return str(error)
    finally:
        os.environ.update(values)
    return ""
