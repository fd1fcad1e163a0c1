"""The login throttle, and what logins and requests for mails reveal about accounts."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any, ClassVar

import pytest
from accounts_client import PASSWORD, account, browser_of, mail_backend
from django.contrib.auth import aauthenticate, authenticate
from django.contrib.auth.hashers import MD5PasswordHasher
from django.core.mail.backends.base import BaseEmailBackend
from django.db import DatabaseError, connection
from django.http import HttpRequest
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import path, reverse
from programs import until

from django_site.accounts import forms, login_throttle, mail_queue, views
from django_site.accounts.login_throttle import Throttled, mails_to, password_of, record_attempt
from django_site.accounts.models import Account, Attempt
from django_site.urls import urlpatterns as site_urls

urlpatterns = [
    path("reset/", views.Reset.as_view()),
    path("reset/<uidb64>/<token>/", views.ResetConfirm.as_view(), name="password_reset_confirm"),
    *site_urls,  # the last of them takes every path
]
"""The URLs of a site that can send mail."""


class Mailbox(BaseEmailBackend):
    """A mail backend that keeps the recipients, or fails."""

    sent: ClassVar[list[str]] = []
    threads: ClassVar[set[int]] = set()
    error: ClassVar[Exception | None] = None

    def send_messages(self, email_messages: Any) -> int:
        """Keep the recipients."""
        self.threads.add(threading.get_ident())
        if self.error is not None:
            raise self.error
        self.sent.extend(each.to[0] for each in email_messages)
        return len(email_messages)


@pytest.fixture(autouse=True)
def hashed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The passwords that were hashed, with a fast hasher. There are no failed logins yet."""
    Attempt.objects.all().delete()
    found: list[str] = []
    encode = MD5PasswordHasher.encode

    def recording(self: MD5PasswordHasher, password: str, salt: str) -> str:
        found.append(password)
        return encode(self, password, salt)

    monkeypatch.setattr(MD5PasswordHasher, "encode", recording)
    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
        yield found


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The recipients of mails that were sent, on a site that can send some."""
    monkeypatch.setattr(Mailbox, "sent", [])
    monkeypatch.setattr(Mailbox, "threads", set())
    backend = mail_backend(f"{__name__}.Mailbox")
    with override_settings(**backend, ROOT_URLCONF=__name__, MAIL=True):
        yield Mailbox.sent


def sign_in(client: Client, name: str, password: str = PASSWORD, **more: Any) -> Any:
    """Send the login form."""
    return client.post("/accounts/login/", {"username": name, "password": password}, **more)


def request_mail(recipient: str, **more: Any) -> Any:
    """Send the form that requests a mail."""
    return browser_of().post("/reset/", {"email": recipient}, **more)


@contextmanager
def lines_of(logger: logging.Logger) -> Iterator[list[str]]:
    """Collect what is logged in the meantime, each with whether it has a traceback."""
    found: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: found.append(  # type: ignore[method-assign]
        record.getMessage() + " + traceback" * bool(record.exc_info)
    )
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)


def queue_is_done() -> None:
    """Wait until every mail that was queued has been sent."""
    done = threading.Event()
    mail_queue.queue_job(done.set)
    until(done.is_set, "an empty mail queue")


def settled(done: Callable[[], object]) -> list[str]:
    """Return the statements that *done* caused here, without the values in them."""
    with CaptureQueriesContext(connection) as queries:
        done()
    return [re.sub(r"'[^']*'|\d+", "?", query["sql"]) for query in queries]


# -- passwords --


def test_guessing_is_throttled_for_a_while() -> None:
    """After five failures for a name an address has to wait, even with the right password."""
    whose = account()
    client = browser_of()
    for _ in range(login_throttle.MAX_FAILURES_PER_PAIR):
        assert sign_in(client, whose.username, "wrong").status_code == 200
    for password in ("wrong", PASSWORD):  # in any spelling of the name
        held = sign_in(client, whose.username.upper(), password)
        assert held.status_code == 429
        assert 590 < int(held["Retry-After"]) <= 600
        alert = '<p class="errorlist" role="alert">Too many attempts: try again in 10 minutes.</p>'
        assert alert in held.content.decode()
        assert PASSWORD not in held.content.decode()
    assert sign_in(client, account().username).status_code == 302, "others may"
    assert sign_in(client, whose.username, REMOTE_ADDR="192.0.2.1").status_code == 302
    Attempt.objects.update(made=datetime.now(timezone.utc) - login_throttle.WINDOW)
    assert sign_in(client, whose.username).status_code == 302


def test_a_right_password_clears_the_failures() -> None:
    """After the right password, wrong ones before it do not count any more."""
    whose = account()
    for _ in range(2 * login_throttle.MAX_FAILURES_PER_PAIR):
        assert sign_in(browser_of(), whose.username, "wrong").status_code == 200
        assert sign_in(browser_of(), whose.username).status_code == 302


def test_guessing_across_names_and_addresses_is_throttled() -> None:
    """Both one address that tries many names and many addresses that try one name are throttled."""
    for number in range(login_throttle.MAX_FAILURES_PER_ADDRESS):
        record_attempt(password_of(f"name {number}"), "192.0.2.1")
    with pytest.raises(Throttled):
        record_attempt(password_of("another"), "192.0.2.1")
    Attempt.objects.all().delete()
    for number in range(login_throttle.MAX_FAILURES_PER_NAME):
        record_attempt(password_of("name"), f"192.0.2.{number}")
    with pytest.raises(Throttled):
        record_attempt(password_of("NAME"), "198.51.100.1")
    assert Attempt.objects.count() == login_throttle.MAX_FAILURES_PER_NAME, (
        "a throttled attempt is not counted"
    )


def test_many_guesses_at_once_are_counted(hashed: list[str]) -> None:
    """Guesses made at the same time are limited like those made one after the other."""
    whose = account().username
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(guess, [whose] * 20))
    assert set(answers) == {200, 429}
    assert answers.count(200) == hashed.count("wrong") <= login_throttle.MAX_FAILURES_PER_PAIR


def guess(name: str) -> int:
    """Send a wrong password, in a thread."""
    try:
        return int(sign_in(browser_of(), name, "wrong").status_code)
    finally:
        connection.close()


SPELLINGS: list[Callable[[str], str]] = [
    str.upper,
    lambda name: f"{name} ",
    lambda name: f" \t{name}\r\n ",
    lambda name: f"\N{NO-BREAK SPACE}{name}\N{IDEOGRAPHIC SPACE}",
    lambda name: f"{name}\x1f",
    lambda name: f"{name}\x85",
    lambda name: f"{name[0]}\N{ZERO WIDTH SPACE}{name[1:]}",
    lambda name: f"{name}\N{ZERO WIDTH JOINER}",
    lambda name: "".join(chr(ord(each) + 0xFEE0) for each in name),
]
"""Other ways to write an ASCII name that lead to the same account, or might."""


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_spelling_gets_more_guesses(
    spelling: Callable[[str], str], exists: bool, hashed: list[str]
) -> None:
    """A name counts once, however it is written, and also if there is no such account."""
    name = account().username
    if not exists:
        Account.objects.filter(username=name).delete()
    hashed.clear()
    for _ in range(login_throttle.MAX_FAILURES_PER_PAIR):
        assert sign_in(browser_of(), name, "wrong").status_code == 200
    assert len(hashed) == login_throttle.MAX_FAILURES_PER_PAIR
    for _ in range(3):
        sign_in(browser_of(), spelling(name), PASSWORD)
    reached = [each for each in hashed if each == PASSWORD]
    assert not reached or password_of(spelling(name).strip()) != password_of(name)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_name_that_leads_to_an_account_counts_for_it(spelling: Callable[[str], str]) -> None:
    """Whatever is written, if the right password signs in, the attempt counts for that account."""
    whose = account()
    signed_in = sign_in(browser_of(), spelling(whose.username)).status_code == 302
    for _ in range(login_throttle.MAX_FAILURES_PER_PAIR):
        sign_in(browser_of(), whose.username, "wrong")
    after = sign_in(browser_of(), spelling(whose.username)).status_code
    assert after == 429 if signed_in else after in (200, 429)


def test_every_check_of_a_password_counts() -> None:
    """The login, a check without a request, an asynchronous one: all count for one account."""
    whose = account()
    name, request = whose.username, HttpRequest()
    request.META["REMOTE_ADDR"] = ""
    for _ in range(2):
        assert authenticate(None, username=name, password="wrong") is None
        assert authenticate(request, username=name.upper(), password="wrong") is None
    assert login_throttle.address_of(request) == ""
    assert sign_in(browser_of(), name, "wrong", REMOTE_ADDR="").status_code == 200
    with pytest.raises(Throttled):
        authenticate(None, username=name, password=PASSWORD)

    async def part() -> None:
        await aauthenticate(None, username=name, password=PASSWORD)

    from asyncio import run

    with pytest.raises(Throttled):
        run(part())
    assert sign_in(browser_of(), name, REMOTE_ADDR="").status_code == 429


def test_the_old_password_cannot_be_guessed() -> None:
    """Whoever finds a browser that is signed in has as many guesses as anyone else."""
    whose = account()
    here = browser_of(whose)
    new = "a better horse"

    def change(old: str) -> Any:
        form = {"old_password": old, "new_password1": new, "new_password2": new}
        return here.post("/accounts/password/", form)

    for _ in range(login_throttle.MAX_FAILURES_PER_PAIR):
        assert change("wrong").status_code == 200
    held = change(PASSWORD)
    assert held.status_code == 429
    assert "Too many attempts" in held.content.decode()
    assert PASSWORD not in held.content.decode()
    assert sign_in(browser_of(), whose.username).status_code == 429, "it is the same password"
    Attempt.objects.all().delete()
    assert change("wrong").status_code == 200
    assert change(PASSWORD).status_code == 302
    assert not Attempt.objects.exists()


def test_the_admin_checks_no_password_of_its_own(hashed: list[str]) -> None:
    """The admin's own pages to sign in and to change a password are not reachable."""
    whose = account()
    Account.objects.filter(pk=whose.pk).update(is_staff=True, is_superuser=True)
    here = browser_of(whose)
    form = {
        "username": whose.username,
        "password": PASSWORD,
        "old_password": PASSWORD,
        "new_password1": "a better horse",
        "new_password2": "a better horse",
    }
    hashed.clear()
    for name, target in (
        ("login", reverse("login")),
        ("password_change", reverse("password_change")),
        ("password_change_done", reverse("tokens")),
    ):
        for answer in (
            here.get(reverse(f"admin:{name}")),
            here.post(reverse(f"admin:{name}"), form),
        ):
            assert (answer.status_code, answer["Location"]) == (302, target)
    assert not hashed
    whose.refresh_from_db()
    assert whose.check_password(PASSWORD)


def test_a_login_does_the_same_work_for_a_name_without_an_account(hashed: list[str]) -> None:
    """It takes as many hashes and the same statements, so its time tells nothing."""
    whose = account()
    disabled = account()
    Account.objects.filter(pk=disabled.pk).update(is_active=False)
    work = []
    for name in (whose.username, "nobody at all", disabled.username):
        hashed.clear()
        statements = settled(lambda name=name: sign_in(browser_of(), name, "wrong"))  # type: ignore[misc]
        work.append((statements, len(hashed)))
    assert work[0] == work[1] == work[2]
    assert work[0][1] == 1


# -- mails --


def test_a_request_for_a_mail_does_the_same_work_without_an_account(
    mailbox: list[str], hashed: list[str]
) -> None:
    """The request does not look for an account: that happens after its response."""
    whose = account()
    Account.objects.filter(pk=whose.pk).update(email=f"{whose.username}@example.org")
    answers, work = [], []
    for recipient in ("nobody@example.org", f"{whose.username}@example.org"):
        found = settled(lambda recipient=recipient: answers.append(request_mail(recipient)))  # type: ignore[misc]
        work.append(found)
        assert not [each for each in found if "accounts_account" in each]
    queue_is_done()
    assert work[0] == work[1] != []
    assert answers[0].status_code == 302
    assert mailbox == [f"{whose.username}@example.org"]
    assert Mailbox.threads.isdisjoint({threading.get_ident()})
    assert [(each.status_code, each.headers) for each in answers[:1]] == [
        (each.status_code, each.headers) for each in answers[1:]
    ]


def test_a_mail_is_queued_after_its_response() -> None:
    """Nothing is done before the server has sent the response, and then it is done once."""
    done: list[int] = []
    response = mail_queue.MailingRedirect("/", lambda: done.append(1))
    queue_is_done()
    assert not done
    response.close()
    response.close()
    queue_is_done()
    assert done == [1]


def test_a_recipient_gets_few_mails(mailbox: list[str]) -> None:
    """However the address is written and from wherever the mails are requested."""
    whose = account()
    address = f"{whose.username}@example.org".lower()
    Account.objects.filter(pk=whose.pk).update(email=address)
    wide = "".join(chr(ord(each) + 0xFEE0) for each in whose.username.lower())
    spellings = [address, f" {address}", f"{address}\t ", address.upper(), f"{wide}@example.org"]
    for number, spelling in enumerate(spellings * 3):
        request_mail(spelling, REMOTE_ADDR=f"192.0.2.{number}")
    queue_is_done()
    assert len(mailbox) == login_throttle.MAX_MAILS_PER_RECIPIENT
    assert mails_to(address) == mails_to(f" {address.upper()} ")
    held = request_mail(address, REMOTE_ADDR="192.0.2.99")
    assert (held.status_code, int(held["Retry-After"]) > 0) == (429, True)


@pytest.mark.parametrize("error", [OSError("no\nroute"), DatabaseError("gone")])
def test_a_mail_that_cannot_be_sent_is_logged_in_one_line(
    mailbox: list[str], error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The response is the same, and the log has no traceback."""
    monkeypatch.setattr(Mailbox, "error", error)
    whose = account()
    Account.objects.filter(pk=whose.pk).update(email=f"{whose.username}@example.org")
    with lines_of(forms.logger) as lines:
        assert request_mail(f"{whose.username}@example.org").status_code == 302
        queue_is_done()
    assert lines == [f"no mail to account {whose.pk}: {' '.join(str(error).split())}"]


def test_the_mail_queue_is_bounded() -> None:
    """A mail server that does not answer uses up no memory, and errors end nothing."""
    proceed = threading.Event()
    done: list[int] = []

    def fail() -> None:
        proceed.wait()
        raise DatabaseError("the database\nis away")

    with lines_of(mail_queue.logger) as lines:
        mail_queue.queue_job(fail)
        for number in range(mail_queue.MAX_QUEUED + 10):
            mail_queue.queue_job(lambda number=number: done.append(number))  # type: ignore[misc]
        proceed.set()
        until(lambda: len(done) >= mail_queue.MAX_QUEUED - 1)
        queue_is_done()
    assert done == list(range(mail_queue.MAX_QUEUED - 1))
    assert lines.count("100 mails wait to be sent, another was dropped") == 11
    assert "a mail could not be sent: the database is away" in lines
