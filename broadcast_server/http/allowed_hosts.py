"""Allowed hosts: under which names a server may be asked, against DNS rebinding.

A page of ``evil.example``, whose name is then made to resolve to this server, has the same origin
as the server, so no check of its Origin sees it, and over HTTP without TLS it sends no other mark.
But a browser tells the name in every request: the Host header has to be one of the server's own.
This module is pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from broadcast_server.protocol.userinfo import has_userinfo, without_userinfo

from .responses import Response, plain_response

ANY = "*"
"""The name that stands for every name."""

PRIVATE_SUFFIXES = (".local", ".internal", ".home.arpa", ".lan")
"""Ends of names that nobody can register in the public DNS: RFC 6762, RFC 8375, and ICANN's choice
for private networks. Routers use the last one, which is not delegated either."""

MAX_ADDRESS_CHARS = 45
"""The longest text of an IP address, without a zone: an IPv4 address at the end of an IPv6 one."""

_HOST = re.compile(r"(?:\[(?P<ipv6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(?::[0-9]{0,5})?")
_AUTHORITY = re.compile(r"https?://([^/?#]*)", re.IGNORECASE)


class AllowedHosts(NamedTuple):
    """The names of a server.

    *names* are given by its operator: a name, a name that begins with a dot for all names below it,
    or `ANY`. *exposed* tells whether other machines can reach it, and *is_own* whether a name is
    that of the machine.

    It is a named tuple because a dataclass adds 2 ms to the start of the single file.
    """

    names: frozenset[str] = frozenset()
    exposed: bool = False
    is_own: Callable[[str], bool] = lambda _: False

    def allows(self, name: str) -> bool:
        """Return whether *name* is one of them: a name in lower case, or an IP address.

        An address is never reached by rebinding. But 0.0.0.0 and the like are this machine for some
        browsers, so a server for this machine alone is asked under loopback addresses only.
        """
        if ANY in self.names:
            return True
        name = name.removesuffix(".")
        if name == "localhost" or name.endswith(".localhost") or self._is_given(name):
            return True
        address = _parse_address(name) if len(name) <= MAX_ADDRESS_CHARS else None
        if address is None:
            return self.exposed and (
                "." not in name or name.endswith(PRIVATE_SUFFIXES) or self.is_own(name)
            )
        mapped = getattr(address, "ipv4_mapped", None) or address
        return self.exposed or mapped.is_loopback

    def _is_given(self, name: str) -> bool:
        return any(name == each or (each[:1] == "." and name.endswith(each)) for each in self.names)


@lru_cache(256)
def _parse_address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(name)
    except ValueError:
        return None


def parse_hosts(value: str) -> frozenset[str]:
    """Read a comma-separated list of host names, as `AllowedHosts` takes them.

    Raises ValueError with the first item that is none.
    """
    items = [item.strip().lower() for item in value.split(",") if item.strip()]
    if value.strip() and not items:
        raise ValueError(f"{value} names no host (write HOST, .DOMAIN or *)")
    if has_userinfo(value):  # no host has one, and a password may have a comma
        raise _no_host(without_userinfo(value))
    return frozenset(map(_parse_host, items))


def _parse_host(item: str) -> str:
    if item == ANY:
        return item
    dot = item[:1] if item.startswith(".") else ""
    host = item.removeprefix(dot).removesuffix(".")
    has_port = ":" in host.rpartition("]")[2]
    name = None if has_port or host.startswith(".") or ".." in host else host_name(host)
    if name is None:
        raise _no_host(item)
    return dot + name


def _no_host(item: str) -> ValueError:
    return ValueError(f"{item} is not a host name (write HOST, .DOMAIN or *, without a port)")


def host_name(host: str) -> str | None:
    """Return the name or address in a Host header (RFC 9110, section 7.2), None if it is invalid.

    It is in lower case, and without the port.
    """
    match = _HOST.fullmatch(host.strip().lower())
    if match is None:
        return None
    if match["ipv6"] is None:
        return match["name"]
    try:
        return str(ip_address(match["ipv6"]))
    except ValueError:
        return None


def check_host(target: str, hosts: Sequence[str], allowed: AllowedHosts) -> Response | None:
    """Return the response that rejects a request to another host, None for one to this server.

    Args:
        target: The request target. In absolute form it names a host as well (RFC 9112, section
            3.2.2).
        hosts: The values of its Host headers. A request of HTTP/1.0 may have none; callers reject
            any other without.
        allowed: The names of this server.

    """
    if len(hosts) > 1:
        return plain_response(400, "request has more than one Host header, send one")
    absolute = _AUTHORITY.match(target)
    for host in (*hosts, *([absolute[1]] if absolute else [])):
        name = host_name(host)
        if name is None:
            return plain_response(400, "host is not valid, send HOST or HOST:PORT")
        if not allowed.allows(name):
            text = f"{name[:200]} is not a name of this server (start --allow-host adds it)"
            return plain_response(421, text)
    return None
