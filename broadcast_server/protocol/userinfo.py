"""User information: the name and password before the ``@`` of an address (RFC 3986, 3.2.1)."""

from __future__ import annotations

import re

_AT = re.compile("[@﹫＠]")  # the last two become the first one when a name is normalised


def without_userinfo(value: str) -> str:
    """Return what somebody wrote for an address as an error may show it, without a password.

    What is before the last ``@`` may be of a password, whatever else is wrong with the address.
    """
    parts = _AT.split(value)
    return value if len(parts) == 1 else f"...@{parts[-1]}"


def has_userinfo(value: str) -> bool:
    """Tell whether *value*, or an address in it, may have a name or a password."""
    return _AT.search(value) is not None
