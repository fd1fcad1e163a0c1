"""The Django application of the rooms."""

from django.apps import AppConfig


class SiteConfig(AppConfig):
    """The configuration of the application."""

    name = "django_site"
    verbose_name = "Rooms"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Watch the accounts, and create the group of moderators after migrations."""
        # Both need the models, which are loaded by now.
        from django_site.moderation import group
        from django_site.transport import authentication

        authentication.watch()
        group.create_after_migrate(self)
