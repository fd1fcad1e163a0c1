"""The Django application."""

from django.apps import AppConfig


class SiteConfig(AppConfig):
    """What Django is told of it."""

    name = "django_site"
    default_auto_field = "django.db.models.BigAutoField"
