"""Accounts and their tokens in the admin, and accounts that take a name from a guest."""

from __future__ import annotations

import asyncio
import re
import time
from importlib import import_module
from typing import Any

from django_client import run_async  # it sets Django up

# isort: split

import pytest
from channels import layers
from channels.layers import InMemoryChannelLayer
from django.apps import apps
from django.contrib.auth.models import Permission
from django.db import connection
from django.utils.html import strip_tags
from moderation_harness import (
    dana,
    imposed,
    in_room,
    in_thread,
    log_messages,
    new_account,
    new_room,
    pages,
    signed_in,
)

from django_site import models
from django_site.accounts.models import Account, Token
from django_site.accounts.name_key import stored_key
from django_site.moderation import actions

__all__ = ["dana", "pages"]  # fixtures


def test_an_account_goes_and_what_it_did_stays(dana: Account) -> None:
    """Deleting an account deletes its bans, and keeps its messages and records."""
    room, account = new_room(), new_account()
    message = log_messages(room, "hi", name=account.username, account=account)[0]
    actions.hide([message], account)
    ban = imposed(dana, account=account)
    browser = signed_in(new_account(is_superuser=True, is_staff=True))
    url = f"/admin/accounts/account/{account.pk}/delete/"
    assert browser.post(url, {"post": "yes"}).status_code == 302
    assert not Account.objects.filter(pk=account.pk).exists()
    message.refresh_from_db()
    assert (message.account, message.name) == (None, account.username)
    assert models.Record.objects.get(action="hide", subject__contains=room.name).by is None
    assert not models.Ban.objects.filter(pk=ban.pk).exists()


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("ﬁnn", ""),
        ("a:b", "colon"),
        ("Account {number}", "taken"),
        ("ａccount {number}", "too similar to another"),
    ],
)
def test_a_new_account(name: str, error: str) -> None:
    """A new account keeps the spelling of its name, which must be valid and unlike any other."""
    number = new_account().username.split()[1]
    browser = signed_in(new_account(is_superuser=True, is_staff=True))
    data = {"username": name.format(number=number), "usable_password": "true"}
    data["password1"] = data["password2"] = "correct horse 9"
    made = browser.post("/admin/accounts/account/add/", data)
    if error:
        assert error in str(made.context["adminform"].form.errors)
    else:
        assert made.status_code == 302
        account = Account.objects.get(username=name)
        url = f"/admin/accounts/account/{account.pk}/change/"
        form = browser.get(url).context["adminform"].form
        changed = {**form.initial, "email": "x@example.org", "groups": [], "user_permissions": []}
        data = {key: value for key, value in changed.items() if value is not None}
        assert browser.post(url, data).status_code == 302
        account.refresh_from_db()
        assert (account.username, account.email) == (name, "x@example.org")
        account.delete()


@pytest.mark.parametrize("page", ["", "add/", "{}/change/", "{}/password/", "{}/delete/"])
def test_an_account_is_called_an_account(page: str) -> None:
    """No page of the accounts, nor the name of a permission, calls an account a user."""
    account = new_account(is_superuser=True, is_staff=True)
    url = f"/admin/accounts/account/{page.format(account.pk)}"
    words = strip_tags(str(signed_in(account).get(url).content, "utf-8"))
    assert re.findall(r"(?i)\buser.*", words) == []
    names = Permission.objects.filter(content_type__app_label="accounts").values_list("name")
    assert [name for (name,) in names if "user" in name] == []


def test_the_names_of_permissions_are_renamed() -> None:
    """The migration renames the permissions of a database that is older."""
    migration = import_module("django_site.accounts.migrations.0004_called_accounts")
    named = Permission.objects.filter(codename="add_account")
    named.update(name="Can add user")
    with connection.schema_editor() as editor:
        migration.rename_permissions(apps, editor)
    assert named.get().name == "Can add account"


def test_tokens_are_revoked_and_not_seen() -> None:
    """Tokens are listed without their secrets, and can be revoked."""
    token, secret = Token.make(new_account(), "laptop")
    browser = signed_in(new_account(is_superuser=True, is_staff=True))
    url = f"/admin/accounts/token/{token.pk}"
    for path in ("/admin/accounts/token/", f"{url}/change/"):
        seen = str(browser.get(path).content, "utf-8")
        assert "laptop" in seen and token.digest not in seen and secret not in seen
    assert browser.get("/admin/accounts/token/add/").status_code == 403
    assert browser.post(f"{url}/delete/", {"post": "yes"}).status_code == 302
    assert Token.account_of(secret) is None


class HangingLayer(InMemoryChannelLayer):
    """A channel layer whose sends never complete."""

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Hang."""
        await asyncio.Event().wait()


def test_an_account_takes_its_name_while_the_channel_layer_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A hanging channel layer delays no join, not even one that removes a guest."""
    room = new_room()

    async def part() -> None:
        monkeypatch.setitem(layers.channel_layers.backends, "default", HangingLayer())
        async with in_room(room, "newbie") as other:
            await other.event()
            # As if both joined at once: the signal has not removed the guest.
            account = Account(username="newbie", key=stored_key("newbie"))
            await in_thread(Account.objects.bulk_create, [account])
            _, secret = await in_thread(Token.make, account, "t")
            begin = time.monotonic()
            async with in_room(room, "x", token=secret) as owner:
                assert (await owner.event())["name"] == "newbie"
            assert time.monotonic() - begin < 2

    run_async(part)
