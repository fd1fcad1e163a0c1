"""TLS support: a Python without OpenSSL has no module `ssl`, and needs none for ws://.

websockets imports it all the same, and so do our clients, for the names of its errors.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

NO_TLS = "this Python has no TLS (its module ssl cannot be imported)"
"""The reason why there is no TLS, for the user."""

ERRORS = ("SSLEOFError", "SSLWantReadError", "SSLSyscallError", "SSLZeroReturnError")


def can_use_tls() -> bool:
    """Tell whether this Python has TLS."""
    try:
        import ssl  # noqa: F401
    except ImportError:
        return False
    return not hasattr(sys.modules["ssl"], "IS_STAND_IN")


def has_tls() -> bool:
    """Tell whether this Python has TLS. If not, let others import an empty `ssl` from now on."""
    if can_use_tls():
        return True
    if sys.modules.get("ssl") is None:
        _provide_stand_in()
    return False


@contextmanager
def stand_in_for_ssl() -> Iterator[None]:
    """Let what is imported in the block import an empty `ssl`, if this Python has no TLS.

    It is for the library: the program around it finds no `ssl` afterwards, which is the truth.
    """
    had_entry, entry = "ssl" in sys.modules, sys.modules.get("ssl")
    if has_tls():
        yield
        return
    try:
        yield
    finally:
        del sys.modules["ssl"]
        if had_entry:
            sys.modules["ssl"] = entry  # type: ignore[assignment]  # None: it cannot be imported


def _provide_stand_in() -> None:
    # These ask for `ssl` as well, and do without it, so they are not to find the stand-in.
    import asyncio  # noqa: F401
    import http.client  # noqa: F401
    import urllib.request  # noqa: F401
    from types import ModuleType

    module = ModuleType("ssl", NO_TLS)
    base = type("SSLError", (OSError,), {"reason": NO_TLS})
    errors = {name: type(name, (base,), {}) for name in ERRORS}
    errors["SSLCertVerificationError"] = type("SSLCertVerificationError", (base, ValueError), {})
    vars(module).update(
        errors, SSLError=base, SSLContext=type("SSLContext", (), {}), IS_STAND_IN=True
    )
    sys.modules["ssl"] = module
