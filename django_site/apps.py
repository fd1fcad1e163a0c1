"""The Django application of the rooms."""

from django.apps import AppConfig
from django.core.checks import Tags, register


class SiteConfig(AppConfig):
    """The configuration of the application."""

    name = "django_site"
    verbose_name = "Rooms"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Watch accounts and connections to the database, and create the group of moderators."""
        # Both need the models, which are loaded by now.
        from django_site.configuration import checks
        from django_site.moderation import group
        from django_site.store import private_database, query_log, schema
        from django_site.transport import authentication

        checks.register_checks()
        register(schema.check_database, Tags.database)
        query_log.keep_no_statements()
        authentication.watch()
        private_database.watch()
        group.create_after_migrate(self)
