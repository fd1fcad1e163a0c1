"""Report texts: what is said of messages that are missing or not confirmed. Pure."""

from __future__ import annotations


def left_early_text(unconfirmed: int) -> str:
    """Return the warning that some messages had no echo yet: they may not have been published."""
    if unconfirmed == 1:
        return "left before 1 message was confirmed"
    return f"left before {unconfirmed} messages were confirmed"


def missed_text(missed: int | None) -> str:
    """Return the line that is shown in place of missed messages; None: the number is unknown."""
    match missed:
        case None:
            return "-- messages may be missing --"
        case 1:
            return "-- 1 message missed --"
        case _:
            return f"-- {missed} messages missed --"
