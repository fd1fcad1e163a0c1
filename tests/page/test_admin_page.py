"""The admin and the chat page of an account in a real Chromium, without a server."""

from __future__ import annotations

import mimetypes
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import django_client  # noqa: F401  # it sets Django up

# isort: split

import pytest
from browsing import AWAY, Tab, browser, needed
from django.contrib.staticfiles import finders
from moderation_harness import (
    ADMIN,
    imposed,
    log_messages,
    new_account,
    new_room,
    pages,
    signed_in,
)

from django_site import models
from django_site.accounts.models import Account
from django_site.moderation import actions, group

__all__ = ["browser", "pages"]  # fixtures

pytestmark = needed

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
ORIGIN = "http://localhost"


@pytest.fixture(scope="module")
def thread() -> Iterator[ThreadPoolExecutor]:
    """A thread for Django, which does not work in one that has an event loop."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
def moderator(thread: ThreadPoolExecutor) -> Account:
    """A moderator with something to moderate: three messages, a hidden one and a ban."""

    def make() -> Account:
        account = new_account(group=group.GROUP, is_staff=True)
        room = new_room()
        actions.hide(log_messages(room, "a " * 300, "x" * 300, "three", "four")[:1], account, "no")
        imposed(account, name="eve", room=room)
        return account

    return thread.submit(make).result()


@pytest.fixture
def visit(
    browser: Any, thread: ThreadPoolExecutor, moderator: Account
) -> Iterator[Callable[..., Tab]]:
    """Return a function that opens a page in which the moderator is signed in."""
    client = thread.submit(signed_in, moderator).result()
    tabs: list[tuple[Tab, str]] = []

    def respond(url: str, accept: str) -> dict[str, Any]:
        parts = urlsplit(url)
        if parts.path.startswith("/static/"):
            file = Path(str(finders.find(parts.path.removeprefix("/static/"))))
            kind = mimetypes.guess_type(file.name)[0]
            return {"status": 200, "content_type": kind, "body": file.read_bytes()}
        found = client.get(f"{parts.path}?{parts.query}", headers={"accept": accept})
        headers = dict(found.items())
        return {"status": found.status_code, "headers": headers, "body": found.content}

    def fulfill(route: Any, request: Any) -> None:
        accept = request.headers.get("accept", "")
        route.fulfill(**thread.submit(respond, request.url, accept).result())

    def open(path: str, forgive: str = "", **options: Any) -> Tab:
        tab = Tab(browser.new_context(**options))
        tabs.append((tab, forgive))
        tab.page.context.route(f"{ORIGIN}/**", fulfill)
        tab.page.goto(ORIGIN + path)
        return tab

    yield open
    for tab, _ in tabs:
        tab.page.context.close()
    for tab, forgive in tabs:
        assert [text for text in tab.complaints if not forgive or forgive not in text] == []


@pytest.mark.parametrize("table", ["message", "room", "member", "ban", "record"])
def test_a_list_on_a_phone(visit: Callable[..., Tab], table: str) -> None:
    """Each list fits a phone, with fields that can be used, and causes no script error."""
    tab = visit(f"{ADMIN}/{table}/", **PHONE)
    assert tab.js("document.documentElement.scrollWidth") == 390
    boxes = tab.js(
        "[...document.querySelectorAll('#content :is(input, select, button, a)')]"
        ".filter((each) => each.checkVisibility())"
        ".map((each) => [each.name, each.getBoundingClientRect()])"
        ".map(([name, {left, right, width}]) => ({name, left, right, width}))"
    )
    assert [each for each in boxes if each["left"] < 0 or each["right"] > 390] == []
    fields = {"q", "room", "name", "since", "before", "hidden"}
    assert [each for each in boxes if each["name"] in fields and each["width"] < 100] == []
    assert "q" in {each["name"] for each in boxes}


def test_a_click_with_shift_selects_a_range(visit: Callable[..., Tab]) -> None:
    """A click, and one with the shift key further down, select all rows in between."""
    tab = visit(f"{ADMIN}/message/")
    boxes = tab.page.locator("input.action-select")
    boxes.nth(0).click()
    boxes.nth(2).click(modifiers=["Shift"])
    assert [boxes.nth(each).is_checked() for each in range(4)] == [True, True, True, False]
    assert tab.texts(".action-counter")[0].startswith("3 of ")
    assert tab.texts(".actions .question") == [], "no button selects what is not on the page"


def test_a_room_is_closed_by_one_button(
    visit: Callable[..., Tab], thread: ThreadPoolExecutor
) -> None:
    """The page of a room has one button with the word, and another one leads back to the list."""
    key = thread.submit(lambda: models.Room.objects.latest("pk").pk).result()
    tab = visit(f"{ADMIN}/room/{key}/change/")
    buttons = tab.texts(".object-tools a, .submit-row a")
    assert [each for each in buttons if "lose" in each] == ["Close this room…"]
    assert buttons[-1] == "Back to the list"


def test_an_account_is_not_asked_for_a_name(visit: Callable[..., Tab], moderator: Account) -> None:
    """The chat page asks an account for a room alone, and joins under the account's name."""
    tab = visit("/", forgive=AWAY)
    shown = "[...document.querySelectorAll('#enter input')].filter((e) => e.checkVisibility())"
    assert tab.js(f"{shown}.map((each) => each.id)") == ["place"]
    assert tab.js("document.activeElement.id") == "place"
    assert tab.js("document.querySelector('#name').value") == moderator.username
    tab.page.keyboard.press("Enter")
    tab.until("!document.querySelector('#chat').hidden")
