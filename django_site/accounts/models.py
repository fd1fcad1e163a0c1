"""The tables of accounts: accounts, their tokens, and failed logins.

The name of an account is valid in rooms by the same rules, so a user can always join under it.
Two spellings that people would take for the same name belong to one account.
"""

from __future__ import annotations

import hashlib
import secrets
import unicodedata
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib.auth.models import AbstractUser, UserManager
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.utils import timezone

from broadcast_server.protocol import names
from broadcast_server.protocol.names import MAX_NAME_CHARS

from .name_key import MAX_KEY_CHARS, stored_key

if TYPE_CHECKING:
    from typing_extensions import Self

MAX_TOKENS = 20
"""How many tokens an account can have, so that its owner keeps track of them."""

TOKEN_PREFIX = "bst_"  # noqa: S105  # how each token begins, not one of them
"""How each token begins. Anything else need not be looked up, and scanners find leaked tokens."""

USED_RESOLUTION = timedelta(minutes=10)
"""How exactly a token's last use is recorded, so that not every use is a write."""


def validate_name(name: str) -> None:
    """Validate a name by the rules of rooms. Raises ValidationError with the rule it breaks."""
    try:
        names.validate_name(name)
    except ValueError as error:
        raise ValidationError(str(error), code="name") from None


class AccountManager(UserManager["Account"]):
    """Finds accounts by any spelling of their name."""

    def get_by_natural_key(self, username: str | None) -> Account:
        """Return the account whose name is *username*, in any spelling if none has this one."""
        account = self.find(username or "")
        if account is None:
            raise self.model.DoesNotExist
        return account

    def find(self, name: str) -> Account | None:
        """Find the account whose name is *name*, in any spelling if none has this one.

        Two accounts that look alike are older than the rule by which they do.
        """
        # In one statement, whether there is such an account or not: see `login_throttle`.
        exact = unicodedata.normalize("NFC", name)
        found = self.filter(models.Q(username=exact) | models.Q(key=stored_key(name)))
        return min(found, key=lambda each: each.username != exact, default=None)


class Account(AbstractUser):
    """A user that can sign in, under a name that nobody else can have in any room."""

    username = models.CharField(
        "name",
        max_length=MAX_NAME_CHARS,
        unique=True,
        validators=[validate_name],
        help_text="1 to 32 characters, without a colon. It is shown in the rooms.",
        error_messages={"unique": "This name is taken."},
    )
    key = models.CharField(max_length=MAX_KEY_CHARS, unique=True, editable=False)

    objects: ClassVar[AccountManager] = AccountManager()

    class Meta(AbstractUser.Meta):
        """It is called an account everywhere, which Django calls a user."""

        verbose_name = "account"
        verbose_name_plural = "accounts"

    _saved_name: str | None = None

    def clean(self) -> None:
        """Reject a name that people would take for the name of another account."""
        super().clean()
        if self.username == self._saved_name:
            return
        # The form may have rejected the name already, and then there is none.
        taken = Account.objects.filter(key=stored_key(self.username or "")).exclude(pk=self.pk)
        if taken.exists():
            raise ValidationError({"username": "This name is taken, or too similar to another."})

    def clean_fields(self, exclude: Any = None) -> None:
        """Validate the fields. A name that was valid when it was chosen stays valid."""
        unchanged = {"username"} if self.username == self._saved_name else set()
        super().clean_fields({*(exclude or ()), *unchanged})

    @classmethod
    def normalize_username(cls, username: str) -> str:
        """Return the name unchanged: other spellings are found by their key."""
        return username

    @classmethod
    def from_db(cls, db: Any, field_names: Any, values: Any, **options: Any) -> Self:
        """Return an account that is read from the database, and remember its name."""
        account = super().from_db(db, field_names, values, **options)
        account._saved_name = account.__dict__.get("username")
        return account

    def save(self, *args: Any, **options: Any) -> None:
        """Save the account. Raises ValueError if it has a new name that is not valid in rooms.

        A name that was valid when it was chosen stays, with its key.
        """
        if self.username != self._saved_name or not self.key:
            self.username = names.validate_name(self.username)
            self.key = stored_key(self.username)
        super().save(*args, **options)
        self._saved_name = self.username


class Token(models.Model):
    """A token with which a program signs in to an account. Only its digest is stored.

    It has 256 random bits, so one round of SHA-256 is as safe as many.
    """

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="tokens")
    label = models.CharField(max_length=64)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    made = models.DateTimeField(default=timezone.now, editable=False)
    used = models.DateTimeField(null=True, editable=False)

    class Meta:
        """The newest token first."""

        ordering = ("-pk",)

    def __str__(self) -> str:
        return f"{self.label} of {self.account}"

    @classmethod
    def make(cls, account: Account, label: str) -> tuple[Token, str]:
        """Create a token, and return it with its secret, which is not stored.

        Raises ValidationError if the account has `MAX_TOKENS` already.
        """
        secret = TOKEN_PREFIX + secrets.token_urlsafe(32)
        with transaction.atomic():
            locked = Account.objects.select_for_update().get(pk=account.pk)
            count = locked.tokens.count()
            if count >= MAX_TOKENS:
                raise ValidationError(f"You have {count} tokens, which is the maximum: revoke one.")
            token = cls.objects.create(account=locked, label=label, digest=_digest(secret))
        return token, secret

    @staticmethod
    def digest_of(secret: str) -> str:
        """Return what is stored of the token *secret*."""
        return _digest(secret)

    @classmethod
    def account_of(cls, secret: str) -> Account | None:
        """Return the account of the token *secret*, and record the use.

        None if the token is not valid, or its account is disabled.
        """
        token = cls.objects.select_related("account").filter(digest=_digest(secret)).first()
        if token is None or not token.account.is_active:
            return None
        now = timezone.now()
        if token.used is None or now - token.used > USED_RESOLUTION:
            cls.objects.filter(pk=token.pk).update(used=now)
        return token.account


class Attempt(models.Model):
    """A failed login, or one that is being checked. *key* is a digest of the name in the form."""

    key = models.CharField(max_length=64)
    address = models.CharField(max_length=64)
    made = models.DateTimeField(db_index=True)

    class Meta:
        """Attempts are counted by key, by address, and by both."""

        indexes = (
            models.Index(fields=["key", "made"], name="attempts_at"),
            models.Index(fields=["address", "made"], name="attempts_from"),
        )

    def __str__(self) -> str:
        return f"{self.address} at {self.made}"


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
