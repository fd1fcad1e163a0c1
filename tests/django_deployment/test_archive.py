"""The archive of messages in the admin: how it is searched, read and shown."""

from __future__ import annotations

from datetime import timedelta

import django_client  # noqa: F401  # it sets Django up

# isort: split

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils.timezone import now
from moderation_harness import (
    ADMIN,
    dana,
    log_messages,
    new_account,
    new_room,
    page,
    pages,
    signed_in,
)

from django_site import models
from django_site.accounts.models import Account
from django_site.moderation import actions

__all__ = ["dana", "pages"]  # fixtures


def room_with_messages() -> tuple[models.Room, Account]:
    """Create a room with messages to search for."""
    room, account = new_room(), new_account()
    moderator = new_account()
    log_messages(room, "the disk is full")
    log_messages(room, "which disk?", name="BOB")
    log_messages(room, "the one in build-3", name="Zoë")
    actions.hide(log_messages(room, "cheap disks"), moderator)
    log_messages(room, "pruned", name="as it was called", account=account)
    long_ago = now() - timedelta(days=3)
    models.Message.objects.filter(room=room, seq=1).update(at=long_ago)
    return room, account


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, [5, 4, 3, 2, 1]),
        ({"q": "DISK"}, [4, 2, 1]),
        ({"q": "disk full"}, [1]),
        ({"name": "bob"}, [4, 2, 1]),
        ({"name": "ZOË"}, [3]),
        ({"name": "{account}"}, [5]),
        ({"name": "nobody"}, []),
        ({"since": "{yesterday}"}, [5, 4, 3, 2]),
        ({"before": "{yesterday}"}, [1]),
        ({"hidden": "yes"}, [4]),
        ({"hidden": "no", "q": "disk"}, [2, 1]),
        ({"since": "soon"}, []),
        ({"hidden": "perhaps"}, []),
    ],
)
def test_the_archive_is_searched(query: dict[str, str], found: list[int], dana: Account) -> None:
    """Messages are found by room, name in any case, account, words, time and state."""
    room, account = room_with_messages()
    yesterday = f"{now() - timedelta(days=1):%Y-%m-%dT%H:%M}"
    words = {"account": account.username.upper(), "yesterday": yesterday}
    asked = {key: value.format(**words) for key, value in query.items()}
    seen = signed_in(dana).get(f"{ADMIN}/message/", {**asked, "room": room.name.upper()})
    assert [each.seq for each in seen.context["cl"].result_list] == found


def test_the_archive_over_all_rooms(dana: Account) -> None:
    """Without a room, the newest messages of all rooms are first. An unknown room has none."""
    messages = [log_messages(new_room(), "hi")[0].pk for _ in range(3)]
    browser = signed_in(dana)
    listed = browser.get(f"{ADMIN}/message/").context["cl"].result_list
    assert [each.pk for each in listed[:3]] == messages[::-1]
    assert "nothing found" in page(browser, "message/", room="not-there")


def test_the_archive_is_read_by_pages_and_never_counted(dana: Account) -> None:
    """Each page links to its neighbours, with a constant number of queries and without COUNT."""
    room = new_room()
    numbers = [each.seq for each in log_messages(room, *(f"line {n}" for n in range(250)))]
    browser = signed_in(dana)
    for number, ways in ((1, {"2"}), (2, {"1", "3"}), (3, {"2"})):
        with CaptureQueriesContext(
            connection,
        ) as queries:
            seen = browser.get(f"{ADMIN}/message/", {"room": room.name, "p": str(number)})
        listed = [each.seq for each in seen.context["cl"].result_list]
        assert listed == numbers[::-1][(number - 1) * 100 : number * 100]
        html = str(seen.content, "utf-8")
        assert {p for p in "0123" if f'href="?p={p}&amp;room={room.name}"' in html} == ways
        assert not [each for each in queries if "COUNT(" in each["sql"]]
        assert len(queries) <= 8


def test_a_message_is_shown_in_context_and_escaped(dana: Account) -> None:
    """A message is shown with those before and after it, and its text is escaped."""
    room, account = new_room(), new_account()
    log_messages(room, *(f"before {n}" for n in range(11)))
    text = "<script>x</script>\nbob: fine \u202eevil\u202c \x1b[31m\0 " + "long " * 100 + "end"
    message = log_messages(room, text, name="<b>", account=account)[0]
    log_messages(room, *(f"after {n}" for n in range(11)))
    seen = page(signed_in(dana), f"message/{message.pk}/change/")
    assert "&lt;script&gt;x&lt;/script&gt;" in seen and "<script>x" not in seen
    assert r"fine \u202eevil\u202c \u001b[31m\u0000 " in seen
    assert "end</p>" in seen and "<p>bob: fine" in seen
    assert f'&lt;b&gt; <span class="account" title="account {account}">' in seen
    for number in range(11):
        assert (f">before {number}<" in seen) == (number > 0)
        assert (f">after {number}<" in seen) == (number < 10)
    listed = page(signed_in(dana), "message/", room=room.name)
    assert "&lt;script&gt;x&lt;/script&gt; ⏎ bob: fine" in listed and "end<" not in listed
    assert "\u202e" not in seen + listed
