"""The interfaces: what this machine says its addresses are."""

from __future__ import annotations

import socket
from ipaddress import ip_address

from broadcast_server.interfaces import addresses


def test_addresses_are_this_machines() -> None:
    """Each address that is found can be listened on, is told once, and is not for us alone."""
    found = addresses()
    assert len(found) == len({*found})
    for address in found:
        assert not ip_address(address).is_loopback
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as door:
            door.bind((address, 0))
