"""The system checks: what `manage.py check` says about settings that work, but hardly as intended.

Values that cannot work end every command, so there is nothing to check about them here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Tags, register
from django.core.checks import Warning as Finding


def describe_ineffective() -> list[str]:
    """Return a line for each variable without effect: its name is no setting, or another is set."""
    unread = [
        f"{name} has no effect, as {other} is set (unset one)"
        for name, other in settings.WITHOUT_EFFECT.items()
    ]
    return unread + [
        f"{name} is no setting and has no effect (did you mean {setting}?)"
        for name, setting in settings.MISSPELLED.items()
    ]


def register_checks() -> None:
    """Have Django call the checks below."""
    register(_check_names)
    register(_check_key, Tags.security, deploy=True)


def _check_names(app_configs: Sequence[Any] | None, **_: Any) -> list[CheckMessage]:
    return [Finding(text, id="django_site.W001") for text in describe_ineffective()]


def _check_key(app_configs: Sequence[Any] | None, **_: Any) -> list[CheckMessage]:
    if settings.EMBEDDED or not settings.OWN_KEY:
        return []
    text = "SECRET_KEY is not set, and all processes of a site need the same one"
    return [Finding(text, id="django_site.W002")]
