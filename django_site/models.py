"""The tables: the log of each room, who is in it, who may not, and what moderators did.

What a row means is here, what is done with it in `log`, `presence` and `moderation`.
"""

from __future__ import annotations

import secrets
from datetime import timezone

from django.conf import settings
from django.db import models
from django.utils.timezone import now

from .keys import KEY


def new_epoch() -> str:
    """Return a random name for a log."""
    return secrets.token_urlsafe(9)


class Room(models.Model):
    """A room: its log's epoch and last number, and how often its roster has changed.

    *edits* counts the messages that moderators hid in it. *closed* is since when nobody
    may be in it, *closed_why* what they are told.
    """

    name = models.CharField(max_length=64, unique=True)
    epoch = models.CharField(max_length=64, default=new_epoch)
    head = models.BigIntegerField(default=0)
    roster = models.BigIntegerField(default=0)
    edits = models.BigIntegerField(default=0)
    closed = models.DateTimeField(null=True, blank=True)
    closed_why = models.CharField(max_length=200, blank=True)

    def __str__(self) -> str:
        return self.name


class Message(models.Model):
    """A line of the log. *source* is where *client_id* counts: a session, or a connection.

    *account* is whose name it was, None if a guest's. *edit* is which of the room's edits
    hid it, None while it can be seen.
    """

    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="messages")
    seq = models.BigIntegerField()
    name = models.CharField(max_length=32)
    text = models.TextField()
    at = models.DateTimeField()
    source = models.CharField(max_length=80)
    client_id = models.CharField(max_length=80)
    account = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, db_index=False
    )
    edit = models.BigIntegerField(null=True)

    class Meta:
        """A number and an id are there once."""

        indexes = (
            models.Index(fields=["at"], name="messages_by_time"),
            models.Index(
                fields=["room", "edit"],
                condition=models.Q(edit__isnull=False),
                name="messages_hidden",
            ),
        )

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
    """Someone in a room. *key* is what is unique in a name, *token* the connection's.

    *account* is whose name it is, None of a guest. Who only listens has no name and is on no
    roster. One that has an *end_code* is in the
    room no more: its process has yet to close it, with that code and error.
    """

    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="members")
    process = models.ForeignKey(Process, on_delete=models.CASCADE, related_name="members")
    key = models.CharField(max_length=KEY)
    name = models.CharField(max_length=32)
    session = models.CharField(max_length=64, null=True)  # none is no session
    token = models.CharField(max_length=32)
    account = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True)
    end_code = models.SmallIntegerField(null=True)
    end_fault = models.CharField(max_length=32, default="")
    end_text = models.CharField(max_length=300, default="")

    class Meta:
        """A name and a session are there once."""

        ordering = ("id",)
        constraints = (
            models.UniqueConstraint(fields=["room", "key"], name="one_member_a_name"),
            models.UniqueConstraint(fields=["room", "session"], name="one_member_a_session"),
        )

    def __str__(self) -> str:
        return self.name


class Ban(models.Model):
    """Someone may not come in *until* then: a *name*, or an *account*; in one *room*, or in all.

    *key* is what is unique in the name, empty of an account. It is *lifted* before its time
    by a moderator.
    """

    room = models.ForeignKey(
        Room, on_delete=models.CASCADE, null=True, blank=True, help_text="Empty is all rooms."
    )
    name = models.CharField(max_length=32, blank=True)
    key = models.CharField(max_length=KEY, blank=True, editable=False, db_index=True)
    account = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="bans",
    )
    until = models.DateTimeField()
    reason = models.CharField(max_length=200, blank=True, help_text="They are told.")
    made = models.DateTimeField(default=now, editable=False)
    lifted = models.DateTimeField(null=True, editable=False)

    class Meta:
        """The newest first."""

        ordering = ("-pk",)
        constraints = (
            models.CheckConstraint(
                condition=models.Q(name="", account__isnull=False)
                | (~models.Q(name="") & models.Q(account__isnull=True)),
                name="a_ban_is_of_a_name_or_an_account",
            ),
        )

    @property
    def until_words(self) -> str:
        """Until when it is, for those in every zone."""
        return f"{self.until.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"

    def __str__(self) -> str:
        where = "all rooms" if self.room is None else self.room.name
        whom = self.name if self.account is None else f"account {self.account}"
        return f"{whom} in {where} until {self.until_words}"


class Record(models.Model):
    """What a moderator did. It is in words, so that it outlives what it is about."""

    at = models.DateTimeField(default=now)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True)
    by_name = models.CharField(max_length=32)
    action = models.CharField(max_length=16)
    subject = models.TextField()
    reason = models.CharField(max_length=200, blank=True)

    class Meta:
        """The newest first."""

        ordering = ("-pk",)

    def __str__(self) -> str:
        return f"{self.by_name}: {self.action} {self.subject}"
