"""The invitation: what `start` tells a person of how to join. Pure: addresses in, lines out.

A token is not in it, only that one is wanted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from shlex import quote
from urllib.parse import urlsplit

from .qr import QUIET, half_blocks, symbol
from .web import PROGRAM

MOST = 4
"""So many addresses are told."""

LOOPBACK = "127.0.0.1", "::1"

ANY = {"0.0.0.0": 4, "::": 6}  # noqa: S104  # nothing listens because of it
"""Hosts that stand for all of this machine's addresses of an IP version."""


INSTALLED = "broadcast-server"


@dataclass(frozen=True, slots=True)
class Invitation:
    """How to join a server that listens at *urls*."""

    urls: Sequence[str]
    addresses: Sequence[str]
    """By which other machines reach this one, best first."""
    program: str
    """What was typed to run this server."""
    handed_out: bool = False
    """Whether others can have the file from it."""
    token_file: str | None = None
    """What to name as the file with the token, if one is wanted."""
    public: str | None = None
    """Another address by which everyone reaches the socket."""

    @property
    def outward(self) -> list[str]:
        """The socket's addresses that other machines can use, best first."""
        if self.public is not None:
            return [self.public]
        found = self._concrete(self.addresses)
        return [url for url in found if not ip_address(_host(url)).is_loopback][:MOST]

    @property
    def inward(self) -> list[str]:
        """The socket's addresses for this machine itself; none if it is a file."""
        return self._concrete(LOOPBACK)

    def lines(self) -> list[str]:
        """Say where the page is, how to get the program, and what to type."""
        outward = self.outward
        urls = outward or self.inward[:1]
        rows = [("page" if url == urls[0] else "", page_of(url)) for url in urls]
        if outward and self.handed_out:
            rows.append(("file", f"curl -O {page_of(outward[0])}{PROGRAM}"))
        rows.append(("join", " ".join(self._join())))
        return [f"  {name:4}  {said}" for name, said in rows]

    def picture(self, columns: int, rows: int) -> list[str]:
        """Draw the page's address for a phone, if others can reach it and it fits in there."""
        outward = self.outward
        matrix = symbol(page_of(outward[0]).encode()) if outward else None
        if matrix is None or len(matrix) + 2 * QUIET > columns:
            return []
        drawn = half_blocks(matrix)
        return drawn if len(drawn) < rows else []

    def _join(self) -> Iterator[str]:
        outward = self.outward
        if outward:  # how it is called there
            yield f"python3 {PROGRAM}" if self.handed_out else INSTALLED
        else:
            yield self.program
        yield "connect"
        if outward or self.inward:
            yield (outward or self.inward)[0]
        else:
            yield f"--unix {quote(self.urls[0].removeprefix('unix:'))}"
        if self.token_file is not None:
            yield f"--token-file {'FILE' if outward else quote(self.token_file)}"

    def _concrete(self, own: Sequence[str]) -> list[str]:
        """Put this machine's *own* addresses where any of them will do; a file has none."""
        found = []
        for url in filter(_host, self.urls):
            version = ANY.get(_host(url))
            fitting = [each for each in own if ip_address(each).version == version]
            found += [_at(url, each) for each in fitting] if version else [url]
        return found


def page_of(url: str) -> str:
    """Return the page's address, given the socket's."""
    return url.replace("ws", "http", 1)


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _at(url: str, address: str) -> str:
    parts = urlsplit(url)
    host = f"[{address}]" if ":" in address else address
    return f"{parts.scheme}://{host}:{parts.port}/"
