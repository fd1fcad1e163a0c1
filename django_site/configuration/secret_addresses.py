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

_SECRETS = re.compile(
    r"""(?P<place>/accounts/reset/+[^/\s?]+/+(?!set-password\b)   # the token of a mail
        | [?&](?:session|token)=)                                 # one in the query
        [^/&\s"'<>?]+""",
    re.VERBOSE | re.IGNORECASE,
)


def hide_secrets(text: str) -> str:
    """Return *text*, which may have addresses in it, without the secrets in them."""
    return _SECRETS.sub(rf"\g<place>{HIDDEN}", text)


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
