"""Doors of other kinds than a port: a socket file, and what systemd has opened."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

from .door import Door, NoPlace

FIRST_FD = 3
"""Where the sockets begin that systemd passes; the variables are sd_listen_fds(3)'s."""


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
