"""Proxies: from which address a request really comes.

Behind a proxy every connection comes from the proxy, which names the client in the
header X-Forwarded-For. Anyone can send that header, so only what a trusted peer says
counts: the names are read from the right, the end that the nearest proxy wrote, up to
the first that is not itself a trusted proxy. What is no address is not believed.

Pure: no socket, only addresses.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import NamedTuple

UNIX = "unix"
"""What stands for everyone who comes through a socket file, which has no addresses."""

NOBODY = "a local socket"
"""What a peer without an address is called."""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

HOPS = 16
"""So many proxies in a row are followed."""


class Trusted(NamedTuple):
    """Whose word on the real client counts; nobody's by default.

    A tuple, as a dataclass costs the start of the single file 2 ms.
    """

    networks: tuple[_Network, ...] = ()
    unix: bool = False

    def __bool__(self) -> bool:
        return bool(self.networks) or self.unix

    def has(self, address: _Address) -> bool:
        """Tell whether *address* is one of a trusted proxy."""
        return any(address in network for network in self.networks)

    def has_peer(self, peer: str | None) -> bool:
        """Tell whether what a *peer* says counts, None for one of a socket file."""
        here = None if peer is None else parse_address(peer)
        return self.has(here) if here is not None else peer is None and self.unix

    def client(self, peer: str | None, forwarded: Iterable[str]) -> str | None:
        """Return the client's address, of a connection from *peer*, None for a socket file.

        *forwarded* are the values of X-Forwarded-For, in their order.
        """
        here = None if peer is None else parse_address(peer)
        found = peer
        if here is not None and not self.has(here):
            return str(here)
        if here is None and not (peer is None and self.unix):
            return peer
        names = ",".join(forwarded).rsplit(",", HOPS)[-HOPS:]
        for name in reversed(names):
            hop = parse_address(name)
            if hop is None:
                break
            found = str(hop)
            if not self.has(hop):
                break
        return found


def parse_trusted(value: str) -> Trusted:
    """Read a list of addresses and networks. Raises ValueError with what is none."""
    names = [name.strip() for name in value.split(",") if name.strip()]
    networks = []
    for name in names:
        if name == UNIX:
            continue
        try:
            networks.append(ipaddress.ip_network(name, strict=False))
        except ValueError:
            raise ValueError(f"{name!r} is no address or network, nor {UNIX}") from None
    return Trusted(tuple(networks), UNIX in names)


def parse_address(text: str) -> _Address | None:
    """Read an address as proxies write it, perhaps with a port; None if it is none."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    if "%" in text:  # a zone, which may be any text at all
        text = text.partition("%")[0]
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def one(address: str | None) -> str | None:
    """Return what counts as one client's place: who has an IPv6 address has 2^64 of them.

    None for this machine itself, loopback and socket files: all that comes through a
    proxy which is not told of would be one place, and who is on the machine can do worse.
    """
    found = None if address is None else parse_address(address)
    if found is None or found.is_loopback:
        return None
    if found.version == 6:
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
