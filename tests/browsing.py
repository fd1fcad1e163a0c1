"""The browser: one Chromium for the tests of a file, and what a person does in its tabs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from conftest import Processes
from houses import INSTALLED
from programs import until

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")

BROWSERS = "chromium-headless-shell", "chromium", "chromium-browser"
"""The shell first: a page in it costs a quarter of the processor's time."""

CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
needed = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here")

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
)
AWAY = "WebSocket connection to"
"""What Chromium complains of while a server is away; a page cannot keep it from that."""


class Tab:
    """One page of the browser, and what a person does in it."""

    def __init__(self, context: Any) -> None:
        self.page = context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda said: self.complaints.append(said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))

    def js(self, code: str, argument: object = None) -> Any:
        """Evaluate an expression there."""
        return self.page.evaluate(code, argument)

    def until(self, code: str) -> None:
        """Wait until an expression is true. Playwright's own wait would need unsafe-eval."""
        until(lambda: self.js(code), code)

    def type(self, *texts: str) -> None:
        """Say each of these, by the keyboard, wherever the focus is."""
        for text in texts:
            self.page.keyboard.insert_text(text)
            self.page.keyboard.press("Enter")

    def live(self, count: int) -> None:
        """Wait until so many are here."""
        self.until(f"document.querySelector('#here').textContent === '{count} here'")

    def texts(self, where: str = "#log .row p") -> list[str]:
        """Return the text of all that match."""
        found = self.js(
            f"[...document.querySelectorAll('{where}')].map((each) => each.textContent)"
        )
        return cast(list[str], found)

    def heard(self, *texts: str) -> None:
        """Wait until exactly these messages are there, in this order, and none waits."""
        wanted = list(texts)
        until(lambda: self.texts() == wanted and not self.texts("#waiting p"), f"{wanted}")

    def notes(self) -> list[str]:
        """Return what is set apart from talk."""
        return self.texts("#log .note")


Open = Callable[..., Tab]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for all tests."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture
def tab(browser: Any) -> Iterator[Open]:
    """Open a tab at an address, as a person of its own; none may have complained at the end."""
    tabs: list[tuple[Tab, str]] = []

    def open(url: str, forgive: str = "", **options: Any) -> Tab:
        tab = Tab(browser.new_context(**options))
        tabs.append((tab, forgive))
        tab.page.goto(url)
        return tab

    yield open
    for tab, _ in tabs:
        tab.page.context.close()
    for tab, forgive in tabs:
        assert [each for each in tab.complaints if not forgive or forgive not in each] == []


def room(request: pytest.FixtureRequest) -> str:
    """Return a room for a test alone."""
    return re.sub("[^a-z0-9]+", "-", request.node.name)[:60]


@pytest.fixture
def here(request: pytest.FixtureRequest, processes: Processes) -> str:
    """The page's address in the single file's house."""
    found = processes.url(INSTALLED, ())
    return f"{found.replace('ws', 'http', 1)}?room={room(request)}"


def audit(tab: Tab) -> None:
    """Have axe-core look at a tab as it is."""
    found = axe.Axe().run(tab.page).response["violations"]
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found] == []
