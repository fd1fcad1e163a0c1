"""Faults: requests that show that the program of a client is broken."""

from __future__ import annotations

from broadcast_server.protocol.messages import CloseCode, Error
from broadcast_server.protocol.rejection import Rejection

from .participant import Participant

MAX_CONSECUTIVE_FAULTS = 10
"""A connection is closed after this many faulty requests in a row: its program is broken."""

USER_ERROR_CODES = frozenset({"too_long", "too_many_lines", "empty", "bad_name"})
"""Error codes that do not count as faults, because a person can cause them with a sound program."""

TOO_MANY_FAULTS = Rejection(
    CloseCode.FAULTS, Error("faults", f"{MAX_CONSECUTIVE_FAULTS} faults in a row")
)


def is_too_faulty(member: Participant, error: Error) -> bool:
    """Count a request of *member* that was answered with *error*. Return whether to close it."""
    member.faults += error.code not in USER_ERROR_CODES
    return member.faults >= MAX_CONSECUTIVE_FAULTS
