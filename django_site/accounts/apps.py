"""The Django application of accounts."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """The configuration of the application."""

    name = "django_site.accounts"
    default_auto_field = "django.db.models.BigAutoField"
