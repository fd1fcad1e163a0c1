"""Broadcasting from the site's own code: a view, a task or a command publishes a message.

It is published as a POST over HTTP is, by the same transaction, without a request or a rate limit.
Any process that uses the site's settings can do so; it need not serve clients.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from functools import partial

from channels.db import database_sync_to_async
from django.conf import settings
from django.db import DataError, IntegrityError, ProgrammingError, connection, transaction
from django.db import Error as DatabaseError
from django.db.transaction import TransactionManagementError
from django.utils.asyncio import async_unsafe

from broadcast_server.library.argument import check_text
from broadcast_server.library.errors import (
    REJECTION_REMEDIES,
    BroadcastError,
    MessageTooLongError,
    RejectedError,
    rejected,
)
from broadcast_server.library.events import Message
from broadcast_server.protocol.bounds import MAX_SEQ
from broadcast_server.protocol.join import join_from_parameters
from broadcast_server.protocol.messages import Error, Format, validate_message
from broadcast_server.protocol.messages import Message as LoggedMessage
from broadcast_server.protocol.publish import PublishRequest
from django_site import models

from . import message_log, notifier, publish
from .message_log import NO_ID_PREFIX
from .publish import PendingPost
from .rejections import Rejected
from .wait_limits import LOCK_S, limited_waits

TIMEOUT_S = 15.0
"""Seconds in which the database has to log a message, unless the caller says otherwise."""

SQLITE_DAMAGE = "malformed", "not a database"
"""What SQLite says of a file that is damaged."""

RETRY_INTERVAL_S = 0.5
"""Seconds between two attempts at a database that does not answer."""


REMEDIES = {
    "too_long": "split it, or raise BROADCAST_MAX_MESSAGE_BYTES",
    "too_many_lines": "split it",
    "empty": "send some text",
    "bad_text": "encode it with errors='replace' first",
    "bad_name": "choose another name",
    "bad_room": "choose another room",
    "name_owned": "an account publishes over HTTP, with its token",
    "banned": "choose another name, or lift the ban in the admin",
    "closed": "open it again in the admin",
    "locked": "unlock it in the admin",
    "kicked": "choose another name, or wait",
    "muted": "choose another name, or unmute it in the admin",
    "announce_only": "end announce mode in the admin",
    "slow_mode": "wait, or end slow mode in the admin",
}
"""What the code that broadcasts, or who runs the site, can do about a rejection."""


class InvalidNameError(RejectedError, ValueError):
    """No member can have this name."""


class InvalidRoomError(RejectedError, ValueError):
    """No room can have this name."""


class NotAllowedError(RejectedError):
    """The room is closed, or nobody may publish there under this name now."""


class LogUnavailableError(BroadcastError):
    """The database did not log the message in time."""


class LogDamagedError(BroadcastError):
    """The database answers, but its tables cannot be used."""


ERRORS = {
    "too_long": MessageTooLongError,
    "too_many_lines": MessageTooLongError,
    "bad_name": InvalidNameError,
    "bad_room": InvalidRoomError,
    "name_owned": NotAllowedError,
    "banned": NotAllowedError,
    "closed": NotAllowedError,
    "locked": NotAllowedError,
    "kicked": NotAllowedError,
    "muted": NotAllowedError,
    "announce_only": NotAllowedError,
    "slow_mode": NotAllowedError,
}
"""The exceptions for the codes of rejections. It is `RejectedError` for the others."""


@async_unsafe("broadcast() blocks the event loop it is called in: use `await abroadcast(...)`")
def broadcast(room: str, text: str, name: str, *, timeout: float = TIMEOUT_S) -> Message:
    """Log a message, deliver it to everyone in the room, and return it with its number.

    In a transaction, the message is delivered when the transaction is committed, and not at all if
    it is rolled back. Until then the room is locked, and PostgreSQL ends the transaction if it
    does nothing for 5 seconds.

    Args:
        room: The name of the room, which is created if there is none.
        text: The text, of at most `BROADCAST_MAX_MESSAGE_BYTES` bytes of UTF-8.
        name: The author's name. If a member has it, the message gets the next free number after
            it, such as ``ci-2``.
        timeout: Seconds to wait for the database.

    Raises:
        MessageTooLongError: The text has too many bytes or lines.
        InvalidNameError: The name cannot be that of a member.
        InvalidRoomError: The name of the room is not valid.
        NotAllowedError: The room is closed, or the name is banned or an account's.
        RejectedError: The text is empty or has half a surrogate pair. It is the base of these four.
        LogUnavailableError: The database did not answer within *timeout*. The message may have been
            logged even so, if the answer to the commit was lost.
        LogDamagedError: The log cannot be used.
        SynchronousOnlyOperation: There is a running event loop: use `abroadcast`.

    """
    post = _post(room, text, name)
    deadline = time.monotonic() + timeout
    if connection.in_atomic_block:  # a statement that failed cannot be repeated alone
        return _log(post, timeout)
    while True:
        try:
            return _log(post, deadline - time.monotonic())
        except _Retriable as error:
            if time.monotonic() + RETRY_INTERVAL_S > deadline:
                raise error.final() from error.__cause__
        time.sleep(RETRY_INTERVAL_S)


async def abroadcast(room: str, text: str, name: str, *, timeout: float = TIMEOUT_S) -> Message:
    """Do what `broadcast` does, in an event loop.

    If it is cancelled, the message may be logged even so.
    """
    post = _post(room, text, name)
    deadline = time.monotonic() + timeout
    while True:
        # The rooms of a server may use the same thread: they have their turn in between.
        wait = min(deadline - time.monotonic(), LOCK_S)
        try:
            return await database_sync_to_async(_log)(post, wait)
        except _Retriable as error:
            if time.monotonic() + RETRY_INTERVAL_S > deadline:
                raise error.final() from error.__cause__
        await asyncio.sleep(RETRY_INTERVAL_S)


class _Retriable(LogUnavailableError):
    """The database did not answer this time."""

    def final(self) -> LogUnavailableError:
        """Return the error for the caller."""
        return LogUnavailableError(str(self))


def _post(room: str, text: str, name: str) -> PendingPost:
    """Return the message that is to be logged, under the same rules as a POST."""
    for argument, value in (("room", room), ("text", text), ("name", name)):
        check_text(argument, value)
    limit: int = settings.BROADCAST_MAX_MESSAGE_BYTES
    join = join_from_parameters({"name": name, "room": room}, Format.TEXT)
    if isinstance(join, Error):
        raise _rejected(join)
    message = validate_message(text, None, limit)
    if isinstance(message, Error):
        raise _rejected(message)
    return PendingPost(
        name=join.name,
        text=message.text,
        source=f"{NO_ID_PREFIX}#{secrets.token_hex(8)}",
        client_id="1",
        post=PublishRequest(join=join, text=message.text, id=None, require=0),
        owner=None,
        find_account=lambda: None,
    )


def _log(post: PendingPost, wait: float) -> Message:
    """Log *post* once, however often it is tried, waiting for *wait* seconds at most."""
    room = post.post.join.room
    within = connection.in_atomic_block
    try:
        if connection.errors_occurred and not within:
            connection.close_if_unusable_or_obsolete()
        with limited_waits(connection, max(wait, 0.001)):
            row = message_log.open_room(room)
            if type(row.head) is not int or not 0 <= row.head < MAX_SEQ:
                raise ValueError(f"its last number is {row.head!r}")
            appended, (outcome,) = publish.append(row.pk, [post], unsure=True, epoch=row.epoch)
            if isinstance(outcome, Rejected):
                raise outcome
            notify = partial(notifier.notify_blocking, row.pk, appended.state)
            transaction.on_commit(notify, robust=True)
            logged = appended.messages[0] if appended.messages else _read(row.pk, post)
            return Message(
                room=room,
                seq=logged.seq,
                name=logged.name,
                text=logged.text,
                at=logged.at,
                own=True,
                epoch=row.epoch,
            )
    except Rejected as answer:
        raise _rejected(answer.rejection.error) from None
    except models.Room.DoesNotExist as error:  # it was there a moment ago
        gone = f"room {room} was deleted or has a new epoch (try again)"
        raise (LogUnavailableError(gone) if within else _Retriable(gone)) from error
    except TransactionManagementError:  # the caller goes on in a transaction that has failed
        raise
    except DatabaseError as error:
        raise _named(room, error, within=within) from error
    except (
        TypeError,
        ValueError,
        ArithmeticError,
    ) as error:  # a column has a value of another type, in SQLite
        raise _damaged(room, error) from error


def _rejected(error: Error) -> RejectedError:
    # The library's remedies are those for a client.
    remedies = {**REJECTION_REMEDIES, **REMEDIES}
    return rejected(error.code, error.text, ERRORS.get(error.code, RejectedError), remedies)


def _read(room: int, post: PendingPost) -> LoggedMessage:
    """Return *post* as an earlier attempt has logged it, whose answer was lost."""
    (seq,) = message_log.find_logged(room, [post], unsure=True).values()
    (entry,) = message_log.read(room, seq - 1, 1)
    if isinstance(entry, LoggedMessage):
        return entry
    return LoggedMessage(seq, post.name, post.text, "", None)  # it is hidden already


def _named(room: str, error: DatabaseError, *, within: bool) -> BroadcastError:
    reason = " ".join(str(error).split())
    if _is_damage(error):
        return _damaged(room, error)
    if isinstance(error, ProgrammingError) or "no such" in reason:  # a table or a column
        text = f"the database does not have the tables of this version: {reason}"
        remedy = "run manage.py migrate, or set DATABASE_URL or BROADCAST_DATA as the site has it"
        return LogUnavailableError(f"{text} ({remedy})")
    text = f"the database did not log the message: {reason} (is it running, and not locked?)"
    return LogUnavailableError(text) if within else _Retriable(text)


def _is_damage(error: DatabaseError) -> bool:
    """Tell whether the database answered, but has what it cannot use."""
    if isinstance(error, IntegrityError | DataError):
        return True
    # In PostgreSQL, "XX" is the class of internal errors, such as damaged files.
    code = str(getattr(error.__cause__, "sqlstate", None))
    return code.startswith("XX") or any(each in str(error) for each in SQLITE_DAMAGE)


def _damaged(room: str, error: Exception) -> LogDamagedError:
    reason = " ".join(str(error).split())
    return LogDamagedError(
        f"the log of room {room} is damaged: {reason} (restore the database from a backup, then run"
        " python manage.py new_epochs)"
    )
