"""`connect_sync`: joins a room, for programs without asyncio."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from .async_connect import connect
from .errors import ConnectError
from .loop_thread import LoopThread
from .sync_client_room import SyncClientRoom

if TYPE_CHECKING:
    import ssl as ssl_module


def connect_sync(
    url: str = "ws://127.0.0.1:8765/",
    *,
    name: str | None = None,
    room: str | None = None,
    token: str | None = None,
    operator_key: str | None = None,
    history: int = 0,
    cursor: str | None = None,
    quiet: bool = False,
    ssl: ssl_module.SSLContext | None = None,
    tls_ca: str | os.PathLike[str] | None = None,
    proxy: str | None = None,
    unix: str | os.PathLike[str] | None = None,
    open_timeout: float | None = 30.0,
) -> SyncClientRoom:
    """Join a room in a program without asyncio.

    Use it as `with connect_sync(...) as room:`, or call `room.close()` later. The parameters and
    errors are those of `connect`. The room is joined when this returns. It blocks the thread: in a
    coroutine, use `connect`.
    """
    connecting = connect(
        url,
        name=name,
        room=room,
        token=token,
        operator_key=operator_key,
        history=history,
        cursor=cursor,
        quiet=quiet,
        ssl=ssl,
        tls_ca=tls_ca,
        proxy=proxy,
        unix=unix,
        open_timeout=open_timeout,
    )
    thread = LoopThread()
    try:
        core = thread.run(connecting.open_core)
    except BaseException as error:
        thread.stop()
        if isinstance(error, ConnectError) and _has_running_loop():
            reason = (
                f"{error}. This thread's event loop was blocked meanwhile: use connect, with await"
            )
            raise ConnectError(reason, error.code) from None
        raise
    return SyncClientRoom(thread, core)


def _has_running_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
