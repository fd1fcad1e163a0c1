"""Server addresses: parse what people type or paste, and tell which are confidential."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit, urlunsplit

_ZONE = re.compile(r"(\[[^]%]*)%25([^]]+)")
"""A zone in the form of URLs (RFC 6874), as opposed to that of everything else (RFC 4007)."""

DEFAULT_PORTS = {"ws": 80, "wss": 443}
"""The port of a URL that names none (RFC 6455, section 3)."""


def parse_address(url: str, default_port: int | None = None) -> tuple[str, dict[str, str]]:
    """Split an address into the URL of the WebSocket and its query parameters.

    *url* may be a WebSocket's URL, the URL of the page (`https://...`), `HOST:PORT` or `HOST`. If
    it is only a host, *default_port* is its port; with a scheme, the port is that of the scheme.
    Raises ValueError with the reason.
    """
    parts = urlsplit(url if "://" in url else f"ws://{url}")
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in ("ws", "wss"):
        raise ValueError(f"scheme is {scheme}, must be ws, wss, http or https")
    if not parts.hostname:
        raise ValueError("it has no host")
    if parts.port == 0:  # `parts.port` itself raises ValueError for other invalid ports
        raise ValueError("port is 0, must be 1 to 65535")
    if parts.username is not None:
        raise ValueError("it has a user name, which is not supported")
    if any(char.isspace() or 0xD800 <= ord(char) <= 0xDFFF for char in url):
        raise ValueError("it has a space or another invalid character")
    netloc = _ZONE.sub(r"\1%\2", parts.netloc)
    if "://" not in url and parts.port is None and default_port is not None:
        netloc = f"{netloc.removesuffix(':')}:{default_port}"
    query = dict(parse_qsl(parts.query))
    return urlunsplit((scheme, netloc, parts.path or "/", "", "")), query


def without_zone(url: str) -> str:
    """Return *url* without the zone of an IPv6 address.

    The zone is of this machine, so it goes into no request (RFC 6874, section 1).
    """
    return re.sub(r"^(\w+://\[[^]%/]*)%[^]/]*", r"\1", url)


def with_port(url: str) -> str:
    """Return a WebSocket's *url* with its port, also if that is the scheme's own."""
    parts = urlsplit(url)
    if parts.port is not None:
        return url
    netloc = f"{parts.netloc.removesuffix(':')}:{DEFAULT_PORTS[parts.scheme]}"
    return urlunsplit(parts._replace(netloc=netloc))


def is_confidential(url: str) -> bool:
    """Tell whether nobody on the network path can read what is sent to *url*: TLS or loopback."""
    from ipaddress import ip_address

    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "wss" or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
