"""The environment of the processes that we start, which is ours without our secrets.

A child may print its environment into a log that many can read, as the jobs of a build farm do.
"""

from __future__ import annotations

import os

TOKEN_VARIABLE = "BROADCAST_TOKEN"  # noqa: S105  # the name of a variable, not a token
"""The variable that can hold the token. A child that needs the token as well reads it from a file,
named by BROADCAST_TOKEN_FILE, which is inherited."""


OPERATOR_VARIABLE = "BROADCAST_OPERATOR"
"""The variable that can hold the operator key, as that for the token."""


def child_environment() -> dict[str, str]:
    """Return a copy of the environment, without the token and the operator key."""
    secret = (TOKEN_VARIABLE, OPERATOR_VARIABLE)
    return {name: value for name, value in os.environ.items() if name not in secret}
