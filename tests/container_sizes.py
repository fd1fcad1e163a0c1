"""The sizes of all containers in an object, to see what it keeps."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

CONTAINERS = dict, set, list, deque
OURS = "broadcast_server", "django_site"


def container_sizes(root: object, *ignored: type) -> dict[str, int]:
    """Return how many elements each dict, set, list and deque in *root* has, by attribute path.

    Attributes that are objects of our own classes are searched as well, except *ignored* ones.
    """
    sizes: dict[str, int] = {}
    seen = {id(root)}
    remaining = [("", root)]
    while remaining:
        path, owner = remaining.pop()
        for name, value in _attributes(owner):
            if isinstance(value, CONTAINERS):
                sizes[path + name] = len(value)
            elif _is_ours(value) and not isinstance(value, ignored) and id(value) not in seen:
                seen.add(id(value))
                remaining.append((f"{path}{name}.", value))
    return sizes


def _attributes(owner: object) -> Iterator[tuple[str, Any]]:
    yield from vars(owner).items() if hasattr(owner, "__dict__") else ()
    for each in type(owner).__mro__:
        for name in getattr(each, "__slots__", ()):
            if hasattr(owner, name):
                yield name, getattr(owner, name)


def _is_ours(value: object) -> bool:
    return not isinstance(value, type) and type(value).__module__.startswith(OURS)
