"""The address of a service, as in ``DATABASE_URL``: parsed by the generic syntax of RFC 3986.

Only percent-encoding has a meaning in the user name and the password (RFC 3986, section 2.1). No
error text contains the address, because it has a password in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote

SYNTAX = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)"
    r"(?:\?(?P<query>[^#]*))?(?P<fragment>#.*)?",
    re.DOTALL,
)
HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[\w.%-]*)(?::(?P<port>[0-9]*))?")
BROKEN_ENCODING = re.compile(r"%(?![0-9A-Fa-f]{2})")
ENCODE = "in a user name or a password, write # / ? @ and % as %23 %2F %3F %40 and %25"


@dataclass(frozen=True, slots=True)
class ServiceURL:
    """A parsed address, with every part decoded."""

    scheme: str
    user: str | None
    password: str | None = field(repr=False)
    hosts: tuple[tuple[str, int | None], ...]
    """Host and port of each server. The host is empty if there is none in the address."""
    path: str
    query: Mapping[str, str]

    @property
    def host(self) -> str:
        """The host of the first server."""
        return self.hosts[0][0]

    @property
    def port(self) -> int | None:
        """The port of the first server."""
        return self.hosts[0][1]

    @classmethod
    def parse(cls, url: str, schemes: tuple[str, ...], *, several: bool = False) -> ServiceURL:
        """Parse *url*, which may name *several* servers, separated by commas.

        Raises ValueError if it is not valid, or has none of *schemes*.
        """
        match = SYNTAX.fullmatch(url)
        if match is None or match["scheme"].lower() not in schemes:
            known = " or ".join(f"{each}://" for each in schemes)
            raise ValueError(f"an address begins with {known}")
        if BROKEN_ENCODING.search(url):
            raise ValueError(f"it has a % without two hexadecimal digits after it ({ENCODE})")
        userinfo, at, server = match["authority"].rpartition("@")
        # An unencoded character ends the authority, and the @ after the password comes later.
        late = match["authority"] and "@" in match["path"] + (match["query"] or "")
        if match["fragment"] or late:
            raise ValueError(f"it has an unencoded character ({ENCODE})")
        servers = server.split(",") if several else [server]
        hosts = tuple(_parse_host(each) for each in servers)
        user, colon, password = userinfo.partition(":")
        if colon and not password and server:
            raise ValueError("its password is set and empty (leave out the colon if it has none)")
        return cls(
            scheme=match["scheme"].lower(),
            user=_decode(user) if at else None,
            password=_decode(password) if colon else None,
            hosts=hosts,
            path=_decode(match["path"]),
            query=_parse_query(match["query"] or ""),
        )

    def encoded(self) -> str:
        """Return the address with every special character encoded, for other parsers."""
        user = "" if self.user is None else quote(self.user, safe="")
        if self.password is not None:
            user += f":{quote(self.password, safe='')}"
        host = f"[{self.host}]" if ":" in self.host else quote(self.host, safe="")
        port = "" if self.port is None else f":{self.port}"
        query = "&".join(
            f"{quote(key)}={quote(value, safe='')}" for key, value in self.query.items()
        )
        at, mark = "@" if user else "", "?" if query else ""
        return f"{self.scheme}://{user}{at}{host}{port}{quote(self.path)}{mark}{query}"


def _decode(part: str) -> str:
    try:
        return unquote(part, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("what it has percent-encoded is not UTF-8") from None


def _parse_host(text: str) -> tuple[str, int | None]:
    found = HOST.fullmatch(text)
    if found is None:
        raise ValueError(f"its host and port are not valid ({ENCODE})")
    port = int(found["port"][:6]) if found["port"] else None
    if port is not None and not 0 < port < 2**16:
        raise ValueError("its port is not between 1 and 65535")
    return _decode(found["host"]).strip("[]"), port


def _parse_query(text: str) -> dict[str, str]:
    pairs = parse_qsl(text, keep_blank_values=True)
    query = dict(pairs)
    if len(query) < len(pairs):
        raise ValueError("its query has an option twice")
    return query
