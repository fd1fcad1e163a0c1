"""A WebSocket broadcast server and its clients: a command-line program, and a library.

docs/api.md documents the library. Importing this package loads nothing else: each name is loaded
when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for true, and `typing` need not be loaded
if TYPE_CHECKING:
    from .library.async_connect import connect
    from .library.client_room import ClientRoom
    from .library.errors import (
        BroadcastError,
        ConnectError,
        DisconnectedError,
        MessageTooLongError,
        RejectedError,
        RoomClosedError,
        ServeError,
    )
    from .library.events import (
        Disconnected,
        Event,
        Gap,
        Joined,
        Left,
        Members,
        Message,
        MessageHidden,
        Notice,
        Renamed,
    )

__version__ = "0.1.0"

__all__ = [
    "BroadcastError",
    "ClientRoom",
    "ConnectError",
    "Disconnected",
    "DisconnectedError",
    "Event",
    "Gap",
    "Joined",
    "Left",
    "Members",
    "Message",
    "MessageHidden",
    "MessageTooLongError",
    "Notice",
    "RejectedError",
    "Renamed",
    "RoomClosedError",
    "ServeError",
    "connect",
]

_HOMES = {
    "async_connect": ("connect",),
    "client_room": ("ClientRoom",),
    "errors": (
        "BroadcastError",
        "ConnectError",
        "DisconnectedError",
        "MessageTooLongError",
        "RejectedError",
        "RoomClosedError",
        "ServeError",
    ),
    "events": (
        "Disconnected",
        "Event",
        "Gap",
        "Joined",
        "Left",
        "Members",
        "Message",
        "MessageHidden",
        "Notice",
        "Renamed",
    ),
}
"""The modules of `library`, and the public names that each defines."""


def __getattr__(name: str) -> object:
    """Load a public name when it is first used (PEP 562)."""
    for module, names in _HOMES.items():
        if name in names:
            from importlib import import_module

            home = import_module(f".library.{module}", __name__)
            globals().update({each: getattr(home, each) for each in names})
            return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
