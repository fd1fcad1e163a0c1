"""The announcement: what `start` says on standard error as soon as it listens.

A collector or a script gets the addresses, a line each. A person at a terminal is told
how to join as well, and only then what that takes is loaded.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from .streams import note, show
from .typed import TOKEN


def announce(options: argparse.Namespace, urls: Sequence[str]) -> None:
    """Say that a server with these *options* listens at *urls*, and open the page if asked to."""
    if options.log_format != "text":
        log = logging.getLogger("broadcast_server")
        for url in urls:
            fields = {"event": "listening", "url": url}
            log.info("listening on %s", url, extra={"fields": fields})
    else:
        for url in urls:
            note(f"listening on {url}")
        if sys.stderr is not None and sys.stderr.isatty():
            _invite(options, urls)
    if options.open:
        _open(urls)


def _invite(options: argparse.Namespace, urls: Sequence[str]) -> None:
    from .interfaces import addresses
    from .invitation import Invitation

    archived = getattr(__spec__.loader, "archive", None) is not None
    token_file = options.token_file or ("FILE" if os.environ.get(TOKEN) else None)
    public = options.public_url
    invitation = Invitation(urls, addresses(), _program(), archived, token_file, public)
    for line in invitation.lines():
        note(line)
    if _can_draw():
        columns, rows = os.get_terminal_size(sys.stderr.fileno())
        for line in invitation.picture(columns, rows):
            show(line)


def _program() -> str:
    """Return what was typed to run this program, as it can be typed again."""
    import shutil
    from pathlib import Path
    from shlex import quote

    typed = sys.argv[0]
    if getattr(__spec__.loader, "archive", None) is not None:
        return f"python3 {quote(typed)}"
    if typed.endswith("__main__.py"):
        python = "python3" if shutil.which("python3") == sys.executable else sys.executable
        return f"{quote(python)} -m {__package__}"
    name = Path(typed).name
    return name if shutil.which(name) == typed else quote(typed)


def _can_draw() -> bool:
    """Tell whether blocks in two colours come out as such."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    if sys.platform == "win32" and not os.environ.get("WT_SESSION"):
        return False
    return sys.stderr.encoding.lower().replace("_", "-") in ("utf-8", "utf8")


def _open(urls: Sequence[str]) -> None:
    from .invitation import Invitation, page_of

    inward = Invitation(urls, (), "").inward
    if inward:
        from .browser import open_page

        open_page(page_of(inward[0]))
    else:
        note("there is no page to open: a browser needs a port (see --port)")
