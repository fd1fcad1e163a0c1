"""Trusted proxies: the address that a client behind a proxy really has.

Behind a proxy every connection comes from the proxy, which names the client in the header
X-Forwarded-For. Anyone can send that header, so it counts only if the peer, the other end of the
connection, is a trusted proxy. The header is read from the right, the end that the nearest proxy
wrote, up to the first address that is not a trusted proxy. Text that is not an IP address ends
the search.

This module is pure: it knows addresses, and no sockets.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from broadcast_server.protocol.userinfo import has_userinfo, without_userinfo

UNIX = "unix"
"""Trusts every peer on a Unix socket in a list of trusted proxies: such a peer has no address."""

LOCAL_SOCKET = "a local socket"
"""How a peer without an address is shown."""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_REMEMBERED_ADDRESSES = 4096
"""How many addresses are remembered as they were read. A connection asks for its own six times,
which took 4 us each time."""

MAX_HOPS = 16
"""How many addresses of X-Forwarded-For are read at most."""


class TrustedProxies(NamedTuple):
    """The peers whose X-Forwarded-For counts; by default none.

    It is a named tuple because a dataclass adds 2 ms to the start of the single file.
    """

    networks: tuple[_Network, ...] = ()
    unix: bool = False

    def __bool__(self) -> bool:
        return bool(self.networks) or self.unix

    def contains(self, address: _Address) -> bool:
        """Return whether *address* belongs to a trusted proxy."""
        return any(address in network for network in self.networks)

    def trusts(self, peer: str | None) -> bool:
        """Return whether the X-Forwarded-For of *peer* counts; None is a Unix socket."""
        if not self:
            return False
        address = None if peer is None else parse_ip(peer)
        return self.contains(address) if address is not None else peer is None and self.unix

    def client_address(self, peer: str | None, forwarded: Iterable[str]) -> str | None:
        """Return the address of the client of a connection from *peer*; None is a Unix socket.

        *forwarded* are the values of the X-Forwarded-For headers, in their order.
        """
        if not self:
            return None if peer is None else _normalize(peer)
        address = None if peer is None else parse_ip(peer)
        client = peer
        if address is not None and not self.contains(address):
            return str(address)
        if address is None and not (peer is None and self.unix):
            return peer
        hops = ",".join(forwarded).rsplit(",", MAX_HOPS)[-MAX_HOPS:]
        for text in reversed(hops):
            hop = parse_ip(text)
            if hop is None:
                break
            client = str(hop)
            if not self.contains(hop):
                break
        return client


def parse_trusted_proxies(value: str) -> TrustedProxies:
    """Read a comma-separated list of addresses and networks, and perhaps the word `UNIX`.

    Raises ValueError with the first item that is none of these.
    """
    items = [item.strip() for item in value.split(",") if item.strip()]
    if value.strip() and not items:
        raise ValueError(f"{value!r} is not an address, a network or {UNIX}")
    if has_userinfo(value):  # no address has one, and a password may have a comma
        raise ValueError(f"{without_userinfo(value)!r} is not an address, a network or {UNIX}")
    networks = []
    for item in items:
        if item == UNIX:
            continue
        try:
            networks.append(ipaddress.ip_network(item, strict=False))
        except ValueError:
            raise ValueError(f"{item!r} is not an address, a network or {UNIX}") from None
    return TrustedProxies(tuple(networks), UNIX in items)


def parse_ip(text: str) -> _Address | None:
    """Read an IP address as proxies write it, perhaps with a port. None if it is not one.

    An IPv4 address mapped into IPv6 is returned as IPv4.
    """
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    if "%" in text:  # an IPv6 zone, which can be any text
        text = text.partition("%")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


@lru_cache(MAX_REMEMBERED_ADDRESSES)
def _normalize(peer: str) -> str:
    """Return the usual text of the address *peer*, or *peer* itself if it is none."""
    return str(parse_ip(peer) or peer)


@lru_cache(MAX_REMEMBERED_ADDRESSES)
def client_key(address: str | None) -> str | None:
    """Return the key under which the clients of *address* are counted together.

    An IPv6 address counts as its /64 network, because its owner has all 2^64 addresses of it.
    The local machine (loopback and Unix sockets) has the key None, which has no limits by
    address: all clients behind a local proxy that is not configured as trusted would share one
    key, and a local user can do worse.
    """
    parsed = None if address is None else parse_ip(address)
    if parsed is None or parsed.is_loopback:
        return None
    if parsed.version == 6:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
