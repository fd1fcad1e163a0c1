"""Server addresses: parse what people type or paste, and tell which are confidential."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from broadcast_server.protocol.names import room_from_text
from broadcast_server.protocol.userinfo import has_userinfo, without_userinfo

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

_ZONE = re.compile(r"(\[[^]%]*)%25([^]]+)")
"""A zone in the form of URLs (RFC 6874), as opposed to that of everything else (RFC 4007)."""

_NUMBER = re.compile(r"0x[0-9a-f]{1,20}|[0-9]{1,20}")

LOOPBACK_NAMES = frozenset(
    ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback", "localhost4",
     "localhost4.localdomain4", "localhost6", "localhost6.localdomain6")
)  # fmt: skip
"""Names of this machine in the hosts files of Linux distributions."""

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
    host = parts.netloc.rpartition("@")[2]
    if host.count(":") > 1 and "[" not in host:
        raise ValueError(f"an IPv6 address is in brackets: [{host}]")
    if not parts.hostname:
        raise ValueError("it has no host")
    port = host.rpartition("]")[2].rpartition(":")[2] if ":" in host.rpartition("]")[2] else ""
    if port and not (port.isascii() and port.isdigit() and 0 < int(port[:9]) < 2**16):
        raise ValueError(f"port is {port[:20]}, must be 1 to 65535")
    if parts.username is not None:
        raise ValueError("it has a user name, which is not supported")
    if any(char.isspace() or 0xD800 <= ord(char) <= 0xDFFF for char in url):
        raise ValueError("it has a space or another invalid character")
    netloc = _ZONE.sub(r"\1%\2", parts.netloc)
    if "://" not in url and parts.port is None and default_port is not None:
        netloc = f"{netloc.removesuffix(':')}:{default_port}"
    query = dict(parse_qsl(parts.query))
    return urlunsplit((scheme, netloc, parts.path or "/", "", "")), query


def split_room(url: str) -> tuple[str, str | None]:
    """Return *url* without a room at the end of its path, and the room: ``HOST:PORT/ops``.

    The WebSocket of a server is at a path that ends with a slash, after any prefix of a proxy.
    """
    parts = urlsplit(url)
    prefix, _, name = parts.path.rpartition("/")
    room = room_from_text(unquote(name))
    if not room:
        return url, None
    return urlunsplit(parts._replace(path=f"{prefix}/")), room


def invalid_address(address: str, error: ValueError) -> str:
    """Return what to say of an *address* that `parse_address` rejected, without a password."""
    reason = str(error)
    if has_userinfo(address):  # the reason may have the part that could not be read
        reason = "it has a user name, which is not supported, or an @ that is not written as %40"
    return f"{without_userinfo(address)} is not a valid address: {reason}"


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
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "wss" or host == "localhost":  # other names may be looked up elsewhere
        return True
    address = literal_address(host)
    return address is not None and address.is_loopback


def is_loopback(host: str) -> bool:
    """Tell whether a system connects to itself for *host*, a name or address in lower case.

    Of names, these are the ones that are reserved for it (RFC 6761) or are in the usual hosts
    files. No other name is looked up.
    """
    name = _ascii(host).removesuffix(".")
    if name in LOOPBACK_NAMES or name.endswith((".localhost", ".localhost.localdomain")):
        return True
    address = literal_address(name)
    return address is not None and (address.is_loopback or address.is_unspecified)


def literal_address(host: str) -> IPv4Address | IPv6Address | None:
    """Return the address that *host* is, in any form that systems take; None if it is a name.

    The forms of `inet_aton` are 127.1, 2130706433, 0x7f.1 and the like. An IPv4 address that is
    mapped to IPv6 becomes what it is.
    """
    from ipaddress import IPv4Address, ip_address

    host = _ascii(host)
    try:
        if (number := _legacy_ipv4(host)) is not None:
            return IPv4Address(number)
        address = ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _legacy_ipv4(host: str) -> int | None:
    """Return the number of an IPv4 address as `inet_aton` reads it: the last part fills it up."""
    parts = host.split(".")
    if len(parts) > 4 or not all(map(_NUMBER.fullmatch, parts)):
        return None
    *octets, last = (
        int(part, 16 if part[:2] == "0x" else 8 if part[0] == "0" else 10) for part in parts
    )
    if max(octets, default=0) > 255 or last >= 256 ** (4 - len(octets)):
        return None
    return sum(octet << 24 - 8 * at for at, octet in enumerate(octets)) + last


def _ascii(host: str) -> str:
    """Return *host* as the system gets it: digits and dots of other scripts become ASCII."""
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode().lower()
    except UnicodeError:
        return host
