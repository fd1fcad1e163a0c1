"""The address of a Redis, or of the Sentinels that know which Redis is in charge."""

from __future__ import annotations

import re
from typing import Any

from .query_option import FILE, FLAG, TEXT, QueryOption, choice, parse_options, seconds, whole
from .service_url import ServiceURL

REDIS = ("redis", "rediss")
SENTINEL = ("redis+sentinel", "rediss+sentinel")
SENTINEL_PORT = 26379

SENTINEL_TIMEOUT_S = 2.0
"""How long each of several Sentinels may take to answer, before the next one is asked."""

FORMS = (
    "redis://:PASSWORD@HOST:6379/0, unix:///the/path,"
    " or redis+sentinel://:PASSWORD@HOST:26379,HOST:26379/MASTER"
)
DATABASE = re.compile(r"/?([0-9]{0,9})")
MASTER = re.compile(r"/([A-Za-z0-9._-]+)(?:/([0-9]{1,9}))?")

OPTIONS = {
    "db": whole(0, 10**9 - 1),
    "socket_timeout": seconds(3600),
    "socket_connect_timeout": seconds(3600),
    "socket_keepalive": FLAG,
    "retry_on_timeout": FLAG,
    "max_connections": whole(2, 10**6),
    "health_check_interval": whole(0, 3600),
    "client_name": QueryOption(re.compile("[!-~]+").fullmatch, "visible ASCII characters"),
    "protocol": whole(2, 3),
}
TLS_OPTIONS = {
    "ssl_cert_reqs": choice("none", "optional", "required"),
    "ssl_ca_certs": FILE,
    "ssl_ca_path": FILE,
    "ssl_certfile": FILE,
    "ssl_keyfile": FILE,
    "ssl_check_hostname": FLAG,
}
SENTINEL_OPTIONS = {"sentinel_username": TEXT, "sentinel_password": TEXT}


def redis_of(url: str) -> str | dict[str, Any]:
    """Return a host of the channel layer for the Redis at *url*. Raises ValueError.

    It is an address in the form that the client of Redis parses, or the keyword arguments of its
    pool for Sentinels.
    """
    parsed = ServiceURL.parse(url, (*REDIS, "unix", *SENTINEL), several=True)
    if len(parsed.hosts) > 1 and parsed.scheme not in SENTINEL:
        raise ValueError(f"it names several hosts, which are for Sentinels ({FORMS})")
    known = OPTIONS | (TLS_OPTIONS if parsed.scheme.startswith("rediss") else {})
    if parsed.scheme in SENTINEL:
        return _sentinel(parsed, parse_options(parsed.query, known | SENTINEL_OPTIONS))
    parse_options(parsed.query, known)
    if parsed.scheme == "unix":
        valid = bool(parsed.path) and not parsed.host
    else:
        valid = bool(parsed.host) and DATABASE.fullmatch(parsed.path) is not None
    if not valid:
        raise ValueError(f"it names no Redis ({FORMS})")
    return parsed.encoded()


def _sentinel(parsed: ServiceURL, options: dict[str, Any]) -> dict[str, Any]:
    master = MASTER.fullmatch(parsed.path)
    if master is None or not all(host for host, _ in parsed.hosts):
        raise ValueError(f"it names no master or no Sentinel ({FORMS})")
    tls = {"ssl": True} if parsed.scheme.startswith("rediss") else {}
    tls |= {key: options[key] for key in TLS_OPTIONS if key in options}
    of_sentinel = {key: options.pop(f"sentinel_{key}", None) for key in ("username", "password")}
    account = {"username": parsed.user or None, "password": parsed.password}
    return {
        "master_name": master[1],
        "sentinels": [(host, port or SENTINEL_PORT) for host, port in parsed.hosts],
        "sentinel_kwargs": {
            "socket_timeout": SENTINEL_TIMEOUT_S,
            **_without_none(of_sentinel),
            **tls,
        },
        **_without_none(account),
        "db": int(master[2] or 0),
        **tls,
        **options,
    }


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
