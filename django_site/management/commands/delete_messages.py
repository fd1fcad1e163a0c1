"""The command delete_messages: deletes what is older than the rooms keep it."""

from __future__ import annotations

import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Sequence

from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from django_site.models import Room
from django_site.store import retention

REST_RATIO = 2.0
"""How long it rests after each transaction, as a share of what that took: the site goes on."""


def days(text: str) -> int:
    """Parse a number of days. Raises ArgumentTypeError."""
    if not (text.isascii() and text.isdecimal() and int(text) <= retention.MAX_KEEP_DAYS):
        raise ArgumentTypeError(f"{text} is not between 0 and {retention.MAX_KEEP_DAYS}")
    return int(text)


class Command(BaseCommand):
    """Deletes old messages, also while the site runs."""

    help = (
        "Delete the messages that are older than BROADCAST_KEEP_DAYS, or than the number of days of"
        " their room. The others keep their numbers, and a client that comes back is told how many"
        " it has missed. A running site does the same every ten minutes."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Define the command line."""
        parser.add_argument("room", metavar="ROOM", nargs="*", help="in these rooms only")
        parser.add_argument(
            "--days",
            metavar="N",
            type=days,
            help="what is older than this, whatever the rooms and the site have; 0 is everything",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="count the messages, and delete none"
        )

    def handle(
        self,
        *_: object,
        room: Sequence[str],
        days: int | None,
        dry_run: bool,
        **__: object,
    ) -> None:
        """Run the command."""
        rooms = [self._find(name) for name in room] if room else None
        total = 0
        for expiry in retention.expiries(rooms, days):
            count = retention.count(expiry) if dry_run else self._delete(expiry)
            total += count
            self.stdout.write(f"{expiry.name}: {count}")
        verb = "would be deleted" if dry_run else "deleted"
        self.stdout.write(f"{total} {'message' if total == 1 else 'messages'} {verb}")
        if total and not dry_run:
            self._free_space()

    def _find(self, name: str) -> Room:
        found = Room.objects.filter(name=name).first()
        if found is None:
            raise CommandError(f"there is no room called {name}")
        return found

    def _delete(self, expiry: retention.Expiry) -> int:
        total = 0
        while True:
            begin = time.monotonic()
            count = retention.delete_some(expiry)
            if not count:
                break
            total += count
            time.sleep((time.monotonic() - begin) * REST_RATIO)
        retention.redact_records(expiry)
        return total

    def _free_space(self) -> None:
        """Have the database forget what was deleted, as far as it can while the site runs."""
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("VACUUM django_site_message, django_site_record")
            elif connection.vendor == "sqlite":
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
