"""A WebSocket broadcast server and its clients: a command-line program, and a library.

docs/api.md documents the library. Importing this package loads nothing else: each name is loaded
when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for true, and `typing` need not be loaded
if TYPE_CHECKING:
    from .library.async_connect import connect
    from .library.async_serve import serve
    from .library.client_room import ClientRoom
    from .library.embedded_server import BroadcastServer, ServerRoom
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
        OperatorAct,
        PrivateMessage,
        Renamed,
    )
    from .library.sync_client_room import SyncClientRoom
    from .library.sync_connect import connect_sync
    from .library.sync_serve import SyncBroadcastServer, serve_sync

__version__ = "0.1.0"

__all__ = [
    "BroadcastError",
    "BroadcastServer",
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
    "OperatorAct",
    "PrivateMessage",
    "RejectedError",
    "Renamed",
    "RoomClosedError",
    "ServeError",
    "ServerRoom",
    "SyncBroadcastServer",
    "SyncClientRoom",
    "connect",
    "connect_sync",
    "serve",
    "serve_sync",
]

_HOMES = {
    "async_connect": ("connect",),
    "async_serve": ("serve",),
    "client_room": ("ClientRoom",),
    "embedded_server": ("BroadcastServer", "ServerRoom"),
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
        "OperatorAct",
        "PrivateMessage",
        "Renamed",
    ),
    "sync_client_room": ("SyncClientRoom",),
    "sync_connect": ("connect_sync",),
    "sync_serve": ("SyncBroadcastServer", "serve_sync"),
}
"""The modules of `library`, and the public names that each defines."""


def __getattr__(name: str) -> object:
    """Load a public name when it is first used (PEP 562)."""
    for module, names in _HOMES.items():
        if name in names:
            import sys
            from importlib import import_module

            if sys.version_info < (3, 10):  # noqa: UP036  # the single file is not installed by pip
                found = ".".join(map(str, sys.version_info[:3]))
                raise ImportError(f"broadcast_server needs Python 3.10 or newer, this is {found}")

            home = import_module(f".library.{module}", __name__)
            globals().update({each: getattr(home, each) for each in names})
            return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
