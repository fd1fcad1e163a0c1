"""The local addresses: the IP addresses by which other machines reach this one.

Nothing is looked up in DNS and nothing is sent: connecting a UDP socket only makes the system
choose a route, and with it a local address. This misses further networks of the machine, and
networks without a router, so on Linux all interfaces are read as well.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from pathlib import Path

PROBE_TARGETS = (
    (socket.AF_INET, "198.51.100.1"),
    (socket.AF_INET, "224.0.0.251"),  # multicast: most systems route it even without a router
    (socket.AF_INET6, "2001:db8::1"),
)
"""Addresses to choose a route for: the blocks for documentation (RFC 5737, RFC 3849), and mDNS."""

SIOCGIFADDR = 0x8915
GLOBAL = "00"
DEPRECATED, TENTATIVE = 0x20, 0x40
"""Constants of netdevice(7), and fields of /proc/net/if_inet6."""


def local_addresses() -> list[str]:
    """Return this machine's addresses, without loopback; those of the default route come first."""
    candidates = [*_outgoing_addresses()]
    if sys.platform == "linux":
        candidates += [*_linux_ipv4(), *_linux_ipv6()]
    usable = (
        address
        for address in map(ip_address, candidates)
        if not address.is_loopback and not address.is_unspecified
    )
    return list(dict.fromkeys(map(str, usable)))


def _outgoing_addresses() -> Iterator[str]:
    for family, target in PROBE_TARGETS:
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 9))
            yield probe.getsockname()[0]


def _linux_ipv4() -> Iterator[str]:
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # the interface has no IPv4 address
                request = struct.pack("256s", name.encode())
                yield socket.inet_ntoa(fcntl.ioctl(probe, SIOCGIFADDR, request)[20:24])


def _linux_ipv6() -> Iterator[str]:
    try:
        table = Path("/proc/net/if_inet6").read_text(encoding="ascii")
    except OSError:
        return
    for line in table.splitlines():
        address, _, _, scope, flags, _ = line.split()
        if scope == GLOBAL and not int(flags, 16) & (DEPRECATED | TENTATIVE):
            yield str(IPv6Address(bytes.fromhex(address)))
