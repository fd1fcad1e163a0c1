"""The login throttle: limits wrong passwords, by the failures of all processes in ten minutes.

An attempt is recorded before its password is checked, and deleted if the password is right, so
attempts that are made at the same time count too. An attempt over the limit is neither checked nor
counted, so nobody is locked out for longer than ten minutes. Mails for new passwords are limited in
the same way. All functions block: call them in a thread.
"""

from __future__ import annotations

import math
import unicodedata
from datetime import timedelta
from typing import NamedTuple

from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone
from django.utils.crypto import salted_hmac

from broadcast_server.admission.trusted_proxies import client_key
from django_site.client_address import client_address

from .models import Attempt
from .name_key import stored_key

WINDOW = timedelta(minutes=10)
"""How long a failure counts."""

MAX_FAILURES_PER_PAIR = 5
"""How many failures one address may have for one name."""

MAX_FAILURES_PER_ADDRESS = 30
"""How many failures one address may have for any names: users behind one router mistype, too."""

MAX_FAILURES_PER_NAME = 100
"""How many failures one name may have from anywhere: more, since anyone can cause them."""

MAX_MAILS_PER_RECIPIENT = 5
"""How many mails one recipient may be sent, whoever asks for them: each has a link that works."""


class Subject(NamedTuple):
    """What attempts are counted for: the *kind* of secret and its *key*.

    The key is that by which the account is looked up, so that no other spelling of it counts
    separately.
    """

    kind: str
    key: str
    limit: int

    @property
    def digest(self) -> str:
        """What is stored: users may type a password into the field for the name."""
        text = f"{self.kind}:{self.key}".encode("utf-8", "replace").decode()
        return salted_hmac(__name__, text, algorithm="sha256").hexdigest()


def password_of(name: str) -> Subject:
    """Return the password of the account *name*, which need not exist."""
    return Subject("password", stored_key(name), MAX_FAILURES_PER_NAME)


def mails_to(recipient: str) -> Subject:
    """Return the mails to an address, which may be that of no account."""
    # As Django compares addresses, in `PasswordResetForm.get_users`.
    key = unicodedata.normalize("NFKC", recipient.strip()).casefold()
    return Subject("mail", key, MAX_MAILS_PER_RECIPIENT)


class Throttled(Exception):
    """There were too many failures. The next attempt is allowed in *seconds*."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many attempts, try again in {seconds} s")
        self.seconds = seconds


def address_of(request: HttpRequest) -> str:
    """Return the address by which a request is counted: of IPv6, the /64 network."""
    forwarded = request.headers.get("X-Forwarded-For")
    peer = request.META.get("REMOTE_ADDR") or None  # a Unix socket has none
    address = client_address(peer, [] if forwarded is None else [forwarded])
    return client_key(address) or address or ""  # this machine is not exempt here


def record_attempt(subject: Subject, address: str) -> None:
    """Record an attempt. Raises `Throttled` if there were too many failures."""
    now = timezone.now()
    key = subject.digest
    Attempt.objects.filter(made__lte=now - WINDOW).delete()
    attempt = Attempt.objects.create(key=key, address=address, made=now)
    limits = (
        (Q(key=key, address=address), MAX_FAILURES_PER_PAIR),
        (Q(address=address), MAX_FAILURES_PER_ADDRESS),
        (Q(key=key), subject.limit),
    )
    for matching, limit in limits:
        counted = Attempt.objects.filter(matching).order_by("-made", "-pk")
        over = counted[limit : limit + 1].first()
        if over is not None:
            attempt.delete()
            raise Throttled(math.ceil((over.made + WINDOW - now).total_seconds()))


def clear_failures(subject: Subject, address: str) -> None:
    """Forget the failures of *address* for *subject*: the password was right."""
    Attempt.objects.filter(key=subject.digest, address=address).delete()
