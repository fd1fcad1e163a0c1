"""The group of moderators, with the permissions that they need in the admin, and no others.

It is created after migrations and not by one, because Django creates permissions after the last
migration: in a new database a migration would find none.
"""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.contrib.auth.models import Group, Permission
from django.db.models.signals import post_migrate

GROUP = "moderators"
PERMISSIONS = (
    "view_message",
    "change_message",
    "view_room",
    "change_room",
    "view_ban",
    "add_ban",
    "change_ban",
    "view_record",
)


def create_after_migrate(app: AppConfig) -> None:
    """Create the group after the migrations of *app*, if there is none."""
    post_migrate.connect(_create, sender=app)


def _create(using: str, **_: Any) -> None:
    group, new = Group.objects.using(using).get_or_create(name=GROUP)
    if new:  # an administrator may have changed the permissions of an existing group
        permissions = Permission.objects.using(using).filter(content_type__app_label="django_site")
        group.permissions.set(permissions.filter(codename__in=PERMISSIONS))
