"""The ends: why someone may not come into a room, or may not stay.

An end is an error line and a close code. Who decides it is elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from broadcast_server import gate
from broadcast_server.protocol import CloseCode

from . import models


@dataclass(frozen=True, slots=True)
class End:
    """A close code, and the error that comes before it: its *fault* is for programs.

    *after* so many seconds it may be another, if someone came too often.
    """

    code: CloseCode
    fault: str
    text: str
    after: float = 0.0


class Refused(Exception):
    """Someone cannot come in, for the reason that *end* says."""

    def __init__(self, end: End) -> None:
        super().__init__(end.text)
        self.end = end


REPLACED = End(CloseCode.REPLACED, "replaced", "a newer connection of your session took your place")
LOST_SIGHT = End(CloseCode.STOPPING, "lost_sight", "the server lost sight of you")
NAME_OWNED = End(CloseCode.STOPPING, "name_owned", "your name is that of an account")
SIGN_IN_CHANGED = End(CloseCode.STOPPING, "sign_in", "your account has changed")
BAD_ID = End(CloseCode.REFUSED, "bad_id", "id holds too many control characters")
NO_ROOM = End(CloseCode.STOPPING, "no_room", "the room was removed")
NO_LOG = End(CloseCode.STOPPING, "no_log", "the log does not answer")
STOPPING = End(CloseCode.STOPPING, "stopping", "the server is stopping")
LOGIN = End(
    CloseCode.SIGN_IN,
    "login",
    "this site is for its accounts: sign in at /accounts/login/, or make a token at"
    " /accounts/tokens/ and set BROADCAST_TOKEN",
)
TOKEN = End(CloseCode.SIGN_IN, "token", "token is not valid: make another one at /accounts/tokens/")
WRONG_TOKEN, NO_TOKEN = (
    End(refusal.code, refusal.error.code, refusal.error.text)
    for refusal in (gate.WRONG_TOKEN, gate.NO_TOKEN)
)


def not_yours(name: str) -> End:
    """Say that *name* is an account's."""
    text = f"{name} is the name of an account: sign in as it, or take another"
    return End(CloseCode.REMOVED, "name_owned", text)


def closed(room: models.Room) -> End:
    """Say why nobody may be in *room*."""
    return End(CloseCode.REMOVED, "closed", f"{room.name} is closed{_why(room.closed_why)}")


def banned(ban: models.Ban) -> End:
    """Say why, and how long, someone may not come in."""
    text = f"you are banned until {ban.until_words}{_why(ban.reason)}"
    return End(CloseCode.REMOVED, "banned", text)


def name_banned(name: str, ban: models.Ban) -> str:
    """Say why, and how long, nobody may be called *name*."""
    return f"{name} is banned until {ban.until_words}{_why(ban.reason)}"


def _why(reason: str) -> str:
    return f": {' '.join(reason.split())}" if reason else ""  # one line, as every error is
