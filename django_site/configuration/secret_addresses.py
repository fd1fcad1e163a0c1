"""Secret addresses: parts of an address that no log gets.

The link to choose a new password has its token in the path. A tool that cannot set a header sends
its session in the query. Servers write addresses into their logs.
"""

from __future__ import annotations

import logging
import re
from typing import Any

HIDDEN = "..."
"""What a log has in place of a secret."""


def _written(text: str) -> str:
    """Return a pattern for *text* as an address may have it: any character can be encoded.

    It can be so more than once, if the address is in the query of another one.
    """
    return "".join(f"(?:{re.escape(char)}|%(?:25)*(?:{_codes(char)}))" for char in text)


def _codes(char: str) -> str:
    # Each is there once: with one twice, a failed match takes exponential time.
    return "|".join(sorted({f"{ord(each):02x}" for each in (char, char.upper())}))


_SLASH = _written("/")
_END = r"""[\s"'<>]"""
_SPACE = rf"(?:\+|{_written(' ')})*"

# What repeats is followed by what it cannot contain, so that no text takes quadratic time.
_SECRETS = re.compile(
    # The token of a mail. Django replaces it in the address by set-password.
    rf"(?P<path>{_SLASH}{_written('accounts')}(?:{_SLASH})+{_written('reset')}(?:{_SLASH})+"
    rf"(?:(?!{_SLASH})[^\s?])+(?:{_SLASH})+)(?!set-password(?:{_SLASH}|[?&]|{_END}|$))"
    rf"(?:(?!{_SLASH}|[?&]|{_END}).)+"
    # One in the query. Names that only some parsers take for these are hidden, too.
    rf"|(?P<query>(?:[?&;]|{_written('?')}|{_written('&')}|{_written(';')}){_SPACE}"
    rf"(?:{_written('session')}|{_written('token')}){_SPACE}{_written('=')})"
    rf"(?:(?!&|{_END}).)+",
    re.IGNORECASE,
)


def hide_secrets(text: str) -> str:
    """Return *text*, which may have addresses in it, without the secrets in them."""
    return _SECRETS.sub(lambda found: (found["path"] or found["query"]) + HIDDEN, text)


def hide_in_logs() -> None:
    """Hide secrets in all records that are made from now on, whichever logger they are for.

    The servers have loggers of their own: uvicorn for each request, Daphne for errors.
    """
    make = logging.getLogRecordFactory()
    if getattr(make, "hides_secrets", False):
        return

    def make_record(*args: Any, **options: Any) -> logging.LogRecord:
        record = make(*args, **options)
        # uvicorn's formatter reads the arguments, so each stays where it is.
        if isinstance(record.args, tuple):
            record.args = tuple(
                hide_secrets(each) if isinstance(each, str) else each for each in record.args
            )
        _hide_rest(record)
        return record

    make_record.hides_secrets = True  # type: ignore[attr-defined]  # a function can have it
    logging.setLogRecordFactory(make_record)


def _hide_rest(record: logging.LogRecord) -> None:
    """Hide what is in the text, or in the repr of an argument such as Daphne's request."""
    try:
        text = record.getMessage()
    except Exception:  # logging reports it when the record is handled
        return
    hidden = hide_secrets(text)
    if hidden != text:
        record.msg, record.args = hidden, ()
