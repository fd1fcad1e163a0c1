"""The session store: Django's sessions in the database, by keys that can be those of sessions.

A cookie can hold any character, also NUL, which PostgreSQL rejects with an error.
"""

from __future__ import annotations

import re
from typing import Any

from django.contrib.sessions.backends import db

KEY = re.compile("[a-z0-9]{8,40}")
"""The key of a session: Django's have 32 of these characters, and the column holds 40."""


class SessionStore(db.SessionStore):
    """Django's store. A key that cannot be one is ignored, like that of a session that has ended.

    The name of the class is part of what Django signs, and has to stay.
    """

    def _validate_session_key(self, key: Any) -> bool:
        """Tell whether *key* can be the key of a session, wherever it came from."""
        return isinstance(key, str) and KEY.fullmatch(key) is not None
