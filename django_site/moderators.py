"""The moderators: a group with what they need in the admin, and with nothing else.

It is made after migrations, and not by one: Django makes permissions after the last of
them, so that in a new database a migration would find none to give.
"""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.contrib.auth.models import Group, Permission
from django.db.models.signals import post_migrate

GROUP = "moderators"
MAY = (
    "view_message",
    "change_message",
    "view_room",
    "change_room",
    "view_ban",
    "add_ban",
    "change_ban",
    "view_record",
)


def watch(app: AppConfig) -> None:
    """Make the group whenever the tables of *app* were made."""
    post_migrate.connect(_make, sender=app)


def _make(using: str, **_: Any) -> None:
    group, new = Group.objects.using(using).get_or_create(name=GROUP)
    if new:  # else it is as someone wants it
        of_ours = Permission.objects.using(using).filter(content_type__app_label="django_site")
        group.permissions.set(of_ours.filter(codename__in=MAY))
