"""The origin of a client: what the database has of its address, by which a ban recognises it.

It is a digest that depends on SECRET_KEY, so the archive has no addresses. That of one address can
be computed, and so those of a small network.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from django.utils.crypto import salted_hmac

from broadcast_server.admission.trusted_proxies import MAX_REMEMBERED_ADDRESSES, parse_ip
from django_site.models import ORIGIN_CHARS

IPV6_CLIENT_PREFIX = 64
"""The prefix of the network that belongs to one client with IPv6: all its addresses are one."""

MAX_NETWORK_BITS = 16
"""A network has at most 2 to the power of this many clients, whose origins are computed."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@lru_cache(MAX_REMEMBERED_ADDRESSES)
def origin_of(address: str | None) -> str:
    """Return the origin of a client at *address*, empty if that is unknown."""
    parsed = None if address is None else parse_ip(address)
    if parsed is None:
        return ""
    if parsed.version == 6:
        return _digest(ipaddress.IPv6Network((parsed, IPV6_CLIENT_PREFIX), strict=False)[0])
    return _digest(parsed)


def parse_network(text: str) -> Network:
    """Return the network, or single address, that *text* has. Raises ValueError with a remedy."""
    try:
        network = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise ValueError(f"{text} is not an address or a network, such as 192.0.2.0/24") from None
    if network.version == 6 and network.prefixlen > IPV6_CLIENT_PREFIX:
        network = network.supernet(new_prefix=IPV6_CLIENT_PREFIX)
    bits = _client_prefix(network) - network.prefixlen
    if bits > MAX_NETWORK_BITS:
        least = _client_prefix(network) - MAX_NETWORK_BITS
        raise ValueError(f"the prefix is /{network.prefixlen}, it must be /{least} or longer")
    return network


def origins_in(network: Network) -> set[str]:
    """Return the origins of all clients in *network*."""
    clients = 1 << (_client_prefix(network) - network.prefixlen)
    step = network.num_addresses // clients
    return {_digest(network[number * step]) for number in range(clients)}


def is_in(network: str, address: str) -> bool:
    """Tell whether *network*, as a ban has it, contains *address*."""
    parsed = parse_ip(address)
    return parsed is not None and parsed in ipaddress.ip_network(network)


def _client_prefix(network: Network) -> int:
    return network.max_prefixlen if network.version == 4 else IPV6_CLIENT_PREFIX


def _digest(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    return salted_hmac("django_site.origin", str(address)).hexdigest()[:ORIGIN_CHARS]
