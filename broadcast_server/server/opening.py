"""Opening: makes a server from its settings, with its certificate and its log file.

Both ways to run a server use it: the command, and the library in another program.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from broadcast_server.http.chat_page import chat_page
from broadcast_server.http.program import read_program
from broadcast_server.rooms.message_log import LogFileError

from .file_limit import max_clients_for
from .listen_socket import ListenError
from .server import Server
from .settings import Settings

if TYPE_CHECKING:
    # They load SQLite and ssl, which only a server with --log or --tls-cert needs.
    from broadcast_server.rooms.sqlite_log import SQLiteLog

    from .tls import ReloadableCertificate


class OpenedServer(NamedTuple):
    """A server that does not listen yet, and what belongs to it."""

    server: Server
    certificate: ReloadableCertificate | None
    log_file: SQLiteLog | None
    warnings: tuple[str, ...]
    """What its operator should know; some may be empty."""

    def close(self) -> None:
        """Close the log file. Call it when the server has stopped."""
        if self.log_file is not None:
            self.log_file.close()


def open_server(
    settings: Settings, max_files: int | None, make: Callable[..., Server] = Server
) -> OpenedServer:
    """Make a server.

    Args:
        settings: Its settings.
        max_files: How many files the process may open, None for no limit.
        make: Makes the server.

    Raises:
        ListenError: The certificate cannot be used.
        LogFileError: The log file cannot be used.

    """
    settings, warning = _limit_clients(settings, max_files)
    certificate = _load_certificate(settings)
    log_file = _open_log_file(settings)
    try:
        server = make(
            settings,
            program=read_program(),
            log_file=log_file,
            certificate=certificate,
            max_files=max_files,
        )
    except BaseException:
        if log_file is not None:
            log_file.close()
        raise
    notices = [] if log_file is None else log_file.notices
    if certificate is not None:
        notices = [certificate.warning, *notices]
    return OpenedServer(server, certificate, log_file, (warning, *notices))


def load_late_modules() -> None:
    """Load what requests need, once the server listens: clients that come now wait for it.

    So the single file listens after 142 ms of CPU time and not 172, or after 95 and not 109 with
    compiled modules. It must not be loaded on demand: the program may be replaced before.
    """
    importlib.import_module("broadcast_server.server.websocket")
    importlib.import_module("broadcast_server.server.http_connection")
    chat_page()


def exposure_warning(server: Server) -> str:
    """Return what others can do to a server that other machines can reach, if anything."""
    settings, listener = server.settings, server.listener
    if not listener.exposed:
        return ""
    risks = []
    if settings.token is None:
        risks.append("anyone who can reach this port can join (see --token-file)")
    # Behind a proxy, it is the proxy that has the certificate.
    if not listener.encrypted and not settings.trusted_proxies:
        risks.append("anyone on the network path can read the traffic (see --tls-cert)")
    return " and ".join(risks)


def _limit_clients(settings: Settings, max_files: int | None) -> tuple[Settings, str]:
    """Lower the limit on clients to what *max_files* allow. Return a warning if that was needed."""
    max_clients = max_clients_for(max_files)
    if settings.limits.clients <= max_clients:
        return settings, ""
    limited = replace(settings, limits=settings.limits._replace(clients=max_clients))
    return limited, f"the limit on open files allows only {max_clients} clients (raise ulimit -n)"


def _load_certificate(settings: Settings) -> ReloadableCertificate | None:
    if settings.tls_cert is None:
        return None
    from broadcast_server.console.tls_support import NO_TLS, can_use_tls

    if not can_use_tls():
        raise ListenError(f"{NO_TLS}, which --tls-cert needs (let a proxy use TLS)")
    from .tls import CertificateError, ReloadableCertificate

    try:
        return ReloadableCertificate(settings.tls_cert, settings.tls_key)
    except CertificateError as error:
        raise ListenError(str(error)) from None


def _open_log_file(settings: Settings) -> SQLiteLog | None:
    if settings.log is None:
        return None
    try:
        from broadcast_server.rooms.sqlite_log import SQLiteLog
    except ImportError:
        raise LogFileError("this Python has no SQLite, which --log needs") from None
    return SQLiteLog(settings.log, sync=settings.log_sync)
