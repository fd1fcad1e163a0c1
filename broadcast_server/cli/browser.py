"""The browser: opens a page in the user's web browser, without waiting for it.

A second Python interpreter does it, so that nothing the browser prints appears in our output,
and a browser that stays in the foreground (the variable BROWSER can name one) delays nothing.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from threading import Thread

from broadcast_server.console.child_environment import child_environment

logger = logging.getLogger("broadcast_server")

OPEN = "import sys, webbrowser; sys.exit(not webbrowser.open(sys.argv[1]))"


def open_page(url: str) -> None:
    """Start opening *url*, and log a warning if that fails."""

    def run() -> None:
        if not _open_in_child(url):
            logger.warning("no browser could be opened (open %s yourself)", url)

    # A daemon thread, because a browser may run longer than the server.
    Thread(target=run, daemon=True).start()


def _open_in_child(url: str) -> bool:
    # Without TERM, webbrowser tries no text browser: the terminal is in use.
    environment = child_environment()
    environment.pop("TERM", None)
    try:
        finished = subprocess.run(
            [sys.executable, "-I", "-S", "-c", OPEN, url],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
    except OSError:
        return False
    return finished.returncode == 0
