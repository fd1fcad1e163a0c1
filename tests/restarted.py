"""A server that is restarted on the same port, with the same data."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from deployments import INSTALLED
from programs import Running, listening, running
from services import free_port, site_folder


class Restarted:
    """A server of one kind: ``memory`` and ``logged`` are the standalone server, or ``daphne``.

    *options* are further ones of ``start``, and *environment* adds variables.
    """

    def __init__(
        self, kind: str, stack: ExitStack, options: tuple[str, ...] = (), **environment: str
    ) -> None:
        port = str(free_port())
        self.kind, self._stack = kind, stack
        data = stack.enter_context(tempfile.TemporaryDirectory())
        if kind == "daphne":
            site_folder(data)
        log = ("--log", str(Path(data, "log"))) if kind == "logged" else ()
        start = (*INSTALLED, "start", "--port", port, *log, *options)
        site = (sys.executable, "-m", "daphne", "-p", port, "django_site.asgi:application")
        self._command = site if kind == "daphne" else start
        self._environment: dict[str, Any] = {"BROADCAST_DATA": data, **environment}
        self.url = f"ws://127.0.0.1:{port}/"
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        site = running(*self._command, **self._environment)
        self._running: Running = self._stack.enter_context(site)
        assert listening(self._running) if self.kind == "daphne" else self._running.url

    def send_signal(self, number: int) -> None:
        """Send it the signal *number*."""
        self._running.process.send_signal(number)

    def wait(self, number: int) -> None:
        """Wait until it has ended by the signal *number*."""
        assert self._running.wait() == (-number if number == signal.SIGKILL else 0)

    def stop(self, number: int) -> None:
        """End it with the signal *number*."""
        self.send_signal(number)
        self.wait(number)

    async def restart(self, number: int) -> None:
        """End it with the signal *number*, and start it again."""
        await asyncio.to_thread(self.stop, number)
        await asyncio.to_thread(self.start)
