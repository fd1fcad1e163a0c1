"""The Django deployment and the chat of the Channels tutorial, under the same ASGI servers."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .catalogue import package_versions
from .servers import PEERS, ROOT, Server

DAPHNE, UVICORN = "Daphne", "uvicorn"
MEMORY, REDIS = "in memory", "Redis"
LOGS = {MEMORY: "SQLite", REDIS: "PostgreSQL"}


def tutorial_name(kind: str, where: str) -> str:
    """Return the name of the tutorial's chat under *kind*, with its channel layer *where*."""
    return f"tutorial, {kind}, {where}"


def site_name(kind: str, where: str) -> str:
    """Return the name of our deployment under *kind*, with its channel layer *where*."""
    return f"django_site, {kind}, {LOGS[where]}, {where}"


def asgi(kind: str, application: str, port: int) -> list[str]:
    """Return the command with which *kind* serves *application*."""
    if kind == DAPHNE:
        return [sys.executable, "-m", "daphne", "-v", "0", "-p", str(port), application]
    quiet = ["--log-level", "warning", "--no-access-log"]
    return [sys.executable, "-m", "uvicorn", *quiet, "--port", str(port), application]


def tutorial(kind: str, where: str, environment: Mapping[str, str]) -> Server:
    """Return the tutorial's chat."""
    return Server(
        tutorial_name(kind, where),
        lambda port, scratch: asgi(kind, "tutorial:application", port),
        dialect="tutorial",
        version=package_versions("channels", "channels_redis", kind.lower()),
        environment=environment,
        folder=PEERS / "tutorial",
    )


def site(kind: str, where: str, environment: Mapping[str, str]) -> Server:
    """Return our Django deployment, without a rate: the tutorial has none either."""

    def command(port: int, scratch: Path) -> list[str]:
        # Its own folder holds its database, unless DATABASE_URL names another.
        serve = asgi(kind, "django_site.asgi:application", port)
        return ["env", f"BROADCAST_DATA={scratch}", "BROADCAST_RATE=0", *serve]

    return Server(
        site_name(kind, where),
        command,
        version=package_versions("django", "channels", kind.lower()),
        environment=environment,
        ours=True,
    )


@contextmanager
def services(tree: Path = ROOT) -> Iterator[Mapping[str, str]]:
    """Run a Redis and a PostgreSQL, and yield the variables that tell a deployment where.

    *tree* is the project whose tables the database gets.
    """
    sys.path.append(str(ROOT / "tests"))
    from services import postgresql, redis_server

    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        database = stack.enter_context(postgresql(Path(folder) / "postgresql", empty=True))
        redis = stack.enter_context(redis_server())
        environment = {
            "REDIS_URL": redis.url,
            "DATABASE_URL": database,
            "SECRET_KEY": secrets.token_urlsafe(48),
        }
        migrate = [sys.executable, str(tree / "manage.py"), "migrate", "--verbosity", "0"]
        subprocess.run(migrate, check=True, env={**os.environ, **environment})
        yield environment


def hosted_servers(services: Mapping[str, str]) -> list[Server]:
    """Return all servers that are compared."""
    redis = {"REDIS_URL": services["REDIS_URL"]}
    servers = []
    for kind in (DAPHNE, UVICORN):
        servers += [
            tutorial(kind, MEMORY, {}),
            site(kind, MEMORY, {}),
            tutorial(kind, REDIS, redis),
            site(kind, REDIS, services),
        ]
    return servers
