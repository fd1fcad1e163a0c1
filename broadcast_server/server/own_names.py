"""The own names: the host names of this machine, and under which a server may be asked."""

from __future__ import annotations

import socket
import threading

from broadcast_server.http.allowed_hosts import ANY, AllowedHosts

from .listener import Listener
from .settings import Settings


class OwnNames:
    """The host names of this machine. The full one follows, as it may take a name server."""

    def __init__(self) -> None:
        self._names = {socket.gethostname().lower()}
        threading.Thread(target=self._add_full_name, daemon=True).start()

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def _add_full_name(self) -> None:
        self._names.add(socket.getfqdn().lower())


def allowed_hosts(settings: Settings, listener: Listener) -> AllowedHosts:
    """Return the names of a server, now that it listens and it is known who can reach it."""
    host = settings.host.lower()
    names = settings.hosts | frozenset([host] if host else [])
    # A certificate is for its names alone, so no page of another name can be here. A socket file
    # is reached through a proxy only, which passes on the names that it serves.
    if listener.encrypted or not listener.reachable_by_browser:
        return AllowedHosts(names | {ANY})
    if not listener.exposed:
        return AllowedHosts(names)
    return AllowedHosts(names, exposed=True, is_own=OwnNames().__contains__)
