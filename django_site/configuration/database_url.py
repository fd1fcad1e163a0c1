"""The address of the database, as Django's settings for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .query_option import FLAG, TEXT, QueryOption, choice, parse_options, seconds, whole
from .service_url import ServiceURL

POSTGRESQL = ("postgres", "postgresql")

DJANGO_OPTIONS = {
    "CONN_MAX_AGE": whole(0, 10**6, none=True),
    "CONN_HEALTH_CHECKS": FLAG,
    "DISABLE_SERVER_SIDE_CURSORS": FLAG,
}
"""Django's own settings for a database that a query may set."""

SQLITE_OPTIONS = {
    "timeout": seconds(3600),
    "transaction_mode": choice("deferred", "immediate", "exclusive"),
    "init_command": TEXT,
}

POSTGRESQL_OPTIONS = {
    "assume_role": TEXT,
    "prepare_threshold": whole(0, 10**6, none=True),
    "server_side_binding": FLAG,
}
"""What a query may set besides the parameters of libpq. Not Django's `isolation_level`, since the
rooms rely on the default, nor its `pool`, since each thread keeps its connection."""

LIBPQ_NUMBERS = (
    "connect_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
)
"""The parameters that libpq reads as a number, and not before it connects."""

LIBPQ_LIMITS = {"connect_timeout": 5, "tcp_user_timeout": 20_000}
"""How long libpq waits, unless a query says otherwise: in seconds until a connection is open, and
in milliseconds until the other machine acknowledges what was sent."""

LIBPQ_PLACES = ("host", "hostaddr", "service", "servicefile")
"""The parameters that could make libpq connect to something."""

NO_SOCKET = "/nonexistent"
"""A folder in which libpq finds no socket, once it has found its parameters valid."""


def database_of(url: str) -> dict[str, Any]:
    """Return Django's settings for the database at *url*. Raises ValueError if it is not valid."""
    parsed = ServiceURL.parse(url, (*POSTGRESQL, "sqlite"), several=True)
    django = {key: text for key, text in parsed.query.items() if key.upper() in DJANGO_OPTIONS}
    if len({key.upper() for key in django}) < len(django):
        raise ValueError("its query has an option twice")
    other = {key: text for key, text in parsed.query.items() if key not in django}
    upper = {key.upper(): text for key, text in django.items()}
    settings = parse_options(upper, DJANGO_OPTIONS)
    if parsed.scheme == "sqlite":
        return {**_sqlite(parsed), **settings, "OPTIONS": parse_options(other, SQLITE_OPTIONS)}
    options = parse_options(other, {**_libpq_options(), **POSTGRESQL_OPTIONS})
    database = _postgresql(parsed, str(options.pop("dbname", "")))
    if not database["NAME"] and "service" not in options:
        raise ValueError("it names no database (postgres://USER:PASSWORD@HOST/NAME)")
    # A pooler in transaction mode gives each transaction another connection, which does not have
    # the cursor of the last one. The site reads no list that is too long for its memory.
    return {
        **database,
        "DISABLE_SERVER_SIDE_CURSORS": True,
        **settings,
        "OPTIONS": {**LIBPQ_LIMITS, **options},
    }


def _sqlite(parsed: ServiceURL) -> dict[str, Any]:
    name = parsed.path.removeprefix("/")
    if parsed.host or not name:
        raise ValueError("it names no file (sqlite:////the/path has four slashes)")
    file = Path(name)
    if file.is_dir() or not file.parent.is_dir():
        problem = "a folder" if file.is_dir() else "in no folder that exists"
        raise ValueError(f"its file is {problem} (sqlite:////the/path has four slashes)")
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": name}


def _postgresql(parsed: ServiceURL, other_name: str) -> dict[str, Any]:
    name = parsed.path.removeprefix("/")
    host = ",".join(host for host, _ in parsed.hosts)
    ports = ",".join(str(port or "") for _, port in parsed.hosts)
    if name.startswith("/"):  # the folder of a Unix socket
        host, _, name = name.rpartition("/")
    if "/" in name:
        raise ValueError("the name of its database has a / in it")
    if name and other_name:
        raise ValueError("it names two databases")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name or other_name,
        "USER": parsed.user or "",
        "PASSWORD": parsed.password or "",
        "HOST": host,
        "PORT": ports.strip(",") and ports,
    }


def _libpq_options() -> dict[str, QueryOption]:
    """Return the parameters of this libpq, as psycopg finds them."""
    try:
        from psycopg.pq import Conninfo, PGconn
    except ImportError:
        raise ValueError("it needs psycopg (pip install 'psycopg[binary]')") from None

    def option(name: str) -> QueryOption:
        if name in LIBPQ_NUMBERS:
            return whole(0, 2**31 - 1)
        if name in LIBPQ_PLACES:
            return TEXT

        def parse(text: str) -> str:
            value = text.replace("\\", "\\\\").replace("'", "\\'")
            connection = PGconn.connect_start(f"host={NO_SOCKET} {name}='{value}'".encode())
            found = connection.error_message.decode("utf-8", "replace")
            connection.finish()
            if NO_SOCKET not in found:
                raise ValueError
            return text

        return QueryOption(parse, "one of libpq's values")

    names = [each.keyword.decode() for each in Conninfo.get_defaults()]
    return {name: option(name) for name in names}
