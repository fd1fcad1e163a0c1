"""The listener: where a server listens. A port, a socket file, or what systemd has opened."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import stat
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .proxies import parse_address

if TYPE_CHECKING:
    from .tls import Certificate

log = logging.getLogger("broadcast_server")

BACKLOG = 4096
"""So many may wait to be accepted: after a restart all come back at once, and who finds no
room there is not refused but tries again after one second, after three, after seven."""

FILES = 2**17
"""So many files may be open, if the system lets us."""

FIRST_FD = 3
"""Where the sockets begin that systemd passes; the variables are sd_listen_fds(3)'s."""

AGAIN = 60.0
"""Seconds after which it is worth another line that there are no files."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where to listen: *host* and *port*, or the socket file *unix* instead."""

    host: str = "127.0.0.1"
    port: int = 8765
    unix: Path | None = None


class NoPlace(Exception):
    """Nothing can listen there; the text says why."""


class Door(socket.socket):
    """A listening socket that sends away at once whom it has no file for.

    asyncio would log a traceback for each place of its queue, try again after a second,
    and leave who comes meanwhile without an answer. One file is kept for this: it is
    closed, the connection accepted and closed, and the file opened again.
    """

    _spare: int | None = None
    _told = -AGAIN

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection."""
        if self._spare is None:
            with suppress(OSError):
                self._spare = os.open(os.devnull, os.O_RDONLY)
        try:
            return super().accept()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE) or self._spare is None:
                raise
        self._turn_away()
        raise BlockingIOError

    def _turn_away(self) -> None:
        now = time.monotonic()
        if now - self._told >= AGAIN:
            self._told = now
            log.warning("too many files are open, who comes now is turned away (raise ulimit -n)")
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None
        with suppress(OSError):
            super().accept()[0].close()
        with suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY)

    def close(self) -> None:
        """Close it, and the spare file."""
        super().close()
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None


class Listener:
    """All sockets by which connections come to one server.

    A TLS handshake is to be over within *patience* seconds.
    """

    def __init__(
        self, place: Place, certificate: Certificate | None = None, patience: float = 10.0
    ) -> None:
        self._place = place
        self._patience = patience
        self._certificate = certificate
        self._doors: list[Door] = []
        self._servers: list[asyncio.Server] = []
        self._file: tuple[Path, int] | None = None  # and its inode: it may be another's by now
        self.urls: list[str] = []
        """Where it listens, as a client is told."""

    async def open(self, factory: Callable[[], asyncio.Protocol]) -> None:
        """Begin to accept. Raises OSError, `NoPlace`."""
        try:
            self._doors = inherited(os.environ) or await self._bind()
            context = self._certificate.context if self._certificate else None
            loop = asyncio.get_running_loop()
            for door in self._doors:
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
        if self._place.unix is not None:
            door = socket_file(self._place.unix)
            self._file = self._place.unix, self._place.unix.stat().st_ino
            return [door]
        loop = asyncio.get_running_loop()
        host, port = self._place.host or None, self._place.port
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            door = Door(family, kind, protocol)
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


def _is_inet(door: socket.socket) -> bool:
    return door.family in (socket.AF_INET, socket.AF_INET6)


def socket_file(path: Path) -> Door:
    """Open a socket file; that of a dead server is replaced. Raises OSError, `NoPlace`."""
    family = getattr(socket, "AF_UNIX", None)
    if family is None:
        raise NoPlace("this system has no socket files, which --unix needs")
    door = Door(family, socket.SOCK_STREAM)
    try:
        try:
            door.bind(str(path))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            if not stat.S_ISSOCK(path.stat().st_mode):
                raise NoPlace(f"Could not listen on {path}: a file is there already") from None
            if _answers(path, family):
                raise
            path.unlink()
            door.bind(str(path))
    except BaseException:
        door.close()
        raise
    return door


def _answers(path: Path, family: int) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except OSError:  # a queue that is full, say: somebody is there
            return True
    return True


def inherited(environment: Mapping[str, str]) -> list[Door]:
    """Take the sockets that systemd has opened for this very process, if it has."""
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = environment.get("LISTEN_FDS", "")
    if not count.isdecimal():
        return []
    doors = []
    for number in range(FIRST_FD, FIRST_FD + int(count)):
        os.set_inheritable(number, False)
        door = Door(fileno=number)
        door.setblocking(False)
        doors.append(door)
    return doors


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
