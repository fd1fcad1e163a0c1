"""The target: the server that the options of a client mean, and how one gets in there."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .address import address, is_secret_on_the_way_to
from .signin import token
from .typed import ENVIRONMENT

if TYPE_CHECKING:
    import ssl


@dataclass(frozen=True, slots=True)
class Target:
    """A server, as a client dials it."""

    url: str
    query: dict[str, str]  # that the address had
    token: str | None
    unix: str | None  # a socket file, which is dialled instead of the URL's host
    trusted: ssl.SSLContext | None  # whom, if not the system's authorities

    @property
    def where(self) -> str:
        """Where it is, for people."""
        return self.url if self.unix is None else f"unix:{self.unix}"

    @property
    def exposes_token(self) -> bool:
        """Whether others on the way can read the token."""
        return self.token is not None and not is_secret_on_the_way_to(self.url)


def target(options: argparse.Namespace) -> Target:
    """Return what the *options* of a client mean. Raises ValueError."""
    if options.url is not None and options.typed & {"host", "port"}:
        raise ValueError("a URL and --host or --port are too much, give one of them")
    unix = options.unix
    elsewhere = options.url is not None or options.typed & {"host", "port"}
    if unix and elsewhere and "unix" in options.typed:
        raise ValueError("--unix and an address are too much, give one of them")
    if elsewhere:
        unix = None
    place = "ws://localhost/" if unix else _place(options)
    try:
        url, query = address(place)
    except ValueError as error:
        raise ValueError(f"{place} is no address: {error}") from None
    return Target(url, query, token(options), unix, _trusted(options, url))


def _place(options: argparse.Namespace) -> str:
    if options.url is not None:
        return str(options.url)
    host, port = options.host, options.port
    elsewhere = os.environ.get(f"{ENVIRONMENT}URL")
    if elsewhere and not options.typed & {"host", "port"}:
        return elsewhere
    return f"ws://[{host}]:{port}/" if ":" in host else f"ws://{host}:{port}/"


def _trusted(options: argparse.Namespace, url: str) -> ssl.SSLContext | None:
    if not options.tls_ca or not url.startswith("wss:"):
        return None
    from .tls import BadCertificate, trust

    try:
        return trust(options.tls_ca)
    except BadCertificate as error:
        raise ValueError(f"--tls-ca {error}") from None
