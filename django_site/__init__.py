"""The Django deployment: the same room on Django Channels.

`broadcast` and `abroadcast` publish a message from the site's own code, and the exceptions say why
they did not. They are loaded when they are used, because this package is imported before Django is
set up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from broadcast_server.library.errors import BroadcastError, MessageTooLongError, RejectedError

    from .store.broadcaster import (
        InvalidNameError,
        InvalidRoomError,
        LogDamagedError,
        LogUnavailableError,
        NotAllowedError,
        abroadcast,
        broadcast,
    )

__all__ = [
    "BroadcastError",
    "InvalidNameError",
    "InvalidRoomError",
    "LogDamagedError",
    "LogUnavailableError",
    "MessageTooLongError",
    "NotAllowedError",
    "RejectedError",
    "abroadcast",
    "broadcast",
]


def __getattr__(name: str) -> Any:
    """Load what `__all__` lists."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .store import broadcaster

    return getattr(broadcaster, name)
