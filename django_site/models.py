"""The tables of the rooms: the log, the roster, bans, and what moderators did.

The rows are read and written by `store.message_log`, `store.presence` and `moderation.actions`.
"""

from __future__ import annotations

from datetime import timezone

from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from django.utils.timezone import now

from broadcast_server.protocol.operators import MAX_TOPIC_CHARS
from broadcast_server.rooms.message_log import new_epoch as new_epoch  # noqa: PLC0414  # for migrations
from django_site.accounts.name_key import MAX_KEY_CHARS

MAX_ID_CHARS = 80
"""How many characters of a message's id, with its NUL characters escaped, fit into a column."""

ORIGIN_CHARS = 16
"""How many characters an origin has, see `store.origins`."""


class Room(models.Model):
    """A room: the epoch of its log, and counters that show replicas what is new.

    *head* is the number of the last message, *first* that of the first one that was not deleted,
    *roster* the version of the roster, and *edits* the count of the times that moderators have
    hidden messages. Messages are deleted after *keep_days*: 0 is never, and None as the site has it
    (BROADCAST_KEEP_DAYS). *topic*, *locked* and *announce* are what operators have set, *slow* for
    how many seconds a member waits between two messages, *acts* counts what operators did, and
    *restricted* is until when somebody is kicked or muted, None if nobody was. *closed* is the time
    since which the room is closed, None if it is open, and *closed_why* the reason that clients are
    told.
    """

    name = models.CharField(max_length=64, unique=True)
    epoch = models.CharField(max_length=64, default=new_epoch)
    head = models.BigIntegerField(default=0)
    first = models.BigIntegerField(default=1, db_default=1)
    roster = models.BigIntegerField(default=0)
    edits = models.BigIntegerField(default=0)
    keep_days = models.PositiveIntegerField(null=True, blank=True)
    topic = models.CharField(max_length=MAX_TOPIC_CHARS, blank=True, db_default="", default="")
    locked = models.BooleanField(db_default=False, default=False)
    announce = models.BooleanField(db_default=False, default=False)
    slow = models.PositiveIntegerField(db_default=0, default=0)
    acts = models.BigIntegerField(db_default=0, default=0)
    restricted = models.DateTimeField(null=True, blank=True)
    closed = models.DateTimeField(null=True, blank=True)
    closed_why = models.CharField(max_length=200, blank=True)

    def __str__(self) -> str:
        return self.name


class Message(models.Model):
    """A message in the log of a room.

    *client_id* is unique within *source*: the digest of a session, or a connection. *account* is
    the account of the author, None for a guest, and *origin* stands for the author's address, None
    if it is unknown. *edit* is the number of the room's edit that hid
    the message, None if it is not hidden.
    """

    # The constraints below have indexes that begin with it.
    room = models.ForeignKey(
        Room, on_delete=models.CASCADE, related_name="messages", db_index=False
    )
    seq = models.BigIntegerField()
    name = models.CharField(max_length=32)
    text = models.TextField()
    at = models.DateTimeField()
    source = models.CharField(max_length=MAX_ID_CHARS)
    client_id = models.CharField(max_length=MAX_ID_CHARS)
    account = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, db_index=False
    )
    origin = models.CharField(max_length=ORIGIN_CHARS, null=True)
    edit = models.BigIntegerField(null=True)

    class Meta:
        """A number is unique in its room, and so is an id with its source."""

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


class Act(models.Model):
    """What an operator did in a room: number *number*, after message number *after*.

    The other columns are those of an `OperatorEvent`. The newest are kept, for replicas to read.
    """

    room = models.ForeignKey(Room, on_delete=models.CASCADE)
    number = models.BigIntegerField()
    after = models.BigIntegerField()
    act = models.CharField(max_length=16)
    by = models.CharField(max_length=32)
    name = models.CharField(max_length=32, blank=True)
    on = models.BooleanField()
    text = models.CharField(max_length=MAX_TOPIC_CHARS, blank=True)
    client_id = models.CharField(max_length=MAX_ID_CHARS, null=True)

    class Meta:
        """A number is unique in its room."""

        constraints = (models.UniqueConstraint(fields=["room", "number"], name="one_act_a_number"),)

    def __str__(self) -> str:
        return f"{self.room_id}.{self.number} {self.act} by {self.by}"


class Restriction(models.Model):
    """Somebody was kicked from a room or is muted there (*kind*), *until* a time.

    There is a row for each *key* by which the client is known, see `store.restrictions`. Those of
    one act have the same *act_id*.
    """

    room = models.ForeignKey(Room, on_delete=models.CASCADE)
    kind = models.CharField(max_length=8)
    key = models.CharField(max_length=MAX_KEY_CHARS)
    act_id = models.CharField(max_length=32)
    until = models.DateTimeField()

    class Meta:
        """A key is restricted once."""

        constraints = (
            models.UniqueConstraint(fields=["room", "kind", "key"], name="one_restriction_a_key"),
        )

    def __str__(self) -> str:
        return f"{self.kind} {self.key}"


class Pace(models.Model):
    """When an author, known by *key*, has published in a room that is in slow mode.

    *address* is a digest of the client's address in the row that stands for a guest, else empty.
    """

    room = models.ForeignKey(Room, on_delete=models.CASCADE)
    key = models.CharField(max_length=MAX_KEY_CHARS)
    at = models.DateTimeField()
    address = models.CharField(max_length=32, db_default="", default="")

    class Meta:
        """A key has one row in a room."""

        constraints = (models.UniqueConstraint(fields=["room", "key"], name="one_pace_a_key"),)

    def __str__(self) -> str:
        return f"{self.key} at {self.at}"


class Origin(models.Model):
    """The only row says which database this is, so that a copy of it is recognised.

    *identity* is what `store.epochs` compares.
    """

    identity = models.CharField(max_length=200, default="")

    def __str__(self) -> str:
        return self.identity


class Process(models.Model):
    """A process that serves clients, and when it gave its last sign of life.

    A process that was not *seen* for a while counts as dead, and is deleted with its members.
    """

    id = models.CharField(primary_key=True, max_length=32)
    seen = models.DateTimeField()

    def __str__(self) -> str:
        return self.id


class Member(models.Model):
    """A member or a subscriber of a room.

    *key* is the unique key of the name, *session* the digest of the session, *token* identifies the
    connection, *address* is a digest of the client's address by which kept names are counted,
    *origin* the one by which bans are found, and *account* is None for a guest. A subscriber has no
    name. A *muted* member cannot publish. When a member *joined* does not change when a newer
    connection of its session takes over. The join of a *quiet* member is not told to people. A row
    with an *end_code* is not in the room any more: its process has yet to close the connection,
    with that code and the error *end_fault*.
    """

    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="members")
    process = models.ForeignKey(Process, on_delete=models.CASCADE, related_name="members")
    key = models.CharField(max_length=MAX_KEY_CHARS)
    name = models.CharField(max_length=32)
    session = models.CharField(max_length=64, null=True)  # None without a session
    token = models.CharField(max_length=32)
    address = models.CharField(max_length=32, db_default="", default="")
    origin = models.CharField(max_length=ORIGIN_CHARS, db_default="", default="")
    account = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True)
    quiet = models.BooleanField(db_default=False, default=False)
    muted = models.BooleanField(db_default=False, default=False)
    joined = models.DateTimeField(db_default=Now())
    end_code = models.SmallIntegerField(null=True)
    end_fault = models.CharField(max_length=32, default="")
    end_text = models.CharField(max_length=300, default="")

    class Meta:
        """A name and a session are unique in their room."""

        ordering = ("id",)
        constraints = (
            models.UniqueConstraint(fields=["room", "key"], name="one_member_a_name"),
            models.UniqueConstraint(fields=["room", "session"], name="one_member_a_session"),
        )

    def __str__(self) -> str:
        return self.name


class KeptName(models.Model):
    """The name of a guest whose connection broke, kept for its session *until* a time.

    *key* is the unique key of the name, *session* the digest of the session, and *address* a digest
    of the address from which it was used.
    """

    room = models.ForeignKey(Room, on_delete=models.CASCADE)
    address = models.CharField(max_length=32, db_default="", default="")
    key = models.CharField(max_length=MAX_KEY_CHARS)
    name = models.CharField(max_length=32)
    session = models.CharField(max_length=64)
    until = models.DateTimeField()

    class Meta:
        """A name and a session are unique in their room."""

        constraints = (
            models.UniqueConstraint(fields=["room", "key"], name="one_session_a_kept_name"),
            models.UniqueConstraint(fields=["room", "session"], name="one_kept_name_a_session"),
        )

    def __str__(self) -> str:
        return self.name


def _exactly_one(account: str, *texts: str) -> models.Q:
    """Return the condition that *account* has a value, or one of *texts* is not empty."""
    found = models.Q(**{f"{account}__isnull": False}, **dict.fromkeys(texts, ""))
    for text in texts:
        others = dict.fromkeys((each for each in texts if each != text), "")
        found |= ~models.Q(**{text: ""}) & models.Q(**others, **{f"{account}__isnull": True})
    return found


class Ban(models.Model):
    """A ban in one *room* or (None) in all, *until* a time.

    It is of one of these: an *account*, or of guests by a *name*, a *session* (its digest), an
    *origin* or a *network*. *key* is that of the name, or stands for the others (`store.bans`).
    *label* is the name that the client with the session or the origin had. *lifted* is when a
    moderator has ended the ban early.
    """

    room = models.ForeignKey(
        Room, on_delete=models.CASCADE, null=True, blank=True, help_text="Empty is all rooms."
    )
    name = models.CharField(max_length=32, blank=True)
    key = models.CharField(max_length=MAX_KEY_CHARS, blank=True, editable=False, db_index=True)
    account = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="bans",
    )
    session = models.CharField(max_length=64, blank=True, editable=False, db_default="", default="")
    origin = models.CharField(
        max_length=ORIGIN_CHARS, blank=True, editable=False, db_default="", default=""
    )
    network = models.CharField(max_length=64, blank=True, db_default="", default="")
    label = models.CharField(max_length=32, blank=True, editable=False, db_default="", default="")
    until = models.DateTimeField()
    reason = models.CharField(max_length=200, blank=True, help_text="They are told.")
    made = models.DateTimeField(default=now, editable=False)
    lifted = models.DateTimeField(null=True, editable=False)

    class Meta:
        """The newest ban first."""

        ordering = ("-pk",)
        constraints = (
            models.CheckConstraint(
                condition=_exactly_one("account", "name", "session", "origin", "network"),
                name="a_ban_is_of_one_thing",
            ),
        )

    @property
    def until_words(self) -> str:
        """The end of the ban in UTC, for people in any time zone."""
        return f"{self.until.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"

    def __str__(self) -> str:
        where = "all rooms" if self.room is None else self.room.name
        return f"{self.target} in {where} until {self.until_words}"

    @property
    def target(self) -> str:
        """Whom the ban is of, in words."""
        if self.account is not None:
            return f"account {self.account}"
        if self.session:
            return f"the session of {self.label}"
        if self.origin:
            return f"the address of {self.label}"
        return self.name or f"the network {self.network}"


class Report(models.Model):
    """A member, known by *reporter* and called *by*, has reported a *message*, for a *reason*.

    *handled* is when a moderator has dealt with it, None if nobody has.
    """

    message = models.ForeignKey(Message, on_delete=models.CASCADE)
    reporter = models.CharField(max_length=MAX_KEY_CHARS)
    by = models.CharField(max_length=32)
    reason = models.CharField(max_length=200, blank=True)
    at = models.DateTimeField(default=now)
    handled = models.DateTimeField(null=True)

    class Meta:
        """The newest report first; a member reports a message once."""

        ordering = ("-pk",)
        constraints = (
            models.UniqueConstraint(fields=["message", "reporter"], name="one_report_a_member"),
        )

    def __str__(self) -> str:
        return f"{self.by} on {self.message}"


class Record(models.Model):
    """An action of a moderator, in words: the record remains when its subject is deleted."""

    at = models.DateTimeField(default=now)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True)
    by_name = models.CharField(max_length=32)
    action = models.CharField(max_length=16)
    subject = models.TextField()
    reason = models.CharField(max_length=200, blank=True)

    class Meta:
        """The newest record first."""

        ordering = ("-pk",)

    def __str__(self) -> str:
        return f"{self.by_name}: {self.action} {self.subject}"
