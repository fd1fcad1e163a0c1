"""The address of a service, as in ``DATABASE_URL``: parsed by the generic syntax of RFC 3986.

Only percent-encoding has a meaning in the user name and the password (RFC 3986, section 2.1). No
error text contains the address, because it has a password in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

SYNTAX = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)"
    r"(?:\?(?P<query>[^#]*))?(?P<fragment>#.*)?",
    re.DOTALL,
)
HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]]*)(?::(?P<port>[0-9]*))?")
ENCODE = "in a user name or a password, write # / ? @ and % as %23 %2F %3F %40 and %25"

POSTGRESQL = ("postgres", "postgresql")
REDIS = ("redis", "rediss")
MAIL = ("smtp", "smtp+tls", "smtp+ssl", "smtps", "filemail", "consolemail")

CONSTANTS = {"true": True, "false": False, "none": None}
DATABASE_SETTINGS = {"CONN_MAX_AGE", "CONN_HEALTH_CHECKS", "DISABLE_SERVER_SIDE_CURSORS"}
"""What a query may set of Django's own settings. Everything else is for the database's library."""


@dataclass(frozen=True, slots=True)
class ServiceURL:
    """A parsed address, with every part decoded."""

    scheme: str
    user: str | None
    password: str | None = field(repr=False)
    host: str
    port: int | None
    path: str
    query: Mapping[str, str]

    @classmethod
    def parse(cls, url: str, schemes: tuple[str, ...]) -> ServiceURL:
        """Parse *url*. Raises ValueError if it is not valid, or has none of *schemes*."""
        match = SYNTAX.fullmatch(url)
        if match is None or match["scheme"].lower() not in schemes:
            known = " or ".join(f"{each}://" for each in schemes)
            raise ValueError(f"an address begins with {known}")
        userinfo, at, server = match["authority"].rpartition("@")
        # An unencoded character ends the authority, and the @ after the password comes later.
        late = match["authority"] and "@" in match["path"] + (match["query"] or "")
        if match["fragment"] or late:
            raise ValueError(f"it has an unencoded character ({ENCODE})")
        found = HOST.fullmatch(server)
        if found is None:
            raise ValueError(f"its host and port are not valid ({ENCODE})")
        port = int(found["port"][:6]) if found["port"] else None
        if port is not None and not 0 < port < 2**16:
            raise ValueError("its port is not between 1 and 65535")
        user, colon, password = userinfo.partition(":")
        if colon and not password and server:
            raise ValueError("its password is set and empty (leave out the colon if it has none)")
        return cls(
            scheme=match["scheme"].lower(),
            user=_decode(user) if at else None,
            password=_decode(password) if colon else None,
            host=_decode(found["host"]).strip("[]"),
            port=port,
            path=_decode(match["path"]),
            query=dict(parse_qsl(match["query"] or "", keep_blank_values=True)),
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


def database_of(url: str) -> dict[str, Any]:
    """Return Django's settings for the database at *url*. Raises ValueError if it is not valid."""
    parsed = ServiceURL.parse(url, (*POSTGRESQL, "sqlite"))
    name, host = parsed.path.removeprefix("/"), parsed.host
    if parsed.scheme == "sqlite":
        if host or not name:
            raise ValueError("it names no file (sqlite:////the/path has four slashes)")
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": name, **_database_query(parsed)}
    if name.startswith("/"):  # the folder of a Unix socket
        host, _, name = name.rpartition("/")
    if not name and not {"dbname", "service"} & parsed.query.keys():
        raise ValueError("it names no database (postgres://USER:PASSWORD@HOST/NAME)")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": parsed.user or "",
        "PASSWORD": parsed.password or "",
        "HOST": host,
        "PORT": parsed.port or "",
        **_database_query(parsed),
    }


def _database_query(parsed: ServiceURL) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for key, text in parsed.query.items():
        value = int(text) if text.isascii() and text.isdecimal() else text
        if key.upper() in DATABASE_SETTINGS:
            settings[key.upper()] = CONSTANTS.get(text.lower(), value)
        else:
            options[key] = value
    return {**settings, "OPTIONS": options}


def redis_of(url: str) -> str:
    """Return the address of a Redis in the form that its client parses. Raises ValueError."""
    parsed = ServiceURL.parse(url, (*REDIS, "unix"))
    if parsed.scheme == "unix":
        valid = bool(parsed.path) and not parsed.host
    else:
        valid = bool(parsed.host) and re.fullmatch(r"/?\d*", parsed.path) is not None
    if not valid:
        raise ValueError("it names no Redis (redis://:PASSWORD@HOST:6379/0, or unix:///the/path)")
    from redis.asyncio import ConnectionPool

    encoded = parsed.encoded()
    try:
        pool = ConnectionPool.from_url(encoded)
        pool.connection_class(**pool.connection_kwargs)  # it does not connect yet
    except (TypeError, ValueError):
        raise ValueError("its query has an unknown option or an invalid value") from None
    return encoded


def mail_of(url: str) -> dict[str, Any]:
    """Return Django's settings for sending mail through *url*. Raises ValueError."""
    parsed = ServiceURL.parse(url, MAIL)
    if parsed.scheme == "consolemail":
        return {"EMAIL_BACKEND": "django.core.mail.backends.console.EmailBackend"}
    if parsed.scheme == "filemail":
        return {
            "EMAIL_BACKEND": "django.core.mail.backends.filebased.EmailBackend",
            "EMAIL_FILE_PATH": parsed.path.removeprefix("/"),
        }
    if not parsed.host:
        raise ValueError("it names no host (smtp+tls://USER:PASSWORD@HOST:587)")
    return {
        "EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend",
        "EMAIL_HOST": parsed.host,
        "EMAIL_PORT": parsed.port or (465 if parsed.scheme == "smtp+ssl" else 25),
        "EMAIL_HOST_USER": parsed.user or "",
        "EMAIL_HOST_PASSWORD": parsed.password or "",
        "EMAIL_USE_TLS": parsed.scheme in ("smtps", "smtp+tls"),
        "EMAIL_USE_SSL": parsed.scheme == "smtp+ssl",
    }
