"""Records: what moderators and operators did, in the database and in the log of the server."""

from __future__ import annotations

import logging

from django_site import models
from django_site.accounts.models import Account

from . import message_log

logger = logging.getLogger("django_site.moderation")

WITH_TEXT = "hide", "unhide"
"""The actions whose records have the text of a message, behind the first colon."""


def record(by: Account, action: str, subject: str, reason: str = "") -> None:
    """Record that *by* did *action* to *subject*. It blocks."""
    # The text of a message belongs in no log.
    about = subject.partition(": ")[0] if action in WITH_TEXT else subject
    logger.info("moderator %s: %s %s (%s)", by.username, action, about, reason or "no reason")
    models.Record.objects.create(
        by=by,
        by_name=by.username,
        action=action,
        subject=message_log.escape_nul(subject),
        reason=reason,
    )
