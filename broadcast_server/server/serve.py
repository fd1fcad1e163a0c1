"""Serving: runs one server from its settings until a signal stops it."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from broadcast_server.console.signals import handle_signals
from broadcast_server.http.chat_page import chat_page
from broadcast_server.http.program import read_program
from broadcast_server.rooms.message_log import LogFileError

from .file_limit import max_clients_for, raise_file_limit
from .listen_socket import ListenError
from .server import Server, logger
from .settings import Settings

if TYPE_CHECKING:
    # They load SQLite and ssl, which only a server with --log or --tls-cert needs.
    from broadcast_server.rooms.sqlite_log import SQLiteLog

    from .tls import ReloadableCertificate

REPEAT_S = 0.5
"""Seconds in which more signals to stop are copies of the first one: a supervisor in the same
terminal passes on the Ctrl+C that the server has got, too."""


async def serve(
    settings: Settings,
    announce: Callable[[Sequence[str]], None],
    share_url: Callable[[Sequence[str]], str | None],
) -> None:
    """Run a server until SIGINT or SIGTERM.

    Args:
        settings: The server's settings.
        announce: Called with the server's URLs once it listens.
        share_url: Called with them afterwards; returns the page's address for other machines, None
            if they cannot reach it.

    Raises:
        OSError: The server cannot listen.
        ListenError: It cannot listen, or cannot use its certificate, for a reason that the
            system does not know.
        LogFileError: The log file cannot be used.

    """
    max_files = raise_file_limit()
    settings, warning = _limit_clients(settings, max_files)
    certificate = _load_certificate(settings)
    log_file = _open_log_file(settings)
    try:
        server = Server(
            settings,
            program=read_program(),
            log_file=log_file,
            certificate=certificate,
            max_files=max_files,
        )
        notices = [] if log_file is None else log_file.notices
        if certificate is not None:
            notices = [certificate.warning, *notices]
        await _run_until_signal(server, announce, share_url, certificate, (warning, *notices))
    finally:
        if log_file is not None:
            log_file.close()


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
    from broadcast_server.console.tls_support import NO_TLS, has_tls

    if not has_tls():
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


async def _run_until_signal(
    server: Server,
    announce: Callable[[Sequence[str]], None],
    share_url: Callable[[Sequence[str]], str | None],
    certificate: ReloadableCertificate | None,
    warnings: Sequence[str],
) -> None:
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()
    impatient_from = inf  # when another signal is not a copy of the first one any more

    def stop() -> None:
        nonlocal impatient_from
        if loop.time() >= impatient_from:  # a second Ctrl+C does not wait for the grace period
            server.abort()
        impatient_from = min(impatient_from, loop.time() + REPEAT_S)
        stopping.set()

    await server.listen()
    reload = None if certificate is None else partial(_reload_certificate, certificate)
    with handle_signals(stop, reload):
        announce(server.listener.urls)
        for text in filter(None, (*warnings, _exposure_warning(server))):
            logger.warning("%s", text)
        # Load what requests need only now, as it takes a fifth of the time to start. Do not load
        # it on demand: by then the single file may have been replaced.
        importlib.import_module("broadcast_server.server.http_connection")
        chat_page()
        server.share_url = share_url(server.listener.urls)
        await stopping.wait()
        logger.info("stopping")
        await server.stop()


def _reload_certificate(certificate: ReloadableCertificate) -> None:
    from .tls import CertificateError

    try:
        certificate.reload()
    except CertificateError as error:
        logger.warning("%s (the old certificate stays in use)", error)
    else:
        logger.info("certificate renewed")
        if certificate.warning:
            logger.warning("%s", certificate.warning)


def _exposure_warning(server: Server) -> str:
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
