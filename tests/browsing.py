"""The browser: one Chromium for the tests of a file, and a person's actions in its tabs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from conftest import Processes
from deployments import INSTALLED
from programs import until

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")

BROWSERS = "chromium-headless-shell", "chromium", "chromium-browser"
"""Executables to try; a page in the headless shell takes a quarter of the CPU time."""

CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
needed = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here")

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
)
AWAY = "WebSocket connection to"
"""The console message of Chromium while a server is away; a page cannot prevent it."""


class Tab:
    """One page of the browser, with a person's actions in it."""

    def __init__(self, context: Any) -> None:
        self.page = context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda entry: self.complaints.append(entry.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))

    def js(self, code: str, argument: object = None) -> Any:
        """Evaluate an expression in the page."""
        return self.page.evaluate(code, argument)

    def until(self, code: str) -> None:
        """Wait until an expression is true; Playwright's own wait needs unsafe-eval."""
        until(lambda: self.js(code), code)

    def type(self, *texts: str) -> None:
        """Type each text, followed by Enter, into whatever has the focus."""
        for text in texts:
            self.page.keyboard.insert_text(text)
            self.page.keyboard.press("Enter")

    def live(self, count: int) -> None:
        """Wait until the page shows *count* members."""
        self.until(f"document.querySelector('#here').textContent === '{count} here'")

    def texts(self, where: str = "#log .row p") -> list[str]:
        """Return the texts of all elements that match the selector *where*."""
        texts = self.js(
            f"[...document.querySelectorAll('{where}')].map((each) => each.textContent)"
        )
        return cast(list[str], texts)

    def heard(self, *texts: str) -> None:
        """Wait until exactly these messages are shown, in this order, and none is unconfirmed."""
        wanted = list(texts)
        until(lambda: self.texts() == wanted and not self.texts("#waiting p"), f"{wanted}")

    def notes(self) -> list[str]:
        """Return the lines that are not messages: joins, errors and gaps."""
        return self.texts("#log .note")

    def last_note(self) -> str:
        """Return the last of them, empty if there is none yet."""
        return "".join(self.notes()[-1:])


Open = Callable[..., Tab]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for all tests of a file."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture
def tab(browser: Any) -> Iterator[Open]:
    """Return a function that opens a tab with storage of its own.

    At the end of the test no tab may have logged anything to its console, apart from messages
    that contain *forgive*.
    """
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
        left = [text for text in tab.complaints if not forgive or forgive not in text]
        assert left == [], left  # pytest explains no assertion of this file


def room(request: pytest.FixtureRequest) -> str:
    """Return the name of a room for this test alone."""
    return re.sub("[^a-z0-9]+", "-", request.node.name)[:60]


@pytest.fixture
def here(request: pytest.FixtureRequest, processes: Processes) -> str:
    """The page's address on the standalone server, in a room for this test alone."""
    found = processes.url(INSTALLED, ())
    return f"{found.replace('ws', 'http', 1)}?room={room(request)}"


def audit(tab: Tab) -> None:
    """Check the accessibility of a tab's current state with axe-core, without motion."""
    tab.page.emulate_media(reduced_motion="reduce")  # axe scrolls, and a button would fade in then
    found = axe.Axe().run(tab.page).response["violations"]
    assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found] == []
