"""The command export_messages: prints the messages of a room, for a file or another program."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from datetime import datetime

from django.core.management.base import BaseCommand, CommandError
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.timezone import is_naive, make_aware

from django_site.models import Room
from django_site.store import export


def moment(text: str) -> datetime:
    """Parse a time, or a day, in the site's time zone if it has none. Raises ArgumentTypeError."""
    try:
        day = parse_date(text)
        found = parse_datetime(text) if day is None else datetime(day.year, day.month, day.day)
    except ValueError:
        found = None
    if found is None:
        raise ArgumentTypeError(f"{text} is not a time such as 2026-12-01 or 2026-12-01T13:00")
    return make_aware(found) if is_naive(found) else found


class Command(BaseCommand):
    """Prints the messages of a room."""

    help = (
        "Print the messages of a room, without those that moderators have hidden. The site may be"
        " running."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Define the command line."""
        parser.add_argument("room", metavar="ROOM")
        parser.add_argument(
            "--format",
            choices=export.FORMATS,
            default=export.TEXT,
            help="lines of text with the time, or the events of the protocol (default: text)",
        )
        parser.add_argument("--since", metavar="TIME", type=moment, help="not older than this")
        parser.add_argument("--before", metavar="TIME", type=moment, help="older than this")

    def handle(
        self,
        *_: object,
        room: str,
        format: str,
        since: datetime | None,
        before: datetime | None,
        **__: object,
    ) -> None:
        """Run the command."""
        found = Room.objects.filter(name=room).first()
        if found is None:
            raise CommandError(f"there is no room called {room}")
        for page in export.export(found, format, since, before):
            self.stdout.write(page, ending="")
