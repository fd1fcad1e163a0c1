"""The login throttle: limits wrong passwords, by the failures of all processes in ten minutes.

An attempt is recorded before its password is checked, and deleted if the password is right, so
attempts that are made at the same time count too. An attempt over the limit is neither checked nor
counted, so nobody is locked out for longer than ten minutes. All functions block: call them in a
thread.
"""

from __future__ import annotations

import hashlib
import math
from datetime import timedelta

from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone

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


def record_attempt(field: str, name: str, address: str) -> None:
    """Record an attempt. Raises `Throttled` if there were too many failures.

    *field* is the field of the form that holds *name*. Each field is counted separately.
    """
    now = timezone.now()
    key = _key(field, name)
    Attempt.objects.filter(made__lte=now - WINDOW).delete()
    attempt = Attempt.objects.create(key=key, address=address, made=now)
    limits = (
        (Q(key=key, address=address), MAX_FAILURES_PER_PAIR),
        (Q(address=address), MAX_FAILURES_PER_ADDRESS),
        (Q(key=key), MAX_FAILURES_PER_NAME),
    )
    for matching, limit in limits:
        counted = Attempt.objects.filter(matching).order_by("-made", "-pk")
        over = counted[limit : limit + 1].first()
        if over is not None:
            attempt.delete()
            raise Throttled(math.ceil((over.made + WINDOW - now).total_seconds()))


def clear_failures(field: str, name: str, address: str) -> None:
    """Forget the failures of *address* for *name*: the password was right."""
    Attempt.objects.filter(key=_key(field, name), address=address).delete()


def _key(field: str, name: str) -> str:
    # A digest, because users may type a password into the field for the name.
    text = f"{field}:{stored_key(name[:320])}"
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
