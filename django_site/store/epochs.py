"""Epochs: they end when the database was set back, so that no number is given twice in one.

A database that was restored from a copy gives numbers again that were sent before. Clients that
have these would be told that they missed nothing. All functions block: call them in a thread.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

from django.db import connection, transaction
from django.db.models import F

from django_site import models

logger = logging.getLogger(__name__)


def end_all() -> int:
    """Give all rooms new epochs, and return how many there are.

    Processes notice it by the version of the roster, and close their connections.
    """
    with transaction.atomic():
        rooms = [*models.Room.objects.select_for_update().order_by("pk")]
        for room in rooms:
            models.Room.objects.filter(pk=room.pk).update(
                epoch=models.new_epoch(), roster=F("roster") + 1
            )
    return len(rooms)


def end_if_set_back(room: int, epoch: str, head: int) -> None:
    """Give *room* a new epoch if it has fewer than *head* messages in *epoch*."""
    models.Room.objects.filter(pk=room, epoch=epoch, head__lt=head).update(
        epoch=models.new_epoch(), roster=F("roster") + 1
    )


def end_if_restored() -> None:
    """Give all rooms new epochs if the database is a copy, and not the one that was used last."""
    with transaction.atomic():
        known = models.Origin.objects.select_for_update().first()
        if known is not None and known.identity == _identity(known):
            return
        count = 0 if known is None else end_all()
        models.Origin.objects.all().delete()
        _save_identity(models.Origin.objects.create())
    if count:
        logger.warning("the database is a copy or was moved: all rooms have new epochs")


def _identity(origin: models.Origin) -> str:
    """Return what the database has now that no copy of it has, "" if nothing is known.

    In PostgreSQL that is the transaction which has written *origin*: a restored dump was written by
    another one, or in another cluster. A standby that was promoted, and a recovery to some time,
    begin a new timeline. For SQLite it is the file.
    """
    if connection.vendor == "sqlite":
        with suppress(OSError):
            return f"file {Path(connection.settings_dict['NAME']).stat().st_ino}"
    if connection.vendor != "postgresql":
        return ""
    with connection.cursor() as cursor:
        cursor.execute("SELECT xmin::text FROM django_site_origin WHERE id = %s", [origin.pk])
        return f"{_cluster()} transaction {cursor.fetchone()[0]}"


def _save_identity(origin: models.Origin) -> None:
    identity = _identity(origin)
    if connection.vendor == "postgresql":  # the transaction of this very change
        with connection.cursor() as cursor:
            cursor.execute("SELECT txid_current() % 4294967296")
            identity = f"{_cluster()} transaction {cursor.fetchone()[0]}"
    models.Origin.objects.filter(pk=origin.pk).update(identity=identity)


def _cluster() -> str:
    """Return the id of the cluster, if the site may read it, and its timeline."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT has_function_privilege('pg_control_system()', 'EXECUTE')")
        system = ""
        if cursor.fetchone()[0]:
            cursor.execute("SELECT system_identifier FROM pg_control_system()")
            system = f"cluster {cursor.fetchone()[0]} "
        cursor.execute("SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)")
        return f"{system}timeline {cursor.fetchone()[0]}"
