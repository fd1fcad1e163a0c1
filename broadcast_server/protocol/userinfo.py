"""User information: the name and password before the ``@`` of an address (RFC 3986, 3.2.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable

_AT = re.compile("[@﹫＠]")  # the last two become the first one when a name is normalised


def without_userinfo(value: str) -> str:
    """Return what somebody wrote for an address as an error may show it, without a password.

    What is before the last ``@`` may be of a password, whatever else is wrong with the address.
    """
    parts = _AT.split(value)
    return value if len(parts) == 1 else f"...@{parts[-1]}"


def without_typed_userinfo(text: str, typed: Iterable[str]) -> str:
    """Return *text*, an error that may quote words of *typed*, without the passwords in them."""
    for word in sorted(filter(has_userinfo, typed), key=len, reverse=True):
        for part in (word, word.partition("=")[2]):  # the value of an option
            if has_userinfo(part):
                shown = without_userinfo(part)
                text = text.replace(part, shown).replace(repr(part)[1:-1], shown)
    return text


def has_userinfo(value: str) -> bool:
    """Tell whether *value*, or an address in it, may have a name or a password."""
    return _AT.search(value) is not None
