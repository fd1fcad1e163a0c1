"""Errors: everything that the library raises, besides what Python has a name for."""

from __future__ import annotations

import re
from collections.abc import Mapping

from broadcast_server.protocol.messages import LIMIT_REMEDY, CloseCode
from broadcast_server.protocol.sanitize import strip_control

OPTIONS = re.compile(r"--(tls-[a-z]+|proxy|log(?:-sync)?|token)(?:-file)?\b(?: (?=[A-Zh]))?")
"""Options of the command line, in texts about them, that are parameters of the library."""

REMEDIES = {
    CloseCode.REJECTED: "correct the parameter of connect",
    CloseCode.SIGN_IN: "pass token=",
    CloseCode.FAULTS: "report it: the client has sent what the server does not understand",
    CloseCode.REMOVED: "ask who runs the server",
    CloseCode.REPLACED: "report it: nobody else has the session of this client",
}
"""What to do after the close codes with which a server ends a client for good."""

REJECTION_REMEDIES = {
    "too_long": "split it, or raise max_message_bytes of the server",
    "too_many_lines": "split it",
    "empty": "send some text",
    "bad_text": "encode it with errors='replace' first",
    "bad_name": "choose another name",
    "too_often": "wait half a minute",
    "name_owned": "choose another name, or sign in with the token of that account",
    "banned": "ask who runs the server",
    "not_operator": "pass operator_key= to connect, or token= of a moderator's account",
    "muted": "ask an operator of the room",
    "announce_only": "ask an operator of the room",
}
"""What to do after an error that answers a request."""


class BroadcastError(Exception):
    """The base class of all errors of the library."""


class ConnectError(BroadcastError):
    """The room could not be joined. The text says why, and what helps."""

    def __init__(self, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.code: int | None = code
        """The close code of the server, as in docs/protocol.md; None if it sent none."""


class DisconnectedError(BroadcastError):
    """The server has ended this client for good, so it does not reconnect."""

    def __init__(self, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.code: int | None = code
        """The close code of the server, as in docs/protocol.md; None if it sent none."""


class RoomClosedError(BroadcastError):
    """The room was closed by this program: the block of `connect` has ended, or `close` was called.

    A message that was being sent may have been published, or not.
    """


class RejectedError(BroadcastError):
    """The server has rejected a message or a new name. The text says why, and what helps."""

    def __init__(self, text: str, code: str = "") -> None:
        super().__init__(text)
        self.code: str = code
        """The code of the error, as in docs/protocol.md: `too_many_lines`, for example."""


class MessageTooLongError(RejectedError):
    """The message is longer than the server allows, in bytes of UTF-8 or in lines."""


class ServeError(BroadcastError):
    """The server cannot be started. The text says why, and what helps."""


def rejected(
    code: str,
    text: str,
    kind: type[RejectedError] | None = None,
    remedies: Mapping[str, str] = REJECTION_REMEDIES,
) -> RejectedError:
    """Return the error for a rejection with *code* and *text*, which are a server's.

    It is of *kind*, or of the kind that the code has in the library, with the code's remedy.
    """
    if kind is None:
        too_long = code in ("too_long", "too_many_lines")
        kind = MessageTooLongError if too_long else RejectedError
    text = strip_control(text.removesuffix(f" ({LIMIT_REMEDY})"))
    return kind(f"{text} ({remedies[code]})" if code in remedies else text, code)


def with_parameters(text: str) -> str:
    """Return *text* with parameters of the library in the place of options."""
    return OPTIONS.sub(lambda option: option[1].replace("-", "_") + "=", text)


def with_remedy(text: str, code: int | None) -> str:
    """Return the reason why a client has ended, with what to do: in terms of `connect`.

    The server may have written it, so nothing is in it that a terminal would obey.
    """
    text = with_parameters(strip_control(text))
    remedy = None if code is None else REMEDIES.get(CloseCode(code)) if code in _CODES else None
    if code == CloseCode.SIGN_IN and "operator key" in text:
        remedy = "pass operator_key="
    return f"{text} ({remedy})" if remedy else text


_CODES = frozenset(map(int, CloseCode))
