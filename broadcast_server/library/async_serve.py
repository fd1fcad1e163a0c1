"""`serve`: starts a server in the event loop of another program."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Generator, Iterable
from pathlib import Path
from types import TracebackType
from typing import cast

from broadcast_server.admission import int_range
from broadcast_server.admission.admission import AdmissionLimits
from broadcast_server.admission.int_range import IntRange
from broadcast_server.admission.token import validate_token
from broadcast_server.admission.trusted_proxies import parse_trusted_proxies
from broadcast_server.console.os_error import describe_os_error
from broadcast_server.http.allowed_hosts import parse_hosts
from broadcast_server.http.cors import parse_origins
from broadcast_server.protocol.bounds import MAX_MESSAGE_BYTES
from broadcast_server.rooms.message_log import DEFAULT_MAX_BYTES, DEFAULT_MAX_MESSAGES, LogFileError
from broadcast_server.server.event_log import logger
from broadcast_server.server.file_limit import file_limit
from broadcast_server.server.listen_socket import ListenError
from broadcast_server.server.opening import exposure_warning, load_late_modules, open_server
from broadcast_server.server.settings import Settings

from .argument import check_seconds, check_switch, check_text
from .embedded_server import BroadcastServer, ObservableServer
from .errors import ServeError, with_parameters

PORTS = IntRange(0, 65535)
LOG_MESSAGES = IntRange(0, 10**8)
LOG_BYTES = IntRange(0, 2**40)


class serve:  # noqa: N801  # it is used as a function, as in the websockets library
    """Start a server.

    Use it as `async with serve(...) as server:`, which stops the server at the end of the block, or
    as `server = await serve(...)`, and call `server.stop()` later. `server` is a `BroadcastServer`.

    The parameters are the options of `broadcast-server start`, with the same defaults.

    Args:
        host: The address to listen on; `::` for all addresses of this machine.
        port: The port to listen on; 0 for any free one, which `server.url` has at once.
        unix: The path of a Unix socket to listen on, instead of the host and port.
        token: The token that clients must present.
        operator_key: The key that makes a client an operator of its rooms.
        tls_cert: A PEM file with the certificate (chain), for `wss://`.
        tls_key: A PEM file with the private key, if it is not in that file.
        log: A file that stores the messages, so that they survive a restart.
        log_sync: Whether each write to that file waits for the disk.
        log_messages: How many messages each room keeps.
        log_bytes: How many bytes of text each room keeps.
        max_message_bytes: The maximum size of a message in bytes of UTF-8.
        max_clients: The maximum number of clients at the same time.
        max_clients_per_address: The same for one address; this machine is exempt.
        max_rooms: The maximum number of rooms with somebody in them.
        max_joins: The maximum number of new clients per second from one address.
        rate: The maximum number of messages per second from one client; 0 for no limit.
        allow_origin: Web origins, besides the server's own, whose pages may join.
        allow_host: Names under which the server is reached, besides this machine's own.
        trusted_proxy: Addresses or networks of proxies whose `X-Forwarded-For` is trusted.
        grace: Seconds that clients have to disconnect when the server stops.

    Raises:
        ServeError: The server cannot be started.
        ValueError: A parameter is invalid.

    """

    def __init__(
        self,
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
    ) -> None:
        if tls_key is not None and tls_cert is None:
            raise ValueError("tls_key needs tls_cert (pass both)")
        check_text("host", host)
        for argument, value in (("token", token), ("operator_key", operator_key)):
            if value is not None:
                check_text(argument, value)
        check_switch("log_sync", log_sync)
        check_seconds("grace", grace)
        self._settings = Settings(
            host=host,
            port=_checked("port", port, PORTS),
            unix=_path(unix),
            tls_cert=_path(tls_cert),
            tls_key=_path(tls_key),
            max_message_bytes=_checked(
                "max_message_bytes", max_message_bytes, int_range.MESSAGE_BYTES
            ),
            log_messages=_checked("log_messages", log_messages, LOG_MESSAGES),
            log_bytes=_checked("log_bytes", log_bytes, LOG_BYTES),
            log=_path(log),
            log_sync=log_sync,
            origins=parse_origins(_listed("allow_origin", allow_origin)),
            hosts=parse_hosts(_listed("allow_host", allow_host)),
            token=None if token is None else validate_token(token, "token"),
            operator_key=_checked_key(operator_key),
            trusted_proxies=parse_trusted_proxies(_listed("trusted_proxy", trusted_proxy)),
            limits=AdmissionLimits(
                clients=_checked("max_clients", max_clients, int_range.CLIENTS),
                clients_per_address=_checked(
                    "max_clients_per_address", max_clients_per_address, int_range.CLIENTS
                ),
                rooms=_checked("max_rooms", max_rooms, int_range.ROOMS),
                joins=_checked("max_joins", max_joins, int_range.JOINS),
                rate=_checked("rate", rate, int_range.RATE),
            ),
            grace=grace,
        )
        self._server: BroadcastServer | None = None

    def __await__(self) -> Generator[None, None, BroadcastServer]:
        return self._start().__await__()

    async def __aenter__(self) -> BroadcastServer:
        self._server = await self._start()
        return self._server

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._server is not None:
            await self._server.stop()

    async def _start(self) -> BroadcastServer:
        settings = self._settings
        try:
            opened = open_server(settings, file_limit(), ObservableServer)
        except (ListenError, LogFileError) as error:
            raise ServeError(with_parameters(str(error))) from error
        server = cast(ObservableServer, opened.server)
        try:
            await server.listen()
        except BaseException as error:
            opened.close()
            if isinstance(error, OSError | UnicodeError | ListenError):
                raise ServeError(_listen_error(settings, error)) from error
            raise
        for text in filter(None, (*opened.warnings, exposure_warning(server))):
            logger.warning("%s", with_parameters(text))
        load_late_modules()
        return BroadcastServer(opened, server)


def _checked(name: str, value: int, allowed: IntRange) -> int:
    """Return *value* as the command line would read it. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} is {value!r}, not a whole number")
    if not allowed.minimum <= value <= allowed.maximum:
        raise ValueError(
            f"{name} is {value}, must be between {allowed.minimum} and {allowed.maximum}"
        )
    return value


def _checked_key(key: str | None) -> str | None:
    return None if key is None else validate_token(key, "operator_key", "an operator key")


def _path(value: str | os.PathLike[str] | None) -> Path | None:
    return None if value is None else Path(value)


def _listed(name: str, values: Iterable[str]) -> str:
    """Return *values* as the command line has them. One string would be taken for its letters."""
    if isinstance(values, str):
        raise ValueError(f"{name} is a string, not a list of strings (pass [{values!r}])")
    return ",".join(values)


def _listen_error(settings: Settings, error: OSError | UnicodeError | ListenError) -> str:
    if isinstance(error, ListenError):
        return with_parameters(str(error))
    host, port = settings.host, settings.port
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    remedy = "pass another host or port, or port=0 for any free one"
    if settings.unix is not None:
        place, remedy = str(settings.unix), "pass another path as unix"
    if isinstance(error, UnicodeError | socket.gaierror):
        reason, remedy = "unknown host", "pass an address of this machine"
    elif error.errno == errno.EADDRINUSE:
        reason = "address already in use"
    else:
        reason = describe_os_error(error)
    return f"could not listen on {place}: {reason} ({remedy})"
