"""Rejections of the Django deployment, besides those that both servers have.

Here are only their codes and texts. `presence`, `transport.authentication` and
`moderation.actions` decide when they apply.
"""

from __future__ import annotations

from math import ceil

from django.db import Error as DatabaseError

from broadcast_server.protocol.messages import CloseCode, Error
from broadcast_server.protocol.rejection import UNREADABLE, Rejection
from django_site import models

from .damage import DamagedRow


class Rejected(Exception):
    """A client may not join or publish, for the reason that *rejection* says."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(rejection.text)
        self.rejection = rejection


PROCESS_LOST = Rejection(
    CloseCode.STOPPING, Error("lost_sight", "the server lost track of your connection")
)
NAME_OWNED = Rejection(CloseCode.STOPPING, Error("name_owned", "your name is that of an account"))
SIGN_IN_CHANGED = Rejection(CloseCode.STOPPING, Error("sign_in", "your account has changed"))
BAD_ID = Rejection(CloseCode.REJECTED, Error("bad_id", "id has too many control characters"))
NO_ROOM = Rejection(CloseCode.STOPPING, Error("no_room", "the room was removed"))
NO_LOG = Rejection(CloseCode.STOPPING, Error("no_log", "the database does not answer"))


def of_error(error: DatabaseError) -> Rejection:
    """Return the rejection for a client that has met *error*."""
    return UNREADABLE if isinstance(error, DamagedRow) else NO_LOG


LOGIN = Rejection(
    CloseCode.SIGN_IN,
    Error(
        "login",
        "this site is for accounts only: sign in at /accounts/login/, or create a token at"
        " /accounts/tokens/ and set BROADCAST_TOKEN",
    ),
)
TOKEN = Rejection(
    CloseCode.SIGN_IN, Error("token", "token is not valid: create a new one at /accounts/tokens/")
)

OPERATOR = Rejection(
    CloseCode.SIGN_IN,
    Error("operator", "this site has no operator key: sign in with the account of a moderator"),
)


def name_owned(name: str) -> Rejection:
    """Return the rejection of a guest that asks for *name*, which is an account's."""
    text = f"{name} is the name of an account: sign in to it, or choose another name"
    return Rejection(CloseCode.REMOVED, Error("name_owned", text))


def closed(room: models.Room) -> Rejection:
    """Return the rejection for *room*, which a moderator has closed."""
    return Rejection(
        CloseCode.REMOVED, Error("closed", f"{room.name} is closed{_why(room.closed_why)}")
    )


def banned(ban: models.Ban) -> Rejection:
    """Return the rejection for *ban*, with its end and its reason."""
    text = f"you are banned until {ban.until_words}{_why(ban.reason)}"
    return Rejection(CloseCode.REMOVED, Error("banned", text))


def name_banned(name: str, ban: models.Ban) -> str:
    """Return the error text for a rename to *name*, to which *ban* applies."""
    return f"{name} is banned until {ban.until_words}{_why(ban.reason)}"


def name_kicked(seconds: float) -> Rejection:
    """Return the rejection of a name that was kicked, for which one has to wait *seconds*."""
    minutes = ceil(seconds / 60)
    wait = "a minute" if minutes == 1 else f"{minutes} minutes"
    text = f"this name was kicked from the room: take another, or wait {wait}"
    return Rejection(CloseCode.REMOVED, Error("kicked", text))


def _why(reason: str) -> str:
    return f": {' '.join(reason.split())}" if reason else ""  # an error is one line
