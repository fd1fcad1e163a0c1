"""The browser: opens a page in the one that this person uses, and waits for nothing.

It is another interpreter's work. What a browser prints does not come among our lines, and
one that stays in the foreground, as BROWSER can name, holds up nobody.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from threading import Thread

log = logging.getLogger("broadcast_server")

OPEN = "import sys, webbrowser; sys.exit(not webbrowser.open(sys.argv[1]))"


def open_page(url: str) -> None:
    """Begin to open *url*; a line of the log tells if that fails."""

    def run() -> None:
        if not _opened(url):
            log.warning("no browser could be opened (open %s yourself)", url)

    # Never waited for: a browser may outlive us.
    Thread(target=run, daemon=True).start()


def _opened(url: str) -> bool:
    # Without TERM only browsers with a window are tried: this terminal is in use.
    environment = {name: value for name, value in os.environ.items() if name != "TERM"}
    try:
        done = subprocess.run(
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
    return done.returncode == 0
