"""The start command: turns options into settings, and runs the server until it is stopped."""

from __future__ import annotations

import argparse
import errno
import gc
from typing import TYPE_CHECKING

from broadcast_server.console.os_error import describe_os_error
from broadcast_server.console.streams import note

from .usage import usage_error

if TYPE_CHECKING:
    from broadcast_server.server.settings import Settings


def start(options: argparse.Namespace) -> int:
    """Run `start` with its *options*, and return the exit code."""
    import asyncio
    import logging
    from functools import partial

    from broadcast_server.rooms.message_log import LogFileError
    from broadcast_server.server.listen_socket import ListenError
    from broadcast_server.server.log_format import LineHandler, formatter, log_lean
    from broadcast_server.server.serve import serve

    from .startup import print_startup, share_url

    logging.raiseExceptions = False  # a log that cannot be written must not stop the server
    log_lean()
    handler = LineHandler()
    handler.setFormatter(formatter(options.log_format))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    try:
        settings = settings_of(options)
    except ValueError as error:
        return usage_error("start", str(error))
    gc.freeze()
    gc.enable()
    try:
        asyncio.run(serve(settings, partial(print_startup, options), partial(share_url, options)))
    except (OSError, UnicodeError) as error:
        note(_bind_error(error, options))
        return 1
    except (LogFileError, ListenError) as error:
        note(str(error))
        return 1
    except ImportError as error:  # the single file was replaced while it was starting
        note(f"Could not start: {error} (start it again)")
        return 1
    return 0


def settings_of(options: argparse.Namespace) -> Settings:
    """Return the server's settings. Raises ValueError for options that do not fit together."""
    from broadcast_server.admission.admission import AdmissionLimits
    from broadcast_server.server.settings import Settings

    from .operator_option import operator_key_from_options
    from .token_option import token_from_options

    if options.tls_key is not None and options.tls_cert is None:
        raise ValueError("--tls-key needs --tls-cert (give both)")
    if options.unix is not None and options.typed & {"host", "port"}:
        if "unix" in options.typed:
            raise ValueError("--unix cannot be combined with --host or --port")
        options.unix = None  # what is typed takes precedence over BROADCAST_UNIX
    if options.unix is not None and options.open:
        raise ValueError("--open cannot be combined with --unix: a browser needs a port")
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
        hosts=options.allow_host | _public_host(options.public_url),
        token=token_from_options(options),
        operator_key=operator_key_from_options(options),
        trusted_proxies=options.trusted_proxy,
        limits=AdmissionLimits(
            clients=options.max_clients,
            clients_per_address=options.max_clients_per_address,
            rooms=options.max_rooms,
            joins=options.max_joins,
            rate=options.rate,
        ),
        grace=options.grace,
    )


def _public_host(url: str | None) -> frozenset[str]:
    """Return the name in --public-url: others use it, so it is one of the server's."""
    from urllib.parse import urlsplit

    name = urlsplit(url or "").hostname
    return frozenset([name] if name else [])


def _bind_error(error: OSError | UnicodeError, options: argparse.Namespace) -> str:
    import socket

    host, port = options.host, options.port
    place, option = f"[{host}]:{port}" if ":" in host else f"{host}:{port}", "--port"
    if options.unix is not None:
        place, option = str(options.unix), "--unix"
    if isinstance(error, (UnicodeError, socket.gaierror)):
        return f"Could not listen on {place}: unknown host (name an address of this machine)"
    if error.errno == errno.EADDRINUSE:
        return f"Address already in use: {place} (choose another with {option})"
    if options.unix is not None:
        reason, remedy = describe_os_error(error), "choose another path with --unix"
    elif error.errno == errno.EADDRNOTAVAIL:
        reason = "it is no address of this machine"
        remedy = "--host 0.0.0.0 or --host :: listens on all of them"
    elif error.errno == errno.EINVAL and host.lower().startswith("fe80:"):
        reason, remedy = "it lacks its interface", f"for example --host {host}%eth0"
    elif error.errno == errno.EACCES:
        reason, remedy = "not permitted", "choose a --port above 1023"
    else:
        reason, remedy = describe_os_error(error), "choose another with --host and --port"
    return f"Could not listen on {place}: {reason} ({remedy})"
