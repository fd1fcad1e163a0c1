"""The tables of accounts: a name that is someone's own, and tokens for programs.

An account's name is a name of the rooms', by the same rules, so that who signs in can
always be shown under it. Two names that people would take for one are one account.
They know nothing of rooms.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser, UserManager
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.utils import timezone

from broadcast_server.names import MAX_NAME, check_name
from django_site.keys import KEY, stored_key

MOST_TOKENS = 20
"""So many tokens may an account have: nobody oversees more."""

PREFIX = "bst_"
"""How each begins, so that nobody looks for what is none, and scanners find what was published."""

USED = timedelta(minutes=10)
"""So coarse is the time at which a token was last used: not every use is a write."""


def validate_name(name: str) -> None:
    """Refuse what no room would take. Raises ValidationError with the rule."""
    try:
        check_name(name)
    except ValueError as error:
        raise ValidationError(str(error), code="name") from None


class AccountManager(UserManager["Account"]):
    """Finds accounts by any spelling of their names."""

    def get_by_natural_key(self, username: str | None) -> Account:
        """Return the account that *username* would be taken for."""
        return self.get(key=stored_key(username or ""))


class Account(AbstractUser):
    """Someone who can sign in, under a name that nobody else can have in any room."""

    username = models.CharField(
        "name",
        max_length=MAX_NAME,
        unique=True,
        validators=[validate_name],
        help_text="1 to 32 characters, without a colon. It is shown in the rooms.",
        error_messages={"unique": "This name is taken."},
    )
    key = models.CharField(max_length=KEY, unique=True, editable=False)

    objects: ClassVar[AccountManager] = AccountManager()

    def clean(self) -> None:
        """Refuse a name that people would take for another's."""
        super().clean()
        # A form may have refused the name already, and left none.
        taken = Account.objects.filter(key=stored_key(self.username or "")).exclude(pk=self.pk)
        if taken.exists():
            raise ValidationError({"username": "This name is taken, or too much like one that is."})

    @classmethod
    def normalize_username(cls, username: str) -> str:
        """Leave a name as it is spelled; what is like it is found by its key."""
        return username

    def save(self, *args: Any, **options: Any) -> None:
        """Save, with a name that rooms take. Raises ValueError for any other."""
        self.username = check_name(self.username)
        self.key = stored_key(self.username)
        super().save(*args, **options)


class Token(models.Model):
    """A token by which an account's programs sign in. Only its digest is kept.

    It is 256 bits at random, so that one round of SHA-256 is as good as many.
    """

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="tokens")
    label = models.CharField(max_length=64)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    made = models.DateTimeField(default=timezone.now, editable=False)
    used = models.DateTimeField(null=True, editable=False)

    class Meta:
        """The newest first."""

        ordering = ("-pk",)

    def __str__(self) -> str:
        return f"{self.label} of {self.account}"

    @classmethod
    def make(cls, account: Account, label: str) -> tuple[Token, str]:
        """Make a token, and return it with its secret, which cannot be had again.

        Raises ValidationError if the account has too many.
        """
        secret = PREFIX + secrets.token_urlsafe(32)
        with transaction.atomic():
            locked = Account.objects.select_for_update().get(pk=account.pk)
            count = locked.tokens.count()
            if count >= MOST_TOKENS:
                raise ValidationError(f"You have {count} tokens, which is the most: revoke one.")
            token = cls.objects.create(account=locked, label=label, digest=_digest(secret))
        return token, secret

    @classmethod
    def account_of(cls, secret: str) -> Account | None:
        """Return whose token *secret* is, None if it is nobody's who may sign in."""
        token = cls.objects.select_related("account").filter(digest=_digest(secret)).first()
        if token is None or not token.account.is_active:
            return None
        now = timezone.now()
        if token.used is None or now - token.used > USED:
            cls.objects.filter(pk=token.pk).update(used=now)
        return token.account


class Attempt(models.Model):
    """An attempt at a password, of an *address*, that has not been right. *key* is at what."""

    key = models.CharField(max_length=64)
    address = models.CharField(max_length=64)
    made = models.DateTimeField(db_index=True)

    class Meta:
        """Counted by either."""

        indexes = (
            models.Index(fields=["key", "made"], name="attempts_at"),
            models.Index(fields=["address", "made"], name="attempts_from"),
        )

    def __str__(self) -> str:
        return f"{self.address} at {self.made}"


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
