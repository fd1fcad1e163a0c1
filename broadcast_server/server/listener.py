"""The listener: all sockets on which a server listens.

These are the sockets that systemd passes, a Unix socket, or a port on each address of a host:
the first of them that there is.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from broadcast_server.admission.trusted_proxies import parse_ip

from .acceptor import Acceptor
from .listen_socket import ConnectionTracker, ListenSocket
from .transport import set_options

if TYPE_CHECKING:
    # They load ssl, which only a server with --tls-cert needs.
    from .handshakes import Handshakes
    from .tls import ReloadableCertificate
    from .tls_transport import TLSTransport

BACKLOG = 4096
"""How many connections may wait to be accepted. After a restart all clients reconnect at once.
One that finds the backlog full is not refused: its system retries after 1, 3 and 7 seconds."""

ALL_ADDRESSES = "", "::"
"""The hosts that stand for every address of this machine, of both families."""

NO_FAMILY = errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL
"""Errors of a system without IPv6, or without IPv4."""

FREE_PORT_ATTEMPTS = 10
"""How many free ports are tried until one is free on all addresses."""


class Listener:
    """All sockets on which one server listens.

    Args:
        host: A host name or address; ``::`` or empty for all addresses of this machine, IPv4 too.
        port: A TCP port, 0 for any free one.
        unix: The path of a Unix socket, which replaces *host* and *port*; None for none.
        certificate: The certificate for TLS; None for no TLS.
        tls_handshake_timeout: How long a TLS handshake may take, in seconds.
        tracker: Tracks the connections that are accepted.

    """

    def __init__(
        self,
        host: str,
        port: int,
        unix: Path | None,
        *,
        certificate: ReloadableCertificate | None,
        tls_handshake_timeout: float,
        tracker: ConnectionTracker,
    ) -> None:
        self._host = host
        self._port = port
        self._unix = unix
        self._tls_handshake_timeout = tls_handshake_timeout
        self._certificate = certificate
        self._tracker = tracker
        self._sockets: list[ListenSocket] = []
        self._servers: list[asyncio.Server | Acceptor] = []
        self._handshakes: Handshakes | None = None
        # With its inode, as another server may have replaced the file.
        self._socket_file: tuple[Path, int] | None = None
        self.takes_systemd_sockets = True
        """Whether it listens on the sockets that systemd passes to the process, if any."""
        self.urls: list[str] = []
        """Where it listens, as the URLs that a client connects to."""

    async def open(self, factory: Callable[[], asyncio.Protocol]) -> None:
        """Start to accept connections. Raises OSError, `ListenError`."""
        try:
            if self.takes_systemd_sockets and "LISTEN_PID" in os.environ:
                # Imported only where it is needed, to start fast.
                from .activation import systemd_sockets

                self._sockets = systemd_sockets(os.environ)
            if not self._sockets:
                self._sockets = await self._bind()
            if self._certificate is not None:
                accept: Callable[[], asyncio.BaseProtocol] = self._tls_factory(
                    factory, self._certificate
                )
            else:
                accept = factory
            loop = asyncio.get_running_loop()
            for sock in self._sockets:
                sock.tracker = self._tracker
                if _is_inet(sock):
                    set_options(sock)
                # Other loops have transports in C, or no `add_reader`. TLS needs more of one.
                if self._certificate is None and isinstance(loop, asyncio.SelectorEventLoop):
                    acceptor = Acceptor(sock, factory)
                    self._servers.append(acceptor)
                    acceptor.start(BACKLOG)
                else:
                    create = loop.create_server if _is_inet(sock) else loop.create_unix_server
                    self._servers.append(await create(accept, sock=sock, backlog=BACKLOG))
                self.urls.append(self._url(sock))
        except BaseException:
            self.close()
            raise

    def _tls_factory(
        self, factory: Callable[[], asyncio.Protocol], certificate: ReloadableCertificate
    ) -> Callable[[], TLSTransport]:
        """Return what makes the protocol of a connection with TLS."""
        # Imported only where they are needed, to start fast.
        from .handshakes import Handshakes
        from .tls_transport import TLSTransport

        handshakes = self._handshakes = Handshakes(self._tracker.key_of)
        context, timeout = certificate.context, self._tls_handshake_timeout
        return lambda: TLSTransport(factory, context, handshakes, timeout)

    @property
    def exposed(self) -> bool:
        """Whether other machines can reach it."""
        hosts = [sock.getsockname()[0] for sock in self._sockets if _is_inet(sock)]
        addresses = map(parse_ip, hosts)
        return any(address is None or not address.is_loopback for address in addresses)

    @property
    def reachable_by_browser(self) -> bool:
        """Whether it listens on a port: browsers know no socket files."""
        return any(_is_inet(sock) for sock in self._sockets)

    @property
    def encrypted(self) -> bool:
        """Whether it uses TLS."""
        return self._certificate is not None

    def close(self) -> None:
        """Stop accepting. Clients in the backlog of a systemd socket wait for the next server."""
        for server in self._servers:
            server.close()
        for sock in self._sockets:
            sock.close()
        if self._handshakes is not None:
            self._handshakes.close()
        if self._socket_file is not None:
            path, inode = self._socket_file
            with suppress(OSError):
                if path.stat().st_ino == inode:
                    path.unlink()

    async def _bind(self) -> list[ListenSocket]:
        if self._unix is not None:
            from .activation import unix_socket

            sock = unix_socket(self._unix)
            self._socket_file = self._unix, self._unix.stat().st_ino
            return [sock]
        addresses = await _resolve(self._host)
        attempts = 1 if self._port else FREE_PORT_ATTEMPTS
        while True:
            attempts -= 1
            try:
                return self._bind_all(addresses)
            except OSError as error:
                # A port that is free in one family may be taken in the other.
                if error.errno != errno.EADDRINUSE or not attempts:
                    raise
                while self._sockets:
                    self._sockets.pop().close()

    def _bind_all(self, addresses: Sequence[tuple[int, tuple[Any, ...]]]) -> list[ListenSocket]:
        port = self._port
        failure: OSError | None = None
        for family, address in addresses:
            try:
                sock = _bound(family, (address[0], port, *address[2:]))
            except OSError as error:
                # All addresses of a machine are those of the families that it has.
                if self._host not in ALL_ADDRESSES or error.errno not in NO_FAMILY:
                    raise
                failure = error
                continue
            self._sockets.append(sock)
            port = sock.getsockname()[1]  # all addresses use one port, also if 0 was given
        if failure is not None and not self._sockets:
            raise failure
        return self._sockets

    def _url(self, sock: ListenSocket) -> str:
        if not _is_inet(sock):
            return f"unix:{sock.getsockname()}"
        scheme = "wss" if self.encrypted else "ws"
        host, port, *more = sock.getsockname()
        if more and more[1]:  # a link-local address: without its zone, nobody can connect to it
            host += f"%25{socket.if_indextoname(more[1])}"  # as RFC 6874 writes it in a URL
        return f"{scheme}://[{host}]:{port}/" if ":" in host else f"{scheme}://{host}:{port}/"


def _bound(family: int, address: tuple[Any, ...]) -> ListenSocket:
    """Return a socket that is bound to *address*. Raises OSError."""
    # Accepted sockets are of the same protocol, by which asyncio knows that they need TCP_NODELAY.
    sock = ListenSocket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # on Windows the option would let two servers share a port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock


async def _resolve(host: str) -> list[tuple[int, tuple[Any, ...]]]:
    """Return the addresses of *host*, each with its family. Raises OSError."""
    literal = parse_ip(host)
    if literal is not None and str(literal) == host:
        # No look-up, which takes a thread.
        family = socket.AF_INET if literal.version == 4 else socket.AF_INET6
        own: list[tuple[int, tuple[Any, ...]]] = [(family, (host, 0))]
        # Two sockets rather than one for both: that would report IPv4 clients as IPv6 addresses.
        return [*own, (socket.AF_INET, ("0.0.0.0", 0))] if host == "::" else own  # noqa: S104
    results = await asyncio.get_running_loop().getaddrinfo(
        host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return list(dict.fromkeys((family, address) for family, _, _, _, address in results))


def _is_inet(sock: socket.socket) -> bool:
    return sock.family in (socket.AF_INET, socket.AF_INET6)
