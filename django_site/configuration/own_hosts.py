"""The own hosts: this machine's names and addresses, which the site serves without a setting.

A page from elsewhere whose host name is made to resolve to this machine (DNS rebinding) has none of
them in its address. A site with another name, such as one behind a proxy, needs ``ALLOWED_HOSTS``.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

from broadcast_server.cli.local_addresses import local_addresses
from broadcast_server.http.allowed_hosts import parse_hosts

LOOPBACK = ("localhost", ".localhost", "127.0.0.1", "[::1]")

REFRESH_S = 5.0
"""How old the list of addresses may be, in seconds: a machine that moves gets new ones."""


class OwnHosts(list[str]):
    """A value for ``ALLOWED_HOSTS`` that follows the addresses of the machine."""

    def __init__(self) -> None:
        name = socket.gethostname().lower()
        # mDNS announces the first label of the name, in .local.
        names = [name, name.partition(".")[0] + ".local"] if name.strip(".") else []
        super().__init__([*LOOPBACK, *names])
        self._addresses: list[str] = []
        self._read_at = -REFRESH_S
        # It may ask a name server, which can take seconds.
        threading.Thread(target=self._add_full_name, daemon=True).start()

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, and over the addresses that the machine has now."""
        yield from super().__iter__()
        now = time.monotonic()
        if now - self._read_at >= REFRESH_S:
            self._read_at = now
            with suppress(OSError):  # no file may be left
                found = local_addresses()
                self._addresses = [f"[{each}]" if ":" in each else each for each in found]
        yield from self._addresses

    def _add_full_name(self) -> None:
        name = socket.getfqdn().lower()
        if name not in self:
            self.append(name)


def parse_named_hosts(value: str) -> list[str]:
    """Return the names in a value for ``ALLOWED_HOSTS``, as Django writes them.

    Raises ValueError for what is not the name or the address of a host.
    """
    return sorted(f"[{each}]" if ":" in each else each for each in parse_hosts(value))
