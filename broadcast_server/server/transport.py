"""The transport of a connection: how much it buffers, and who is at its other end."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Sequence
from contextvars import Context

from broadcast_server.admission.trusted_proxies import LOCAL_SOCKET, TrustedProxies

PAUSE_AT_BYTES = 64 * 2**10
"""How much may wait in a transport before its client counts as paused: it lags from then on."""


MAX_UNSENT_BYTES = 128 * 2**10
"""How much unsent data the operating system may hold for a client, where it has such an option.

By default it buffers megabytes for each client that does not read. Filling those of a thousand
such clients in one batch would delay all others.
"""


TIMER_CONTEXT = Context()
"""The context of the timers of all connections. Else asyncio makes one for each timer."""


OPTIONS_ARE_INHERITED = sys.platform == "linux"
"""Whether an accepted socket has the options of the listening one. To set the two options of each
connection would take 3 us of a handshake's CPU time."""


def set_options(sock: socket.socket) -> None:
    """Send at once, and bound what the operating system holds for a client. *sock* is for TCP."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, MAX_UNSENT_BYTES)


def limit_buffers(transport: asyncio.Transport) -> None:
    """Bound what waits in *transport*, and in the operating system, for a client."""
    transport.set_write_buffer_limits(PAUSE_AT_BYTES)
    if not OPTIONS_ARE_INHERITED and isinstance(transport.get_extra_info("peername"), tuple):
        set_options(transport.get_extra_info("socket"))


def client_address(
    transport: asyncio.Transport, trusted_proxies: TrustedProxies, forwarded: Sequence[str]
) -> str | None:
    """Return the client's address as far as it is known, None for a Unix socket.

    *forwarded* are the values of the request's X-Forwarded-For headers.
    """
    peer = transport.get_extra_info("peername")
    return trusted_proxies.client_address(peer[0] if isinstance(peer, tuple) else None, forwarded)


def describe_client(transport: asyncio.Transport, client: str | None) -> str:
    """Return the address and port of *client* for the log; behind a proxy there is no port."""
    peer = transport.get_extra_info("peername")
    if isinstance(peer, tuple) and peer[0] == client:
        return f"{peer[0]}:{peer[1]}"
    return client or LOCAL_SOCKET
