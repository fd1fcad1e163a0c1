"""The local addresses: which ones are found on this machine."""

from __future__ import annotations

import socket
from ipaddress import ip_address

from broadcast_server.cli.local_addresses import local_addresses


def test_addresses_are_this_machines() -> None:
    """Each address can be listened on, is listed once, and is not a loopback address."""
    addresses = local_addresses()
    assert len(addresses) == len({*addresses})
    for address in addresses:
        assert not ip_address(address).is_loopback
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.bind((address, 0))
