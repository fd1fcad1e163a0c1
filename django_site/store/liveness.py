"""Liveness: which processes serve clients, each with its sign of life in the database.

A process that gave no sign of life for `PROCESS_TIMEOUT_S` counts as dead, and any other process
removes it with its members. All functions block: call them in a thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from django_site import models

from . import kept_names
from .kept_names import keep_names
from .presence import lock_rooms

PROCESS_TIMEOUT_S: float = settings.BROADCAST_DEAD
"""Seconds without a sign of life after which a process counts as dead."""

LIVENESS_INTERVAL_S = PROCESS_TIMEOUT_S / 4
"""Seconds between two signs of life of a process."""


def record_liveness(process: str) -> None:
    """Record a sign of life of *process*, and remove the processes that are dead.

    All times are the database's, since the clocks of machines differ.
    """
    own = models.Process.objects.filter(pk=process)
    if not own.filter(seen__gte=Now() - timedelta(seconds=PROCESS_TIMEOUT_S / 2)).update(
        seen=Now()
    ):
        # This process, or the database, was away itself: it cannot tell who else is dead.
        models.Process.objects.update_or_create(pk=process, defaults={"seen": Now()})
        return
    with transaction.atomic():
        silent = models.Process.objects.filter(
            seen__lt=Now() - timedelta(seconds=PROCESS_TIMEOUT_S)
        )
        # Another process may be removing some of them right now.
        dead = [each.pk for each in silent.select_for_update(skip_locked=True)]
        if dead:
            _remove_processes(dead)
    kept_names.trim()


def remove_process(process: str) -> None:
    """Remove *process*, which stops, and everyone who is connected to it. Names are kept."""
    with transaction.atomic():
        # Nobody joins in the meantime: that would change a roster without changing its version.
        list(models.Process.objects.filter(pk=process).select_for_update())
        _remove_processes([process], keeping_names=True)


def _remove_processes(processes: Sequence[str], *, keeping_names: bool = False) -> None:
    rooms = models.Room.objects.filter(members__process__in=processes).distinct()
    locked = lock_rooms(list(rooms.values_list("pk", flat=True)))
    if keeping_names:  # those of a dead process have been kept for as long as it took to notice
        keep_names(locked, models.Member.objects.filter(process__in=processes))
    models.Room.objects.filter(pk__in=locked).update(roster=F("roster") + 1)
    models.Process.objects.filter(pk__in=processes).delete()
