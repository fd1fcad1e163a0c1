"""The interfaces: by which addresses other machines reach this one.

Nothing is looked up and nothing is sent. A UDP socket that is connected has only asked
the system which way it would go, and from which address. That misses a machine on two
networks, or on one without a router, so Linux is asked for all it has.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from pathlib import Path

AFAR = (
    (socket.AF_INET, "198.51.100.1"),
    (socket.AF_INET, "224.0.0.251"),  # without a router most systems still know a way to a group
    (socket.AF_INET6, "2001:db8::1"),
)
"""Where nobody is, but where a way would lead."""

SIOCGIFADDR = 0x8915
GLOBAL = "00"
DEPRECATED, TENTATIVE = 0x20, 0x40
"""Of netdevice(7), and of /proc/net/if_inet6."""


def addresses() -> list[str]:
    """Return this machine's addresses, first those that the way to everywhere begins at."""
    found = [*_on_the_way()]
    if sys.platform == "linux":
        found += [*_of_linux(), *_of_linux_ipv6()]
    kept = (each for each in map(ip_address, found) if not each.is_loopback)
    return list(dict.fromkeys(str(each) for each in kept if not each.is_unspecified))


def _on_the_way() -> Iterator[str]:
    for family, afar in AFAR:
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((afar, 9))
            yield probe.getsockname()[0]


def _of_linux() -> Iterator[str]:
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # it has none
                request = struct.pack("256s", name.encode())
                yield socket.inet_ntoa(fcntl.ioctl(asking, SIOCGIFADDR, request)[20:24])


def _of_linux_ipv6() -> Iterator[str]:
    try:
        table = Path("/proc/net/if_inet6").read_text(encoding="ascii")
    except OSError:
        return
    for line in table.splitlines():
        address, _, _, scope, flags, _ = line.split()
        if scope == GLOBAL and not int(flags, 16) & (DEPRECATED | TENTATIVE):
            yield str(IPv6Address(bytes.fromhex(address)))
