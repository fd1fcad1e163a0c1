"""Publishing over HTTP: posts are checked and logged in one transaction with other messages.

Whether a client may publish, under which name, and whether the room has enough receivers is
decided under the room's lock. All functions block: call them in a thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from django.db import transaction

from broadcast_server.protocol.publish import NotEnoughReceivers, Published, PublishRequest
from django_site import models
from django_site.accounts.models import Account

from . import message_log, presence
from .message_log import Appended, Logged, PendingMessage
from .rejections import Rejected


@dataclass(frozen=True, slots=True)
class PendingPost(PendingMessage):
    """A message of a client that does not join, and its account if it has one.

    The final name of its author is known only when it is logged.
    """

    post: PublishRequest = field(kw_only=True)
    owner: Account | None = field(kw_only=True)


Outcome = Logged | Published | NotEnoughReceivers | Rejected
"""What became of a pending message: `Logged` for one of a member, any of the others for a post."""


def append(
    room: int, pending: Sequence[PendingMessage], *, unsure: bool
) -> tuple[Appended, list[Outcome]]:
    """Log *pending*, of which some are posts, as `message_log.append` does.

    Returns the outcome of each besides.
    """
    with transaction.atomic():
        row = models.Room.objects.select_for_update().get(pk=room)
        receivers = presence.count(row)
        posts = [each for each in pending if isinstance(each, PendingPost)]
        known = message_log.find_logged(room, posts, unsure=unsure)
        checked: list[PendingMessage | NotEnoughReceivers | Rejected] = [
            each if message_log.key_of(each) in known else _check(row, each, receivers)
            for each in pending
        ]
        appended = message_log.append(
            room, [each for each in checked if isinstance(each, PendingMessage)], unsure=unsure
        )
        logged = iter(appended.logged)
        outcomes: list[Outcome] = [
            _outcome(room, each, next(logged), receivers)
            if isinstance(each, PendingMessage)
            else each
            for each in checked
        ]
    return appended, outcomes


def _check(
    room: models.Room, message: PendingMessage, receivers: int
) -> PendingMessage | NotEnoughReceivers | Rejected:
    """Return *message* under the name that it is published under, or why it is not published."""
    if not isinstance(message, PendingPost):
        return message
    if receivers < message.post.require:
        return NotEnoughReceivers(receivers)
    try:
        name = presence.author_name(room, message.post.join, message.owner)
    except Rejected as rejected:
        return rejected
    return replace(message, name=name)


def _outcome(room: int, message: PendingMessage, logged: Logged, receivers: int) -> Outcome:
    if not isinstance(message, PendingPost):
        return logged
    if not logged.repeated:
        return Published(logged.seq, message.name, receivers)
    # Without an id of the client it is no repetition: the answer to our own commit was lost.
    repeated = not message.source.startswith(message_log.NO_ID_PREFIX)
    name = message_log.name_at(room, logged.seq)
    return Published(logged.seq, name, receivers, repeated)
