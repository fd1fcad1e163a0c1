"""`serve_sync`: starts a server in a thread, for programs and tests without asyncio."""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import TypeVar

from broadcast_server.protocol.bounds import MAX_MESSAGE_BYTES
from broadcast_server.rooms.message_log import DEFAULT_MAX_BYTES, DEFAULT_MAX_MESSAGES

from .async_serve import serve
from .embedded_server import DEFAULT_NAME, BroadcastServer, ServerRoom
from .errors import RoomClosedError
from .events import Message
from .loop_thread import LoopThread, ThreadEndedError

Result = TypeVar("Result")


class SyncBroadcastServer:
    """A server that `serve_sync` has started, in a thread of its own.

    Any thread may use it. Stop it with `with serve_sync(...) as server:`, or call `stop`.
    """

    def __init__(self, thread: LoopThread, server: BroadcastServer) -> None:
        self._thread = thread
        self._server = server
        self._stopping = threading.Lock()
        self._is_stopped = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self.url}>"

    def __enter__(self) -> SyncBroadcastServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The address for clients, with the port that the server really has: `ws://HOST:PORT/`."""
        return self._server.url

    @property
    def rooms(self) -> Mapping[str, ServerRoom]:
        """The rooms with somebody in them, by name, as they are now."""

        async def rooms() -> Mapping[str, ServerRoom]:
            return self._server.rooms

        try:
            return self._thread.run(rooms)
        except ThreadEndedError:
            return {}

    def broadcast(self, room: str, text: str, *, name: str = DEFAULT_NAME) -> Message:
        """Publish *text* in *room*, as `BroadcastServer.broadcast` does."""
        return self._run(lambda: self._server.broadcast(room, text, name=name))

    def kick(self, room: str, name: str, *, by: str = DEFAULT_NAME) -> None:
        """Kick the member *name* from *room*, as `BroadcastServer.kick` does."""
        self._run(lambda: self._server.kick(room, name, by=by))

    def mute(self, room: str, name: str, on: bool = True, *, by: str = DEFAULT_NAME) -> None:
        """Mute the member *name* of *room* or not, as `BroadcastServer.mute` does."""
        self._run(lambda: self._server.mute(room, name, on, by=by))

    def lock(self, room: str, on: bool = True, *, by: str = DEFAULT_NAME) -> None:
        """Lock *room* or not, as `BroadcastServer.lock` does."""
        self._run(lambda: self._server.lock(room, on, by=by))

    def announce(self, room: str, on: bool = True, *, by: str = DEFAULT_NAME) -> None:
        """Turn announce mode on or off, as `BroadcastServer.announce` does."""
        self._run(lambda: self._server.announce(room, on, by=by))

    def set_topic(self, room: str, text: str, *, by: str = DEFAULT_NAME) -> None:
        """Set the topic of *room*, as `BroadcastServer.set_topic` does."""
        self._run(lambda: self._server.set_topic(room, text, by=by))

    def hide(self, room: str, what: int | str, *, by: str = DEFAULT_NAME) -> None:
        """Hide message number *what* of *room*, or what the name *what* has published lately."""
        self._run(lambda: self._server.hide(room, what, by=by))

    def set_slow_mode(self, room: str, seconds: int, *, by: str = DEFAULT_NAME) -> None:
        """Set slow mode of *room*, as `BroadcastServer.set_slow_mode` does."""
        self._run(lambda: self._server.set_slow_mode(room, seconds, by=by))

    def _run(self, make: Callable[[], Awaitable[Result]]) -> Result:
        try:
            return self._thread.run(make)
        except ThreadEndedError:
            raise RoomClosedError("the server has stopped (call serve_sync again)") from None

    def stop(self) -> None:
        """Stop the server, as `BroadcastServer.stop` does, and end its thread."""
        with self._stopping:
            if not self._is_stopped and not self._thread.is_lost:
                self._thread.run(self._server.stop)
                self._is_stopped = True
                self._thread.stop()


def serve_sync(
    host: str = "127.0.0.1",
    port: int = 8765,
    *,
    unix: str | os.PathLike[str] | None = None,
    token: str | None = None,
    operator_key: str | None = None,
    tls_cert: str | os.PathLike[str] | None = None,
    tls_key: str | os.PathLike[str] | None = None,
    log: str | os.PathLike[str] | None = None,
    log_sync: bool = False,
    log_messages: int = DEFAULT_MAX_MESSAGES,
    log_bytes: int = DEFAULT_MAX_BYTES,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    max_clients: int = 10_000,
    max_clients_per_address: int = 500,
    max_rooms: int = 1000,
    max_joins: int = 50,
    rate: int = 50,
    allow_origin: Iterable[str] = (),
    allow_host: Iterable[str] = (),
    trusted_proxy: Iterable[str] = (),
    grace: float = 5.0,
) -> SyncBroadcastServer:
    """Start a server in a program or a test without asyncio.

    Use it as `with serve_sync(...) as server:`, or call `server.stop()` later. The parameters and
    errors are those of `serve`. The server listens when this returns.
    """
    starting = serve(
        host,
        port,
        unix=unix,
        token=token,
        operator_key=operator_key,
        tls_cert=tls_cert,
        tls_key=tls_key,
        log=log,
        log_sync=log_sync,
        log_messages=log_messages,
        log_bytes=log_bytes,
        max_message_bytes=max_message_bytes,
        max_clients=max_clients,
        max_clients_per_address=max_clients_per_address,
        max_rooms=max_rooms,
        max_joins=max_joins,
        rate=rate,
        allow_origin=allow_origin,
        allow_host=allow_host,
        trusted_proxy=trusted_proxy,
        grace=grace,
    )

    async def start() -> BroadcastServer:
        return await starting

    thread = LoopThread()
    try:
        server = thread.run(start)
    except BaseException:
        thread.stop()
        raise
    return SyncBroadcastServer(thread, server)
