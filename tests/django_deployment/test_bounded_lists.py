"""The lists of the admin: which look-ups they accept, and how long they may search."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import django_client  # noqa: F401  # it sets Django up

# isort: split

import psycopg
import pytest
from accounts_client import account, browser_of
from conftest import DAPHNE
from django.contrib import admin
from django.contrib.auth.models import Group
from django.contrib.sessions.models import Session
from django.db import connection
from django.db.models import Field, Model
from django.test import Client, RequestFactory
from django.utils.timezone import now
from programs import PATIENCE, listening, running
from services import postgresql_server

from django_site.accounts.models import Account, Token
from django_site.admin import bounded_list, time_limit
from django_site.models import Ban, Member, Message, Record, Report, Room
from django_site.store import message_log

OFFERED: dict[type[Model], dict[str, str]] = {
    Account: {
        "is_staff__exact": "1",
        "is_staff__isnull": "0",
        "is_superuser__exact": "1",
        "is_superuser__isnull": "0",
        "is_active__exact": "1",
        "is_active__isnull": "0",
        "groups__id__exact": "1",
        "groups__isnull": "True",
    },
    Group: {},
    Token: {},
    Room: {"state": "open"},
    Message: {},  # it has a search form of its own
    Ban: {"state": "active"},
    Member: {"in": "lobby"},
    Report: {"state": "open"},
    Record: {
        "at__gte": "2026-01-01 00:00:00+00:00",
        "at__lt": "2027-01-01 00:00:00+00:00",
        "action": "hide",
    },
}
"""The parameters that the filters of each list expect, with a valid value for each."""

REGEX = "^(a+)+$"
"""A pattern that takes forever for a text of many a's that does not match."""


def path_of(table: type[Model]) -> str:
    """Return the path of the list of *table*."""
    return f"/admin/{table._meta.app_label}/{table._meta.model_name}/"


def lookups_of(table: type[Model]) -> Iterator[str]:
    """Yield every look-up in a column of *table*, and in those that its relations lead to."""
    for first in table._meta.get_fields():
        yield from ending(first.name, first)
        related: Any = first.related_model
        if related is not None:
            for second in related._meta.get_fields():
                yield from ending(f"{first.name}__{second.name}", second)


def ending(path: str, field: Any) -> Iterator[str]:
    """Yield *path* with every look-up that exists for its field, and every transform before one."""
    yield path
    known = field.get_lookups() if isinstance(field, Field) else {"exact": None, "isnull": None}
    yield from (f"{path}__{each}" for each in known)
    yield from (f"{path}__{one}__{two}" for one, two in itertools.product(known, ["regex", "in"]))


@pytest.fixture(scope="module", autouse=True)
def short_pages() -> Iterator[None]:
    """Show few rows on a page: each has links with the whole query, and other tests leave many."""
    with pytest.MonkeyPatch.context() as patch:
        for its in admin.site._registry.values():
            patch.setattr(its, "list_per_page", 3)
        yield


@pytest.fixture(scope="module")
def root() -> Client:
    """A browser in which an account with all permissions is signed in."""
    owner = account()
    Account.objects.filter(pk=owner.pk).update(is_staff=True, is_superuser=True)
    return browser_of(Account.objects.get(pk=owner.pk))


def test_every_table_is_bounded() -> None:
    """The admin has no list with the look-ups of Django, and this file knows all lists."""
    assert set(admin.site._registry) == set(OFFERED)
    for table, its in admin.site._registry.items():
        assert isinstance(its, bounded_list.BoundedAdmin), table
        assert its.show_full_result_count is False


@pytest.mark.parametrize("table", OFFERED, ids=lambda table: table.__name__)
def test_only_what_the_filters_offer_is_looked_up(table: type[Model]) -> None:
    """Of all look-ups in all columns, the list accepts the parameters of its filters only."""
    its: Any = admin.site._registry[table]
    request = RequestFactory().get("/")
    tried = [*lookups_of(table), *OFFERED[table]]
    assert len(tried) > 50
    allowed = {each for each in tried if its.lookup_allowed(each, "1", request)}
    assert allowed == set(OFFERED[table])


@pytest.mark.parametrize("table", OFFERED, ids=lambda table: table.__name__)
def test_a_lookup_that_is_not_offered_is_rejected(table: type[Model], root: Client) -> None:
    """It is answered in words, and the database is not asked."""
    key = table._meta.get_fields()[-1].name
    for name in ("pk__regex", f"{key}__regex", "password__startswith", "room__name__regex", "utm"):
        answer = root.get(path_of(table), {name: REGEX})
        assert answer.status_code == 400, name
        assert answer.content.startswith(b"this list has no such filter, its filters are: ")


@pytest.mark.parametrize("table", OFFERED, ids=lambda table: table.__name__)
def test_what_the_filters_offer_is_looked_up(table: type[Model], root: Client) -> None:
    """Each parameter of each filter works."""
    for name, value in OFFERED[table].items():
        assert root.get(path_of(table), {name: value}).status_code == 200, name


HOSTILE = [
    {"q": "a\0b"},
    {"q": "\ud800".encode("utf-8", "surrogatepass").decode("latin-1")},
    {"q": "%_" * 90},
    {"q": "'\"\\;--"},
    {"p": "9" * 30},
    {"p": "9" * 5000},
    {"p": "-1"},
    {"o": "1.-2.x.99"},
    {"o": "9" * 5000},
    {"o": ".".join(["1"] * 3000)},
    {"all": ""},
    {"e": "1"},
    {"_popup": "1"},
    {"_to_field": "password"},
    {"_facets": "True"},
    {"state": "\0"},
    {"action": "\0"},
    {"action": "9" * 5000},
    {"groups__id__exact": "9" * 30},
    {"is_staff__exact": "x"},
    {"at__gte": "yesterday"},
    {"room": "x\0", "name": "\0"},
    {"room": "x" * 5000},
    {"name": "x" * 5000},
    {"since": "9" * 50, "before": "\0"},
    {"since": "9999-12-31T23:59-12:00", "before": "0001-01-01T00:00+12:00"},
    {"at__gte": "9999-12-31 23:59:00-12:00", "at__lt": "0001-01-01 00:00:00+12:00"},
]
"""Queries of a list that are not well-formed, or ask for much."""


@pytest.mark.parametrize("table", OFFERED, ids=lambda table: table.__name__)
def test_no_query_breaks_a_list(table: type[Model], root: Client) -> None:
    """Whatever is asked for, the answer is a page, a redirect or a rejection."""
    for query in HOSTILE:
        answer = root.get(path_of(table), query)
        assert answer.status_code in (200, 302, 400), query


@pytest.mark.parametrize("key", ["9" * 30, "9" * 5000, "-1", "x", "\0"])
def test_no_key_breaks_a_page(key: str, root: Client) -> None:
    """A row that cannot exist is not found, by its page or by an action."""
    for name in ("message/hide", "room/close", "ban/lift"):
        answer = root.get(f"/admin/django_site/{name}/?{urlencode({'pk': key})}")
        assert answer.status_code == 302, "there is nothing to act on"
    for table in OFFERED:
        quoted = urlencode({"": key})[1:]
        for page in ("change", "history", "delete"):
            answer = root.get(f"{path_of(table)}{quoted}/{page}/")
            assert answer.status_code in (302, 403, 404), (table, page)


@pytest.mark.parametrize("table", OFFERED, ids=lambda table: table.__name__)
@pytest.mark.parametrize("key", ["x" * 50, "1" * 19, "9" * 5000, "-1", "1.5", "", "\0", "١", "1\n"])
def test_no_selection_breaks_a_list(table: type[Model], key: str, root: Client) -> None:
    """A key that no row can have is rejected in words, with or without a valid one."""
    for action in ("hide", "lift", "close", "delete_selected", "x", ""):
        for keys in ([key], ["1", key]):
            form = {"action": action, "_selected_action": keys, "index": "x"}
            answer = root.post(path_of(table), form)
            words = b"_selected_action is not the key of a row\n"
            assert (answer.status_code, answer.content) == (400, words)


def test_nothing_is_searched_for_a_form(root: Client) -> None:
    """Django's search for a form's choices is not there: no form here uses it."""
    query = {"app_label": "django_site", "model_name": "ban", "field_name": "account", "term": "a"}
    assert root.get("/admin/autocomplete/", query).status_code == 404


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("w " * 11, "You search for 11 words, the limit is 10."),
        ("x" * 201, "A search has at most 200 characters."),
        ("w " * 50_000, "A search has at most 200 characters."),
    ],
)
def test_a_search_has_few_words(words: str, error: str, root: Client) -> None:
    """Each word is a condition on every row, so their number and length are limited."""
    for table in OFFERED:
        answer = root.get(path_of(table), {"q": words})
        assert error in answer.content.decode()


def test_a_search_that_takes_too_long_is_stopped(
    monkeypatch: pytest.MonkeyPatch, root: Client
) -> None:
    """It ends in a message that says what to do, and the form keeps what was entered."""
    room = message_log.open_room("searched")
    Message.objects.create(
        room=room, seq=1, name="bob", text="hi", at=now(), source="s", client_id="1"
    )
    assert "hi" in root.get(path_of(Message), {"q": "hi", "name": "bob"}).content.decode()
    monkeypatch.setattr(time_limit, "SQLITE_STEPS", 1)
    monkeypatch.setattr(bounded_list, "SEARCH_TIMEOUT_S", 0)
    found = root.get(path_of(Message), {"q": "hi", "name": "bob"}).content.decode()
    assert "The search took longer than 0 s. Narrow it down with a room" in found
    assert 'value="hi"' in found
    assert 'value="bob"' in found
    for table in OFFERED:
        assert "The search took longer than 0 s." in root.get(path_of(table)).content.decode()
    monkeypatch.undo()
    assert Message.objects.count() >= 1, "the limit ends with the search"
    assert not connection.in_atomic_block


def test_a_search_of_postgresql_is_stopped() -> None:
    """The same with PostgreSQL: a table that is locked for longer than a search may take."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database = stack.enter_context(postgresql_server(folder / "postgresql"))
        owner = account()
        locking = stack.enter_context(psycopg.connect(database.url))
        copy(Account.objects.filter(pk=owner.pk).values()[0], Account, locking)
        browser = browser_of(owner)
        session = Session.objects.filter(pk=browser.cookies["sessionid"].value).values()[0]
        copy(session, Session, locking)
        locking.execute("update accounts_account set is_staff = true, is_superuser = true")
        locking.commit()
        server = stack.enter_context(running(*DAPHNE, DATABASE_URL=database.url))
        connection_ = HTTPConnection(urlsplit(listening(server)).netloc, timeout=PATIENCE)
        with closing(connection_):
            locking.execute("lock table django_site_message in access exclusive mode")
            cookie = {"Cookie": f"sessionid={browser.cookies['sessionid'].value}"}
            for query, words in (("?q=hi", b"The search took longer than 2 s."), ("", b"Archive")):
                connection_.request("GET", path_of(Message) + query, headers=cookie)
                response = connection_.getresponse()
                assert (response.status, words in response.read()) == (200, True)
                locking.rollback()


def copy(row: Any, table: type[Model], target: psycopg.Connection[Any]) -> None:
    """Insert a row of this process's database into another."""
    columns, marks = ", ".join(row), ", ".join(["%s"] * len(row))
    name = table._meta.db_table
    target.execute(f"insert into {name} ({columns}) values ({marks})", list(row.values()))
