"""`connect`: joins a room, for programs with asyncio."""

from __future__ import annotations

import os
from collections.abc import Generator
from types import TracebackType
from typing import TYPE_CHECKING

from broadcast_server.client.address import invalid_address, parse_address, split_room
from broadcast_server.client.proxy import choose_proxy
from broadcast_server.client.session import ClientSession
from broadcast_server.console.tls_support import NO_TLS, can_use_tls, stand_in_for_ssl
from broadcast_server.protocol.join import parse_cursor
from broadcast_server.protocol.names import validate_name, validate_room

from .argument import check_seconds, check_switch, check_text
from .client_room import ClientRoom
from .errors import ConnectError
from .room_core import RoomCore

with stand_in_for_ssl():
    from broadcast_server.client.client import ClientTimeouts, ReconnectingClient

if TYPE_CHECKING:
    import ssl as ssl_module

DEFAULT_PORT = 8765
"""The port of an address that is only a host."""

TIMEOUTS = ClientTimeouts()
"""How long a client waits for its server. They are those of the command line."""


class connect:  # noqa: N801  # it is used as a function, as in the websockets library
    """Join a room.

    Use it as `async with connect(...) as room:`, which leaves the room at the end of the block, or
    as `room = await connect(...)`, and call `room.close()` later. `room` is a `ClientRoom`.

    If the first connection fails, that raises `ConnectError`, unless the server says that another
    attempt may succeed. Once the room was joined, the client reconnects for as long as it takes.

    Args:
        url: The server: `ws://HOST:PORT/`, `wss://HOST/`, the address of its page
            (`https://HOST/`), `HOST:PORT`, or `HOST`. A room may follow: `HOST:PORT/ROOM`.
        name: The name to join under. If it is taken, you get the next free number: `bot-2`.
        room: The room to join.
        token: The token, if the server requires one.
        operator_key: The key of the server's operators, to be one of them.
        history: How many older messages to receive first.
        cursor: A position to continue from, instead of `history`: what `ClientRoom.cursor` or
            `Message.cursor` was.
        quiet: Whether to join without people being told; you are in the list of members anyway.
        ssl: How to check the server's certificate, for `wss://`; None for the usual way.
        tls_ca: A PEM file with the certificate authorities to trust, instead of `ssl`.
        proxy: An HTTP proxy to go through, `http://[USER:PASSWORD@]HOST:PORT`, or `auto` for that
            of the environment; never used for loopback addresses.
        unix: The path of a Unix socket to connect to, instead of the host and port in `url`.
        open_timeout: Seconds until the room has to be joined; None for no limit.

    Raises:
        ConnectError: The room could not be joined.
        ValueError: A parameter is invalid.

    """

    def __init__(
        self,
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
    ) -> None:
        for argument, value in (
            ("url", url),
            *(("name", name), ("room", room), ("token", token), ("operator_key", operator_key)),
            *(("cursor", cursor), ("proxy", proxy)),
        ):
            if value is not None or argument == "url":
                check_text(argument, value)
        check_switch("quiet", quiet)
        if open_timeout is not None:
            check_seconds("open_timeout", open_timeout)
        if isinstance(history, bool) or not isinstance(history, int):
            raise TypeError(f"history is of type {type(history).__name__}, not a whole number")
        since = None if cursor is None else parse_cursor(cursor)
        if cursor is not None and since is None:
            raise ValueError(f"cursor is {cursor!r}, not EPOCH.SEQ (pass what room.cursor was)")
        if history < 0:
            raise ValueError(f"history is {history}, must be 0 or more")
        if ssl is not None and tls_ca is not None:
            raise ValueError("ssl and tls_ca cannot be combined (pass one of them)")
        if name is not None:
            name = validate_name(name)
        if room is not None:
            validate_room(room)
        if token is not None or operator_key is not None:
            from broadcast_server.admission.token import validate_token

            token = None if token is None else validate_token(token, "token")
            if operator_key is not None:
                operator_key = validate_token(operator_key, "operator_key", "an operator key")
        try:
            self._url, self._query = parse_address(url, DEFAULT_PORT)
            self._url, room_in_url = split_room(self._url)
            if room_in_url is not None:
                self._query = {"room": validate_room(room_in_url)} | self._query
        except ValueError as error:
            raise ValueError(invalid_address(url, error)) from None
        is_tls = self._url.startswith("wss:")
        if is_tls and not can_use_tls():
            raise ConnectError(f"{NO_TLS}, which {url} needs (use ws://, or another Python)")
        if ssl is None and tls_ca is not None and is_tls:
            from broadcast_server.server.tls import CertificateError, load_authorities

            try:
                ssl = load_authorities(os.fspath(tls_ca))
            except CertificateError as error:
                raise ValueError(f"tls_ca: {error}") from None
        self._authorities = ssl if is_tls else None
        self._proxy = None
        if unix is None and proxy:
            self._proxy = choose_proxy(proxy, self._url, os.environ, "proxy")
        self._name = name
        self._asked_room = room or self._query.get("room")
        self._history, self._since, self._quiet = history, since, quiet
        self._operator_key = operator_key
        self._token, self._unix = token, None if unix is None else os.fspath(unix)
        self._open_timeout = open_timeout
        self._room: ClientRoom | None = None

    def __await__(self) -> Generator[None, None, ClientRoom]:
        return self._open().__await__()

    async def _open(self) -> ClientRoom:
        return ClientRoom(await self.open_core())

    async def __aenter__(self) -> ClientRoom:
        self._room = await self._open()
        return self._room

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._room is not None:
            await self._room.close()

    if not TYPE_CHECKING:  # for a type checker it has no such methods

        def __enter__(self) -> None:
            raise TypeError("connect is for `async with` (use connect_sync without asyncio)")

        def __exit__(self, *_: object) -> None:
            """Do nothing: `with` asks for this method before it enters the block."""

        def __aiter__(self) -> None:
            raise TypeError(
                "connect is not an iterator (use `async with connect(...) as room`, and iterate"
                " over the room, which reconnects by itself)"
            )

    async def open_core(self) -> RoomCore:
        """Join the room, for the faces of this class."""
        session = ClientSession(
            self._name, self._asked_room, self._history, self._since, quiet=self._quiet
        )
        client = ReconnectingClient(
            self._url,
            self._query,
            session,
            timeouts=TIMEOUTS,
            token=self._token,
            unix=self._unix,
            authorities=self._authorities,
            proxy=self._proxy,
            operator_key=self._operator_key,
        )
        core = RoomCore(client)
        try:
            await core.wait_joined(self._open_timeout)
        except BaseException:
            await core.close()
            raise
        return core
