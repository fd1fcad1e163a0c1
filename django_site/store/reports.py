"""Reports: members tell the moderators of a message. All functions block."""

from __future__ import annotations

import logging
from datetime import timedelta

from django.utils.timezone import now

from broadcast_server.protocol.messages import Error
from broadcast_server.protocol.operators import OperatorEvent, OperatorRequest, event_of
from broadcast_server.rooms.hiding import nothing_found
from django_site import models

from .message_log import escape_nul
from .senders import last_message

logger = logging.getLogger("django_site.moderation")

MAX_REASON_CHARS = 200

MAX_REPORTS = 20
"""How many messages a member can report in an hour."""


def report(
    room: models.Room, member: models.Member, request: OperatorRequest
) -> OperatorEvent | Error:
    """Report the message that *member* asks for, or the last one of an author.

    Returns the answer.
    """
    reason = " ".join(request.text.split())
    if len(reason) > MAX_REASON_CHARS:
        return too_long(reason, request.id)
    if request.seq:
        message = models.Message.objects.filter(room=room, seq=request.seq, edit=None).first()
    else:
        message = last_message(room, request.name)
    if message is None:
        return nothing_found(request)
    reporter = _reporter(member)
    recent = models.Report.objects.filter(reporter=reporter, at__gt=now() - timedelta(hours=1))
    if recent.exclude(message=message).count() >= MAX_REPORTS:
        text = f"you have reported {MAX_REPORTS} messages in an hour, try again later"
        return Error("too_often", text, request.id)
    models.Report.objects.update_or_create(
        message=message,
        reporter=reporter,
        defaults={"by": member.name, "reason": escape_nul(reason), "handled": None},
    )
    logger.info("%s reported message %s of room %s", member.name, message.seq, room.name)
    done = request._replace(name=message.name, text=reason, seq=message.seq)
    return event_of(done, member.name)


def too_long(reason: str, id: str | None) -> Error:
    """Return the answer to a request with a *reason* that is too long."""
    text = f"reason is {len(reason)} characters, limit is {MAX_REASON_CHARS}"
    return Error("too_long", text, id)


def _reporter(member: models.Member) -> str:
    if member.account_id is not None:
        return f":account:{member.account_id}"
    return f":session:{member.session}" if member.session else f":address:{member.origin}"
