"""Foreign pages: what a page of another site can do to a server in a real browser. Nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from browsing import CHROMIUM, FLAGS, browser, here, needed
from conftest import DAPHNE, Processes
from metrics_samples import samples
from programs import until

__all__ = ["browser", "here"]  # fixtures
pytestmark = needed

EMBEDDED = """<!doctype html><title>foreign</title>
<iframe src="{url}stream"></iframe><img src="{url}stream"><script src="{url}stream"></script>
<link rel="stylesheet" href="{url}stream"><object data="{url}stream"></object>
<video src="{url}stream"></video><iframe name="into"></iframe>
<form id="form" target="into" method="post" enctype="text/plain" action="{url}?name=form">
<input name="a" value="b"></form>
<script>
form.submit();
window.done = {{}};
for (const mode of ["no-cors", "cors"])
  for (const path of ["stream", "metrics"])
    fetch("{url}" + path, {{mode}})
      .then((r) => done[mode + path] = r.type, () => done[mode + path] = 0);
fetch("{url}?name=x", {{mode: "no-cors", method: "POST", body: "hi"}})
  .then((r) => done.post = r.type, () => done.post = 0);
new EventSource("{url}stream").onerror = () => done.events = 0;
const socket = new WebSocket("{socket}");
socket.onopen = () => done.socket = "open";
socket.onerror = () => done.socket = 0;
</script>"""

NOTHING = {
    "no-corsstream": 0, "no-corsmetrics": 0, "corsstream": 0, "corsmetrics": 0, "post": 0,
    "events": 0, "socket": 0,
}  # fmt: skip


@pytest.fixture
def foreign(here: str) -> Iterator[int]:
    """The port of another site, whose page embeds whatever the server has."""
    url = here.partition("?")[0]
    page = EMBEDDED.format(url=url, socket=url.replace("http", "ws")).encode()

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # http.server's name
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        yield site.server_port
        site.shutdown()
        thread.join()


def _counts(here: str) -> list[float]:
    with urlopen(here.partition("?")[0] + "metrics") as response:  # it is http
        found = samples(response.read().decode())
    return [found[f"broadcast_{name}"] for name in ("joins_total", "messages_total", "streams")]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_page_of_another_site(browser: Any, here: str, foreign: int, host: str) -> None:
    """It receives nothing, publishes nothing and joins nothing: of another site or port."""
    before = _counts(here)
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"http://{host}:{foreign}/")
    until(lambda: page.evaluate("done") == NOTHING, "all answers")
    assert _counts(here) == before
    context.close()


def test_a_page_under_another_name(browser: Any, here: str) -> None:
    """A name that was made to resolve to the server does not open its page."""
    rule = "--host-resolver-rules=MAP evil.example 127.0.0.1"
    rebound = browser.browser_type.launch(executable_path=CHROMIUM, args=[*FLAGS.split(), rule])
    page = rebound.new_page()
    for path in ("", "stream", "metrics"):
        response = page.goto(f"http://evil.example:{urlsplit(here).port}/{path}")
        assert response.status == 421
        assert "start --allow-host adds it" in response.text()
    rebound.close()


def test_pages_of_the_django_deployment(browser: Any, processes: Processes, foreign: int) -> None:
    """A page of another site embeds nothing of it, and its link opens a page of it."""
    site = processes.django_url(DAPHNE, ()).replace("ws:", "http:")
    context = browser.new_context()
    page = context.new_page()
    results: dict[str, object] = {}
    page.on("response", lambda found: results.update({found.url: found.status}))
    page.on("requestfailed", lambda found: results.setdefault(found.url, found.failure))
    page.goto(f"http://localhost:{foreign}/")
    embedded = {
        "iframe": "accounts/login/", "embed": "admin/", "script": "static/admin/js/theme.js",
        "img": "static/admin/img/icon-yes.svg",
    }  # fmt: skip
    for tag, path in embedded.items():
        source = {"tag": tag, "url": site + path}
        page.evaluate(
            "({tag, url}) => {document.body.appendChild(document.createElement(tag)).src = url}",
            source,
        )
    blocked = "net::ERR_BLOCKED_BY_RESPONSE"  # by its Cross-Origin-Resource-Policy

    def rejected() -> bool:
        page.evaluate("0")  # else no event arrives
        found = [str(results.get(site + path, "")) for path in embedded.values()]
        assert set(found) <= {"", "403", *(each for each in found if each.startswith(blocked))}
        return all(found)

    until(rejected, "responses to all")
    page.evaluate("(url) => {location = url}", site + "admin/")
    page.wait_for_url(lambda url: "/accounts/login/" in url)
    assert page.title().startswith("Sign in")
    context.close()
