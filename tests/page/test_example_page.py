"""The page of `examples/`, which another server serves: it resumes and resends over a `kill -9`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from browsing import AWAY, Open, browser, needed, tab
from programs import ROOT, said, say
from restarted import Restarted

__all__ = ["browser", "tab"]  # fixtures

pytestmark = needed


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files, and logs nothing."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def origin() -> Iterator[str]:
    """The origin of a web server with the examples."""
    handler = partial(QuietHandler, directory=str(ROOT / "examples"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_it_resumes_and_resends_after_a_kill(tab: Open, origin: str) -> None:
    """Nothing is lost or shown twice, and what was said meanwhile arrives once, as text."""
    with ExitStack() as stack:
        server = Restarted("logged", stack, ("--allow-origin", origin))
        page = tab(f"{origin}/browser.html?server={server.url}&name=page", AWAY)
        page.until("document.title.startsWith('page in ')")
        say(server.url, "lobby", "ci", "one")
        page.until("document.querySelectorAll('li').length === 1")
        page.page.focus("input")
        page.type("<b>two")
        page.until("document.querySelectorAll('li').length === 2")
        server.stop(signal.SIGKILL)
        page.type("three")  # nobody is there to take it
        server.start()
        say(server.url, "lobby", "ci", "four")
        page.until("document.querySelectorAll('li').length === 4")
        assert page.texts("li") == said(server.url, "lobby")
        assert page.texts("li")[:2] == ["ci: one", "page: <b>two"]
        assert {*page.texts("li")[2:]} == {"ci: four", "page: three"}
        # A name that the server rejects ends it, with the reason.
        other = tab(f"{origin}/browser.html?server={server.url}&name=a:b", AWAY)
        other.until("document.querySelectorAll('li').length === 1")
        assert other.texts("li") == ["name contains a colon"]
        server.stop(signal.SIGTERM)
