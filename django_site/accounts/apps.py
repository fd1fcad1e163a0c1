"""The Django application of accounts."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """What Django is told of it."""

    name = "django_site.accounts"
    default_auto_field = "django.db.models.BigAutoField"
