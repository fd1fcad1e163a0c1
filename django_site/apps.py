"""The Django application."""

from django.apps import AppConfig


class SiteConfig(AppConfig):
    """What Django is told of it."""

    name = "django_site"
    verbose_name = "Rooms"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Begin to watch the accounts, and see that there are moderators."""
        from . import identity, moderators  # they need the models

        identity.watch()
        moderators.watch(self)
