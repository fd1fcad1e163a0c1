"""The public address: where users reach the site, for its links in mails and for its prefix."""

from __future__ import annotations

import re
from typing import NamedTuple

from broadcast_server.http.allowed_hosts import host_name
from broadcast_server.protocol.userinfo import without_userinfo

SYNTAX = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>(?:/[A-Za-z0-9._~-]+)*)/?",
    re.IGNORECASE | re.ASCII,
)
DEFAULT_PORTS = {"http": 80, "https": 443}


class PublicURL(NamedTuple):
    """An address: ``https://chat.example.org:8443/chat/``, where the prefix is ``/chat``."""

    scheme: str
    host: str
    port: int
    prefix: str

    @property
    def netloc(self) -> str:
        """The host, and the port unless it is the default of the scheme."""
        return netloc(self.scheme, self.host, self.port)


def netloc(scheme: str, host: str, port: int) -> str:
    """Return a host and its port as an address has them. *host* has brackets if it is IPv6."""
    return host if port == DEFAULT_PORTS[scheme] else f"{host}:{port}"


def parse_public_url(text: str) -> PublicURL:
    """Parse `BROADCAST_PUBLIC_URL`. Raises ValueError."""
    match = SYNTAX.fullmatch(text)
    segments = match["path"].split("/") if match else []
    port = int(match["port"] or DEFAULT_PORTS[match["scheme"].lower()]) if match else 0
    name = host_name(match["host"]) if match else None
    if match is None or name is None or not 0 < port < 2**16 or {".", ".."} & set(segments):
        shown = without_userinfo(text)
        raise ValueError(
            f"{shown!r} is not an address (https://HOST/ or https://HOST:PORT/PREFIX/)"
        )
    host = f"[{name}]" if ":" in name else name.removesuffix(".")
    return PublicURL(match["scheme"].lower(), host, port, match["path"])
