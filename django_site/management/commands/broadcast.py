"""The command broadcast: publishes a message from a shell, a timer or a deployment script."""

from __future__ import annotations

from argparse import ArgumentParser

from django.core.management.base import BaseCommand, CommandError

from broadcast_server.library.errors import BroadcastError
from django_site.store.broadcaster import broadcast


class Command(BaseCommand):
    """Publishes one message to everyone in a room."""

    help = (
        "Log a message, and deliver it to everyone in the room. The site may be running or not, and"
        " on other machines. Prints the number of the message and the name it was published under."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Define the command line."""
        parser.add_argument("room", metavar="ROOM", help="it is created if there is none")
        parser.add_argument("text", metavar="TEXT", help="of at most BROADCAST_MAX_MESSAGE_BYTES")
        parser.add_argument("--name", metavar="NAME", required=True, help="the author's name")

    def handle(self, *_: object, room: str, text: str, name: str, **__: object) -> None:
        """Run the command."""
        try:
            message = broadcast(room, text, name)
        except BroadcastError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"message {message.seq} in {room}, as {message.name}")
