"""The Django application."""

from django.apps import AppConfig


class SiteConfig(AppConfig):
    """What Django is told of it."""

    name = "django_site"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Begin to watch the accounts."""
        from .identity import watch  # it needs the models

        watch()
