"""The prefix: the part of all paths below which a proxy has the site, such as ``/chat``.

It comes from `BROADCAST_PUBLIC_URL`, or from the server's own option ``--root-path``. Some proxies
remove it from the path before they pass a request on, and some do not; uvicorn adds its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings


def prefix(root_path: str | None) -> str:
    """Return the prefix of the site, without a slash at its end. *root_path* is the server's."""
    given = settings.BROADCAST_PUBLIC_URL
    return given.prefix if given is not None else (root_path or "").rstrip("/")


def below(path: str, prefix: str) -> str:
    """Return *path* as it is below *prefix*, whether it has the prefix or not."""
    while prefix and path.startswith(prefix + "/"):
        path = path[len(prefix) :]
    return path


def with_prefix(scope: Mapping[str, Any]) -> dict[str, Any]:
    """Return an ASGI scope whose path begins with its root path, once, as ASGI and Django want."""
    found = prefix(scope.get("root_path"))
    if not found:
        return {**scope, "root_path": ""}
    return {**scope, "root_path": found, "path": found + below(scope["path"], found)}
