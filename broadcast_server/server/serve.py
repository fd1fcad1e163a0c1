"""Serving: runs one server from its settings until a signal stops it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from broadcast_server.console.signals import handle_signals
from broadcast_server.http.program import keep_compiled

from .event_log import logger
from .file_limit import raise_file_limit
from .opening import OpenedServer, exposure_warning, load_late_modules, open_server
from .settings import Settings

if TYPE_CHECKING:
    # It loads ssl, which only a server with --tls-cert needs.
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
    opened = open_server(settings, raise_file_limit())
    try:
        await _run_until_signal(opened, announce, share_url)
    finally:
        opened.close()


async def _run_until_signal(
    opened: OpenedServer,
    announce: Callable[[Sequence[str]], None],
    share_url: Callable[[Sequence[str]], str | None],
) -> None:
    server, certificate = opened.server, opened.certificate
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
        for text in filter(None, (*opened.warnings, exposure_warning(server))):
            logger.warning("%s", text)
        load_late_modules()
        server.share_url = share_url(server.listener.urls)
        keep_compiled()
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
