"""The site key: the session key of all processes of the site, which its SECRET_KEY determines."""

from __future__ import annotations

from django.utils.crypto import salted_hmac

from broadcast_server.protocol.session_key import SessionKey


def site_key() -> SessionKey:
    """Return the key of the sessions in the database.

    After a change of SECRET_KEY it is another one, and the digests that are stored are nobody's.
    """
    return SessionKey(salted_hmac("broadcast session", "key", algorithm="sha256").digest())
