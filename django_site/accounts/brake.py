"""The brake: holds up who guesses passwords, by what was tried of late in all processes.

An attempt is on record before its password is looked at, and off it again when that was
right, so that many at once are counted too. Who is held up is not looked at and not
counted: nobody is locked out for longer than a few minutes. Every function here blocks,
and is called in a thread.
"""

from __future__ import annotations

import hashlib
import math
from datetime import timedelta

from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone

from broadcast_server.proxies import one
from django_site.address import client_of
from django_site.keys import stored_key

from .models import Attempt

WINDOW = timedelta(minutes=10)
"""So long does a failure count."""

PAIR = 5
"""So many failures of one address at one name are no guessing yet."""

ADDRESS = 30
"""So many of one address at any names: a class behind one router mistypes, too."""

NAME = 100
"""So many at one name, from anywhere: more, since whoever wants to can use them up."""


class Held(Exception):
    """An attempt came too soon: it may be made again in *seconds*."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"held up for {seconds} s")
        self.seconds = seconds


def address_of(request: HttpRequest) -> str:
    """Return where a request is from, as far as one household or machine has addresses."""
    named = request.headers.get("X-Forwarded-For")
    peer = request.META.get("REMOTE_ADDR") or None  # a Unix socket has none
    address = client_of(peer, [] if named is None else [named])
    return one(address) or address or ""  # this machine counts here


def attempt(at: str, name: str, address: str) -> None:
    """Put an attempt *at* something on record. Raises `Held` if there were too many."""
    now = timezone.now()
    key = _key(at, name)
    Attempt.objects.filter(made__lte=now - WINDOW).delete()
    this = Attempt.objects.create(key=key, address=address, made=now)
    limits = (
        (Q(key=key, address=address), PAIR),
        (Q(address=address), ADDRESS),
        (Q(key=key), NAME),
    )
    for of, most in limits:
        over = Attempt.objects.filter(of).order_by("-made", "-pk")[most : most + 1].first()
        if over is not None:
            this.delete()
            raise Held(math.ceil((over.made + WINDOW - now).total_seconds()))


def passed(at: str, name: str, address: str) -> None:
    """Forget what failed before: it was right now."""
    Attempt.objects.filter(key=_key(at, name), address=address).delete()


def _key(at: str, name: str) -> str:
    # A digest, since people put into fields for names what belongs into others.
    return hashlib.sha256(f"{at}:{stored_key(name[:320])}".encode("utf-8", "replace")).hexdigest()
