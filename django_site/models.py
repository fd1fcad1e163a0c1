"""The tables: the log of each room, and who is in it, across all processes.

What a row means is here, what is done with it in `log` and `presence`.
"""

from __future__ import annotations

import secrets

from django.db import models


def new_epoch() -> str:
    """Return a random name for a log."""
    return secrets.token_urlsafe(9)


class Room(models.Model):
    """A room: its log's epoch and last number, and how often its roster has changed."""

    name = models.CharField(max_length=64, unique=True)
    epoch = models.CharField(max_length=64, default=new_epoch)
    head = models.BigIntegerField(default=0)
    roster = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return self.name


class Message(models.Model):
    """A line of the log. *source* is where *client_id* counts: a session, or a connection."""

    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="messages")
    seq = models.BigIntegerField()
    name = models.CharField(max_length=32)
    text = models.TextField()
    at = models.DateTimeField()
    source = models.CharField(max_length=80)
    client_id = models.CharField(max_length=80)

    class Meta:
        """A number and an id are there once."""

        constraints = (
            models.UniqueConstraint(fields=["room", "seq"], name="one_message_a_seq"),
            models.UniqueConstraint(
                fields=["room", "source", "client_id"], name="one_message_an_id"
            ),
        )

    def __str__(self) -> str:
        return f"{self.room_id}.{self.seq} {self.name}"


class Process(models.Model):
    """A process that serves; what it has not *seen* for a while is gone, and so are its members."""

    id = models.CharField(primary_key=True, max_length=32)
    seen = models.DateTimeField()

    def __str__(self) -> str:
        return self.id


class Member(models.Model):
    """Someone in a room. *key* is what is unique in a name, *token* the connection's."""

    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="members")
    process = models.ForeignKey(Process, on_delete=models.CASCADE, related_name="members")
    key = models.CharField(max_length=200)
    name = models.CharField(max_length=32)
    session = models.CharField(max_length=64, null=True)  # none is no session
    token = models.CharField(max_length=32)

    class Meta:
        """A name and a session are there once."""

        ordering = ("id",)
        constraints = (
            models.UniqueConstraint(fields=["room", "key"], name="one_member_a_name"),
            models.UniqueConstraint(fields=["room", "session"], name="one_member_a_session"),
        )

    def __str__(self) -> str:
        return self.name
