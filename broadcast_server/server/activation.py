"""Listening sockets other than a TCP port: Unix sockets, and sockets that systemd passes."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

from .listen_socket import ListenError, ListenSocket

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
    """Return the sockets that systemd opened for this process, none if it opened none."""
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = environment.get("LISTEN_FDS", "")
    if not count.isdecimal():
        return []
    sockets = []
    for number in range(FIRST_FD, FIRST_FD + int(count)):
        os.set_inheritable(number, False)
        sock = ListenSocket(fileno=number)
        sock.setblocking(False)
        sockets.append(sock)
    return sockets
