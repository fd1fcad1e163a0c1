"""The dial: opens one TCP connection to a server that may have several addresses, or a proxy.

It blocks, so that it is the same for all clients: `send` and `run` have no event loop, and in one
a look-up cannot be cancelled. Its callers run it in a thread that they can abandon.

The addresses race as in RFC 8305 (Happy Eyeballs): if one has not answered after a quarter of a
second, the next one is tried beside it, and the first that answers is used. asyncio's own race
calls `asyncio.wait_for`, which loses cancellations until Python 3.11.
"""

from __future__ import annotations

import errno
import selectors
import socket
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress
from itertools import zip_longest
from math import inf
from time import monotonic
from typing import Any, NamedTuple

from .connect_errors import describe_connect_error
from .proxy import MAX_RESPONSE_HEAD_BYTES, Proxy, ProxyError, check_tunnel_response, tunnel_request

ATTEMPT_DELAY_S = 0.25
"""Seconds after which the next address is tried as well (RFC 8305, section 5)."""

IN_PROGRESS = {errno.EINPROGRESS, errno.EWOULDBLOCK, getattr(errno, "WSAEWOULDBLOCK", 0)}

NO_ROUTE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
"""Errors that say more about this machine's network than about the server."""


class SocketAddress(NamedTuple):
    """An address of a host, as a socket of its family takes it."""

    family: int
    address: tuple[Any, ...]


class Dialed(NamedTuple):
    """A TCP connection, or a tunnel through a proxy."""

    sock: socket.socket
    address: SocketAddress
    untried: int
    """Number of other addresses that have not failed."""


def dial(
    host: str,
    port: int,
    deadline: float,
    *,
    proxy: Proxy | None = None,
    last: Collection[SocketAddress] = (),
) -> Dialed:
    """Open a connection to *host* and *port*.

    Args:
        host: The host; an IPv6 address may have a zone.
        port: The port.
        deadline: When to give up, in seconds of the monotonic clock, over all addresses.
        proxy: The proxy to ask for a tunnel; None for a direct connection.
        last: Addresses to try after all others, as they did not answer a request before.

    Raises:
        OSError: No address could be connected to.
        TimeoutError: None answered in time.
        UnicodeError: The host cannot be encoded.

    """
    if proxy is None:
        return _race(look_up(host, port), deadline, last)
    try:
        dialed = _race(look_up(proxy.host, proxy.port), deadline, last)
    except OSError as error:
        raise _proxy_error(proxy, error) from None
    try:
        dialed.sock.settimeout(max(0.01, deadline - monotonic()))
        dialed.sock.sendall(tunnel_request(proxy, host.partition("%")[0], port))
        check_tunnel_response(proxy, _read_head(dialed.sock, deadline))
    except BaseException as error:
        dialed.sock.close()
        if isinstance(error, OSError) and not isinstance(error, ProxyError):
            raise _proxy_error(proxy, error) from None
        raise
    return dialed


def look_up(host: str, port: int) -> list[SocketAddress]:
    """Return the addresses of *host*, without duplicates, in the order in which to try them.

    The families alternate, because one of them may be without a route (RFC 8305, section 4).
    """
    results = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = dict.fromkeys(SocketAddress(family, address) for family, *_, address in results)
    first = [each for each in addresses if each.family == results[0][0]]
    others = [each for each in addresses if each.family != results[0][0]]
    pairs = zip_longest(first, others)
    return [each for pair in pairs for each in pair if each is not None]


def _race(
    addresses: Sequence[SocketAddress], deadline: float, last: Collection[SocketAddress]
) -> Dialed:
    waiting = deque(sorted(addresses, key=lambda each: each in last))
    failures: list[OSError] = []
    sockets: dict[socket.socket, SocketAddress] = {}
    next_attempt = 0.0
    with selectors.DefaultSelector() as selector:
        try:
            while waiting or sockets:
                now = monotonic()
                if now >= deadline:
                    raise TimeoutError
                if waiting and (now >= next_attempt or not sockets):
                    address = waiting.popleft()
                    next_attempt = now + ATTEMPT_DELAY_S
                    try:
                        sock = _begin(address)
                    except OSError as error:
                        failures.append(error)
                        next_attempt = now
                    else:
                        sockets[sock] = address
                        selector.register(sock, selectors.EVENT_WRITE, sock)
                    continue
                until = min(deadline, next_attempt if waiting else inf)
                for key, _ in selector.select(max(0.0, until - now)):
                    sock = key.data
                    address = sockets.pop(sock)
                    selector.unregister(sock)
                    number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if not number:
                        others = [*waiting, *sockets.values()]
                        return Dialed(sock, address, sum(each not in last for each in others))
                    sock.close()
                    failures.append(OSError(number, "the connection failed"))
                    next_attempt = 0.0  # RFC 8305: the next attempt begins at once
        finally:
            for sock in sockets:
                sock.close()
    # A refused connection says more than an address family without a route.
    for failure in failures:
        if failure.errno not in NO_ROUTE:
            raise failure
    raise failures[0] if failures else OSError("the host has no address")


def _begin(address: SocketAddress) -> socket.socket:
    """Begin to connect to *address*."""
    family, place = address
    if family == socket.AF_INET6 and place[0].lower().startswith("fe80:") and not place[3]:
        raise OSError(f"the address lacks its interface, for example {place[0]}%eth0")
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number = sock.connect_ex(place)
        if number and number not in IN_PROGRESS:
            raise OSError(number, "the connection failed")
    except BaseException:
        sock.close()
        raise
    return sock


def _read_head(sock: socket.socket, deadline: float) -> bytes:
    """Read the head of a proxy's response. Nothing follows before the server is asked."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        left = deadline - monotonic()
        if left <= 0:
            raise TimeoutError
        sock.settimeout(left)
        data = sock.recv(1)  # what follows the head is for others to read
        if not data or len(head) >= MAX_RESPONSE_HEAD_BYTES:
            break
        head += data
    return head


def _proxy_error(proxy: Proxy, error: OSError) -> ProxyError:
    failure = describe_connect_error(error)
    return ProxyError(proxy, failure.reason, final=failure.final)
