"""Publishing: messages are checked and logged in one transaction.

Whether the author of a message is still the member that it was when it sent the message, and for
a post over HTTP whether its client may publish, under which name, and whether the room has enough
receivers, is decided under the room's lock: a process may have stood still in the meantime. All
functions block: call them in a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from django.db import connection, transaction

from broadcast_server.protocol.publish import NotEnoughReceivers, Published, PublishRequest
from django_site import models
from django_site.accounts.models import Account

from . import message_log, presence, rejections
from .message_log import Appended, Logged, PendingMessage
from .rejections import Rejected
from .silence import Author, Silence, Silenced, as_rejection, read_authors


@dataclass(frozen=True, slots=True)
class PendingPost(PendingMessage):
    """A message of a client at *address* that does not join, and its account if it has one.

    The final name of its author is known only when it is logged. *find_account* blocks and returns
    the account to which the client's token or cookie belongs now, or raises `Rejected`.
    """

    post: PublishRequest = field(kw_only=True)
    owner: Account | None = field(kw_only=True)
    address: str | None = field(default=None, kw_only=True)
    find_account: Callable[[], Account | None] = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class AuthorGone:
    """A message was not logged, because its author is not on the roster any more."""


Outcome = Logged | AuthorGone | Silenced | Published | NotEnoughReceivers | Rejected
"""What became of a pending message: `Logged`, `AuthorGone` or `Silenced` for one of a member, any
of the others for a post."""


def append(
    room: int,
    pending: Sequence[PendingMessage],
    *,
    unsure: bool,
    epoch: str | None = None,
    head: int = 0,
    roster: int = -1,
    names: Mapping[str, str] | None = None,
    is_open: bool = True,
) -> tuple[Appended, list[Outcome]]:
    """Log *pending* in one transaction, each message once, and return the outcome of each.

    *unsure* is whether messages without an id of their client may be in the log already, as in
    `message_log.find_logged`. *names* are the names of members by the ids of their connections, as
    the caller has read them from version *roster* of the roster, and *is_open* whether all of them
    could publish then. That is looked up again only if the roster has another version now.

    Raises `models.Room.DoesNotExist` if the room is gone, or not the same log any more: with
    *epoch*, if it has another one, or fewer than *head* messages.
    """
    if (
        epoch is not None
        and names is not None
        and is_open
        and not unsure
        and connection.vendor == "postgresql"
        and not connection.in_atomic_block
    ):
        at_once = _append_at_once(room, pending, epoch, head, roster, names)
        if at_once is not None:
            return at_once
    with transaction.atomic():
        row = message_log.rooms_of(epoch, head).select_for_update().get(pk=room)
        message_log.check_row(row)
        known = message_log.find_logged(room, pending, unsure=unsure)
        new = [each for each in pending if message_log.key_of(each) not in known]
        authors: Mapping[str, Author] = {}
        silence: Silence | None = None
        if names is None or row.roster != roster or not is_open:
            authors = read_authors(room, (each.connection_id for each in new if each.connection_id))
            names = {each.connection_id: each.name for each in authors.values()}
            is_open = not (row.announce or row.slow or any(a.muted for a in authors.values()))
        if not is_open:
            posting = {
                each.account
                for each in new
                if isinstance(each, PendingPost) and each.account is not None
            }
            silence = Silence(row, authors.values(), posting)
        is_post = any(isinstance(each, PendingPost) for each in pending)
        receivers = presence.count(row) if is_post else 0
        checked = [
            each
            if message_log.key_of(each) in known
            else _check(row, each, receivers, names, silence)
            for each in pending
        ]
        appended = message_log.append(
            row, [each for each in checked if isinstance(each, PendingMessage)], known
        )
        if silence is not None:
            silence.write()
        logged = iter(appended.logged)
        outcomes: list[Outcome] = [
            _outcome(room, each, next(logged), receivers)
            if isinstance(each, PendingMessage)
            else each
            for each in checked
        ]
    return appended, outcomes


def _append_at_once(
    room: int,
    pending: Sequence[PendingMessage],
    epoch: str,
    head: int,
    roster: int,
    names: Mapping[str, str],
) -> tuple[Appended, list[Outcome]] | None:
    """Do what `append` does in one statement. Returns None, and does nothing, if that cannot be."""
    if any(type(each) is not PendingMessage for each in pending):
        return None  # what a post depends on is looked up with the room locked
    checked = [_as_named(each, names) for each in pending]
    kept = [each for each in checked if isinstance(each, PendingMessage)]
    if not kept:
        return None
    appended = message_log.append_at_once(room, kept, epoch=epoch, head=head, roster=roster)
    if appended is None:
        return None
    if len(kept) == len(checked):
        return appended, [*appended.logged]
    logged = iter(appended.logged)
    return appended, [
        next(logged) if isinstance(each, PendingMessage) else each for each in checked
    ]


def _as_named(message: PendingMessage, names: Mapping[str, str]) -> PendingMessage | AuthorGone:
    """Return *message* of a member under the name that it has now, see `append`."""
    if message.connection_id is None:
        return message
    name = names.get(message.connection_id)
    if name is None:
        return AuthorGone()
    return message if name == message.name else replace(message, name=name)


def _check(
    room: models.Room,
    message: PendingMessage,
    receivers: int,
    names: Mapping[str, str],
    silence: Silence | None,
) -> PendingMessage | AuthorGone | Silenced | NotEnoughReceivers | Rejected:
    """Return *message* under the name that it is published under, or why it is not published."""
    if not isinstance(message, PendingPost):
        named = _as_named(message, names)
        if silence is None or named.__class__ is AuthorGone or message.connection_id is None:
            return named
        error = silence.of_member(message.connection_id)
        return named if error is None else Silenced(error)
    if receivers < message.post.require:
        return NotEnoughReceivers(receivers)
    try:
        if message.owner is not None and message.find_account() != message.owner:
            return Rejected(rejections.SIGN_IN_CHANGED)
        name = presence.author_name(room, message.post.join, message.owner, message.address)
    except Rejected as rejected:
        return rejected
    if silence is not None:
        session = message.post.join.session
        error = silence.of_post(name, message.account, session, message.address)
        if error is not None:
            return Rejected(as_rejection(error))
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
