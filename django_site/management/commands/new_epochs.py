"""The command new_epochs: for a database that was restored in a way that nobody can see."""

from __future__ import annotations

from django.core.management.base import BaseCommand

from django_site.store import epochs


class Command(BaseCommand):
    """Gives all rooms new epochs, also while the site runs."""

    help = (
        "Give all rooms new epochs, after the database was restored from a copy. Clients that come"
        " back learn that messages may be missing. The site may be running."
    )

    def handle(self, *_: object, **__: object) -> None:
        """Run the command."""
        count = epochs.end_all()
        self.stdout.write(f"{count} {'room has' if count == 1 else 'rooms have'} new epochs")
