"""Listening sockets other than a TCP port: Unix sockets, and sockets that systemd passes."""

from __future__ import annotations

import errno
import logging
import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

from .listen_socket import ListenError, ListenSocket

logger = logging.getLogger("broadcast_server")

KINDS: dict[int, str] = {
    socket.SOCK_DGRAM: "datagram",
    socket.SOCK_SEQPACKET: "sequential-packet",
    socket.SOCK_RAW: "raw",
}

FIRST_FD = 3
"""The first file descriptor that systemd passes. See sd_listen_fds(3), also for the variables."""


def unix_socket(path: Path) -> ListenSocket:
    """Bind a Unix socket to *path*, replacing the file of a server that no longer runs.

    Raises OSError, and `ListenError` where another kind of file is in the way or the system has
    no Unix sockets.
    """
    family = getattr(socket, "AF_UNIX", None)
    if family is None:
        raise ListenError("this system has no Unix sockets, which --unix needs")
    sock = ListenSocket(family, socket.SOCK_STREAM)
    try:
        try:
            sock.bind(str(path))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            if not stat.S_ISSOCK(path.stat().st_mode):
                raise ListenError(
                    f"Could not listen on {path}: a file is there already (remove it, or choose"
                    " another path with --unix)"
                ) from None
            if _is_listening(path, family):
                raise
            path.unlink()
            sock.bind(str(path))
    except BaseException:
        sock.close()
        raise
    return sock


def _is_listening(path: Path, family: int) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except OSError:  # for example a full backlog, which a server has
            return True
    return True


def systemd_sockets(environment: Mapping[str, str]) -> list[ListenSocket]:
    """Return the sockets that systemd opened for this process, none if it opened none.

    Raises `ListenError` if one of them is no listening socket for a stream.
    """
    count = environment.get("LISTEN_FDS", "")
    if environment.get("LISTEN_PID") != str(os.getpid()):
        _warn_of_wrapper(environment.get("LISTEN_PID", ""))
        return []
    if not (count.isascii() and count.isdecimal()):
        raise ListenError(f"LISTEN_FDS is {count!r}, not a number of sockets (unset LISTEN_PID)")
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    sockets: list[ListenSocket] = []
    try:
        for index in range(int(count)):
            name = names[index] if index < len(names) else ""
            sockets.append(_passed_socket(FIRST_FD + index, count, name))
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _passed_socket(number: int, count: str, name: str) -> ListenSocket:
    """Return the socket that systemd passed as the file descriptor *number*."""
    unit = "in the .socket unit"
    try:
        # What was opened since then is not inheritable (PEP 446), and is not to be closed here.
        is_passed = os.get_inheritable(number)
    except OSError:
        is_passed = False
    if not is_passed:
        raise ListenError(
            f"LISTEN_FDS is {count}, but file descriptor {number} was not passed"
            " (let systemd set the variable)"
        )
    os.set_inheritable(number, False)
    try:
        sock = ListenSocket(fileno=number)
    except OSError:
        raise ListenError(
            f"systemd passed something else than a socket, as file descriptor {number}"
            f" (write only ListenStream= {unit})"
        ) from None
    try:
        sock.setblocking(False)
        if sock.type != socket.SOCK_STREAM:
            kind = KINDS.get(sock.type, "another kind of")
            raise ListenError(
                f"systemd passed a {kind} socket, and the server needs a stream"
                f" (write ListenStream= instead {unit})"
            )
        if sock.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
            raise ListenError(
                f"systemd passed a socket of the address family {int(sock.family)}, and the server"
                f" needs a port or a path (write it after ListenStream= {unit})"
            )
        if name == "connection" or _is_connected(sock):
            raise ListenError(
                "systemd passed a connection, and the server needs the socket that accepts them"
                f" (write Accept=no {unit})"
            )
    except BaseException:
        sock.close()
        raise
    return sock


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def _warn_of_wrapper(pid: str) -> None:
    """Log that the sockets of systemd are not used, if they were passed to a wrapper of ours."""
    try:
        is_socket = stat.S_ISSOCK(os.fstat(FIRST_FD).st_mode)
    except OSError:
        return
    if is_socket:
        text = (
            "LISTEN_PID is %s and this is process %d: its sockets are not used (start it by exec)"
        )
        logger.warning(text, pid[:20], os.getpid())
