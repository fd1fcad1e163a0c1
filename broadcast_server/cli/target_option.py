"""The target: which server a client's options name, and how to sign in there."""

from __future__ import annotations

import argparse
import os
import stat
from typing import TYPE_CHECKING

from broadcast_server.cli.env_parser import VARIABLE_PREFIX, variable_value
from broadcast_server.cli.operator_option import operator_key_from_options
from broadcast_server.cli.token_option import token_from_options
from broadcast_server.client.address import invalid_address, parse_address, split_room
from broadcast_server.client.target import Target
from broadcast_server.console.argument import argument_text
from broadcast_server.console.tls_support import NO_TLS, has_tls
from broadcast_server.protocol.names import validate_room

if TYPE_CHECKING:
    import ssl

    from broadcast_server.client.proxy import Proxy


class NoTLSError(ValueError):
    """The server is to be reached with TLS, and this Python has none."""


def target_from_options(options: argparse.Namespace) -> Target:
    """Return the server that a client's *options* name. Raises ValueError, `NoTLSError`."""
    if options.url is not None and options.typed & {"host", "port"}:
        raise ValueError("a URL cannot be combined with --host or --port")
    unix = options.unix
    address_typed = options.url is not None or options.typed & {"host", "port"}
    if unix and address_typed and "unix" in options.typed:
        raise ValueError("--unix cannot be combined with a URL, --host or --port")
    if address_typed:  # it overrides BROADCAST_UNIX
        unix = None
    if unix:
        _check_socket(unix)
    address = "ws://localhost/" if unix else _address(options)
    try:
        url, query = parse_address(address, options.port)
        url, room = split_room(url)
        if room is not None:
            query = {"room": validate_room(room)} | query
    except ValueError as error:
        raise ValueError(invalid_address(address, error)) from None
    if unix and options.proxy and "proxy" in options.typed:
        raise ValueError("--unix cannot be combined with --proxy")
    proxy = None if unix or not options.proxy else _proxy(options, url)
    token, operator_key = token_from_options(options), operator_key_from_options(options)
    if not has_tls() and url.startswith("wss:"):  # asked in any case: the clients import ssl
        raise NoTLSError(f"{NO_TLS}, which {address} needs (use ws://, or another Python)")
    return Target(url, query, token, unix, _authorities(options, url), proxy, operator_key)


def _check_socket(path: str) -> None:
    """Raise ValueError if something else than a socket is at *path*: nobody ever answers there.

    If nothing is there, the server may start later.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116  # pathlib would take some time to load
    except (OSError, ValueError):
        return
    if not stat.S_ISSOCK(mode):
        raise ValueError(f"--unix {path}: it is no socket (name the socket of a server)")


def _address(options: argparse.Namespace) -> str:
    """Return the typed URL or host and port, else BROADCAST_URL, else the default address."""
    if options.url is not None:
        return argument_text(options.url)
    host, port = options.host, options.port
    url = variable_value(f"{VARIABLE_PREFIX}URL")
    if url and not options.typed & {"host", "port"}:
        return url
    return f"ws://[{host}]:{port}/" if ":" in host else f"ws://{host}:{port}/"


def _proxy(options: argparse.Namespace, url: str) -> Proxy | None:
    from broadcast_server.client.proxy import choose_proxy

    source = "--proxy" if "proxy" in options.typed else f"{VARIABLE_PREFIX}PROXY"
    return choose_proxy(options.proxy, url, os.environ, source)


def _authorities(options: argparse.Namespace, url: str) -> ssl.SSLContext | None:
    if not options.tls_ca or not url.startswith("wss:"):
        return None
    from broadcast_server.server.tls import CertificateError, load_authorities

    try:
        return load_authorities(options.tls_ca)
    except CertificateError as error:
        raise ValueError(f"--tls-ca {error}") from None
