"""The startup output: what `start` prints on standard error as soon as it listens.

It is one line per address. If standard error is a terminal, instructions for joining follow
(see `invitation`); their modules are imported only then.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from broadcast_server.console.child_environment import TOKEN_VARIABLE
from broadcast_server.console.streams import is_utf8, note, write_stderr
from broadcast_server.http.program import running_archive


def print_startup(options: argparse.Namespace, urls: Sequence[str]) -> None:
    """Print the addresses *urls* of a server, and open its page if the *options* say so."""
    if options.log_format != "text":
        log = logging.getLogger("broadcast_server")
        for url in urls:
            fields = {"event": "listening", "url": url}
            log.info("listening on %s", url, extra={"fields": fields})
    else:
        for url in urls:
            note(f"listening on {url}")
        # Not the key itself: the QR code is projected for others to see.
        if getattr(options, "has_made_key", False):
            note(f"operator key: in {options.operator_file}, which only you can read")
        if sys.stderr is not None and sys.stderr.isatty():
            _print_invitation(options, urls)
    if options.open:
        _open(options, urls)


def share_url(options: argparse.Namespace, urls: Sequence[str]) -> str | None:
    """Return the page's address for other machines, None if they cannot reach *urls*."""
    from .invitation import Invitation, page_url
    from .local_addresses import local_addresses

    public = Invitation(urls, local_addresses(), "", public=options.public_url).public_urls
    return page_url(public[0]) if public else None


def _print_invitation(options: argparse.Namespace, urls: Sequence[str]) -> None:
    from .invitation import Invitation
    from .local_addresses import local_addresses

    token_file = options.token_file or ("FILE" if os.environ.get(TOKEN_VARIABLE) else None)
    public = options.public_url
    invitation = Invitation(
        urls, local_addresses(), _program(), running_archive() is not None, token_file, public
    )
    for line in invitation.lines():
        note(line)
    if _can_draw():
        columns, rows = os.get_terminal_size(sys.stderr.fileno())
        for line in invitation.qr_lines(columns, rows):
            write_stderr(line)


def _program() -> str:
    """Return the command that runs this program, as the user can type it."""
    import shutil
    from pathlib import Path
    from shlex import quote

    typed = sys.argv[0]
    if running_archive() is not None:
        return f"python3 {quote(typed)}"
    if typed.endswith("__main__.py"):
        python = "python3" if shutil.which("python3") == sys.executable else sys.executable
        return f"{quote(python)} -m broadcast_server"
    name = Path(typed).name
    return name if shutil.which(name) == typed else quote(typed)


def _can_draw() -> bool:
    """Whether the terminal can show block characters in two colours."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    if sys.platform == "win32" and not os.environ.get("WT_SESSION"):
        return False
    return is_utf8(sys.stderr.encoding)


def _open(options: argparse.Namespace, urls: Sequence[str]) -> None:
    """Open the page, at the address that others can use if there is one: it is in the tab."""
    from .invitation import Invitation, page_url

    local = Invitation(urls, (), "").local_urls
    url = share_url(options, urls) or (page_url(local[0]) if local else None)
    if url is not None:
        from .browser import open_page

        open_page(url)
    else:
        note("there is no page to open: a browser needs a port (see --port)")
