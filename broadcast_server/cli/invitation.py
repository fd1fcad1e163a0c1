"""The invitation: the lines that `start` prints about how to join. Pure.

It never contains the token, only the option for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from shlex import quote
from urllib.parse import urlsplit

from broadcast_server.http.program import PROGRAM_NAME
from broadcast_server.http.qr import QUIET_ZONE_MODULES, half_blocks, qr_matrix

MAX_ADDRESSES = 4
"""Addresses that are printed at most."""

LOOPBACK = "127.0.0.1", "::1"

WILDCARD_HOSTS = {"0.0.0.0": 4, "::": 6}  # noqa: S104  # nothing listens because of it
"""Hosts that stand for all of this machine's addresses, with their IP version."""

INSTALLED = "broadcast-server"


@dataclass(frozen=True, slots=True)
class Invitation:
    """How to join a server that listens at *urls*."""

    urls: Sequence[str]
    addresses: Sequence[str]
    """This machine's addresses for other machines, best first."""
    program: str
    """The command that runs this program on this machine."""
    serves_program: bool = False
    """Whether others can download the program from the server."""
    token_file: str | None = None
    """The file with the token, None if the server needs no token."""
    public: str | None = None
    """The address given by --public-url, which replaces all others."""

    @property
    def public_urls(self) -> list[str]:
        """The WebSocket addresses that other machines can use, best first."""
        if self.public is not None:
            return [self.public]
        urls = self._concrete(self.addresses)
        return [url for url in urls if not ip_address(_host(url)).is_loopback][:MAX_ADDRESSES]

    @property
    def local_urls(self) -> list[str]:
        """The WebSocket addresses for this machine itself; empty for a Unix socket."""
        return self._concrete(LOOPBACK)

    def lines(self) -> list[str]:
        """Return the lines: the page, how to download the program, and the command to join."""
        public = self.public_urls
        urls = public or self.local_urls[:1]
        rows = [("page" if url == urls[0] else "", page_url(url)) for url in urls]
        if public and self.serves_program:
            rows.append(("file", f"curl -O {page_url(public[0])}{PROGRAM_NAME}"))
        rows.append(("join", " ".join(self._join_command())))
        return [f"  {label:4}  {text}" for label, text in rows]

    def qr_lines(self, columns: int, rows: int) -> list[str]:
        """Return the page's address as a QR symbol for phones.

        The result is empty if no other machine can reach the page, or if the symbol does not
        fit into *columns* and *rows*.
        """
        public = self.public_urls
        matrix = qr_matrix(page_url(public[0]).encode()) if public else None
        if matrix is None or len(matrix) + 2 * QUIET_ZONE_MODULES > columns:
            return []
        lines = half_blocks(matrix)
        return lines if len(lines) < rows else []

    def _join_command(self) -> Iterator[str]:
        public = self.public_urls
        if public:  # the program's name on the other machine
            yield f"python3 {PROGRAM_NAME}" if self.serves_program else INSTALLED
        else:
            yield self.program
        yield "connect"
        if public or self.local_urls:
            yield (public or self.local_urls)[0]
        else:
            yield f"--unix {quote(self.urls[0].removeprefix('unix:'))}"
        if self.token_file is not None:
            yield f"--token-file {'FILE' if public else quote(self.token_file)}"

    def _concrete(self, addresses: Sequence[str]) -> list[str]:
        """Return `urls` with wildcard hosts replaced by *addresses*, and without Unix sockets."""
        concrete = []
        for url in filter(_host, self.urls):
            version = WILDCARD_HOSTS.get(_host(url))
            matching = [own for own in addresses if ip_address(own).version == version]
            concrete += [_with_host(url, own) for own in matching] if version else [url]
        return concrete


def page_url(url: str) -> str:
    """Return the page's address (http or https) for a WebSocket address."""
    return url.replace("ws", "http", 1)


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _with_host(url: str, address: str) -> str:
    parts = urlsplit(url)
    host = f"[{address}]" if ":" in address else address
    return f"{parts.scheme}://{host}:{parts.port}/"
