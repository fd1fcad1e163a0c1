"""The listener: where a server listens. A port, a socket file, or what systemd has opened."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .door import Door, Guests
from .proxies import parse_address

if TYPE_CHECKING:
    from .tls import Certificate

BACKLOG = 4096
"""So many may wait to be accepted: after a restart all come back at once, and who finds no
room there is not refused but tries again after one second, after three, after seven."""

FILES = 2**17
"""So many files may be open, if the system lets us."""


class Listener:
    """All sockets by which connections come to one server.

    It listens on *host* and *port*, on the socket file *unix* instead if there is one. A TLS
    handshake is to be over within *patience* seconds. *guests* are to be all connections.
    """

    def __init__(
        self,
        host: str,
        port: int,
        unix: Path | None,
        certificate: Certificate | None,
        patience: float,
        guests: Guests | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._unix = unix
        self._patience = patience
        self._certificate = certificate
        self._guests = guests
        self._doors: list[Door] = []
        self._servers: list[asyncio.Server] = []
        self._file: tuple[Path, int] | None = None  # and its inode: it may be another's by now
        self.urls: list[str] = []
        """Where it listens, as a client is told."""

    async def open(self, factory: Callable[[], asyncio.Protocol]) -> None:
        """Begin to accept. Raises OSError, `NoPlace`."""
        try:
            if "LISTEN_PID" in os.environ:  # the module is for those only who need it
                from .opened import inherited

                self._doors = inherited(os.environ)
            if not self._doors:
                self._doors = await self._bind()
            context = self._certificate.context if self._certificate else None
            loop = asyncio.get_running_loop()
            for door in self._doors:
                door.guests = self._guests
                create = loop.create_server if _is_inet(door) else loop.create_unix_server
                server = await create(
                    factory,
                    sock=door,
                    backlog=BACKLOG,
                    ssl=context,
                    ssl_handshake_timeout=self._patience if context else None,
                )
                self._servers.append(server)
                self.urls.append(self._url(door))
        except BaseException:
            self.close()
            raise

    @property
    def exposed(self) -> bool:
        """Whether others than this machine's own can reach it."""
        hosts = [door.getsockname()[0] for door in self._doors if _is_inet(door)]
        found = map(parse_address, hosts)
        return any(address is None or not address.is_loopback for address in found)

    @property
    def encrypted(self) -> bool:
        """Whether it speaks TLS."""
        return self._certificate is not None

    def close(self) -> None:
        """Accept no more. Who waits to be accepted on a socket of systemd's goes on waiting."""
        for server in self._servers:
            server.close()
        for door in self._doors:
            door.close()
        if self._file is not None:
            path, inode = self._file
            with suppress(OSError):
                if path.stat().st_ino == inode:
                    path.unlink()

    async def _bind(self) -> list[Door]:
        if self._unix is not None:
            from .opened import socket_file

            door = socket_file(self._unix)
            self._file = self._unix, self._unix.stat().st_ino
            return [door]
        port = self._port
        for family, address in await _addresses(self._host):
            door = Door(family, socket.SOCK_STREAM)
            self._doors.append(door)
            if os.name == "posix":  # elsewhere it would share the port with another server
                door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            door.bind((address[0], port, *address[2:]))
            port = door.getsockname()[1]  # all on one, also if any will do
        return self._doors

    def _url(self, door: Door) -> str:
        if not _is_inet(door):
            return f"unix:{door.getsockname()}"
        scheme = "wss" if self.encrypted else "ws"
        host, port = door.getsockname()[:2]
        return f"{scheme}://[{host}]:{port}/" if ":" in host else f"{scheme}://{host}:{port}/"


async def _addresses(host: str) -> list[tuple[int, tuple[Any, ...]]]:
    """Return the addresses of *host*, each with its family. Raises OSError."""
    known = parse_address(host)
    if known is not None and str(known) == host:  # which a look-up in a thread would only delay
        family = socket.AF_INET if known.version == 4 else socket.AF_INET6
        return [(family, (host, 0))]
    found = await asyncio.get_running_loop().getaddrinfo(
        host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _is_inet(door: socket.socket) -> bool:
    return door.family in (socket.AF_INET, socket.AF_INET6)


def allow_files() -> int | None:
    """Let this process open as many files as it may, and return how many: each client is one.

    The usual limit is 1024, so that programs that use select() do not come to grief;
    asyncio does not where there are such limits. None where there is none.
    """
    try:
        import resource
    except ImportError:  # Windows, which has none
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft == resource.RLIM_INFINITY:
        return None
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):  # macOS has a lower one that it does not tell
            return soft
        return wanted
    return soft


def most_clients(files: int | None) -> int:
    """Return how many clients there can be with so many open *files*.

    Some are left for those who do not come in, so that they can be told why.
    """
    return sys.maxsize if files is None else max(1, files - max(16, min(64, files // 4)))
