"""The forms of accounts that differ from Django's own."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm, PasswordChangeForm, PasswordResetForm
from django.core.exceptions import ValidationError
from django.core.mail import send_mail
from django.template.loader import render_to_string
from django.urls import get_script_prefix, set_script_prefix
from django.views.decorators.debug import sensitive_variables

from .models import Account, Token
from .public_site import public_site

logger = logging.getLogger(__name__)


class LoginForm(AuthenticationForm):
    """The login form. The error of Django's own says that names are case-sensitive."""

    error_messages = {  # noqa: RUF012  # as in the base class
        **AuthenticationForm.error_messages,
        "invalid_login": "The name or the password is wrong.",
    }


class PasswordForm(PasswordChangeForm):
    """The form to change a password. *check* tells whether the old one is right."""

    def __init__(self, *args: Any, check: Callable[[Account, str], bool], **options: Any) -> None:
        super().__init__(*args, **options)
        self._check = check

    @sensitive_variables()
    def clean_old_password(self) -> str:
        """Check the old password."""
        old: str = self.cleaned_data["old_password"]
        if not self._check(self.user, old):
            raise ValidationError(
                self.error_messages["password_incorrect"], code="password_incorrect"
            )
        return old


class ResetForm(PasswordResetForm):
    """The form to request a mail. What Django does at once is a *job* here, to be done later."""

    job: Callable[[], None]

    def save(self, *arguments: Any, **options: Any) -> None:
        """Prepare the job, without looking whether there is an account."""
        site = public_site(options["request"])
        options |= {"domain_override": site.netloc, "use_https": site.secure}
        save = partial(super().save, *arguments, **options)
        self.job = partial(_save_below, get_script_prefix(), save)

    def send_mail(
        self,
        subject_template_name: str,
        email_template_name: str,
        context: dict[str, Any],
        from_email: str | None,
        to_email: str,
        html_email_template_name: str | None = None,
    ) -> None:
        """Send a mail. If that fails it is logged in one line, where Django logs a traceback."""
        subject = " ".join(render_to_string(subject_template_name, context).split())
        body = render_to_string(email_template_name, context)
        try:
            send_mail(subject, body, from_email, [to_email])
        except Exception as error:  # whatever the mail backend raises
            reason = " ".join(str(error).split())
            logger.warning("no mail to account %s: %s", context["user"].pk, reason)


def _save_below(prefix: str, save: Callable[[], None]) -> None:
    """Call *save*, in a thread that does not know the prefix of the links yet."""
    set_script_prefix(prefix)
    save()


class TokenForm(forms.Form):
    """The form to create a token."""

    label = forms.CharField(
        max_length=Token._meta.get_field("label").max_length,
        help_text="What the token is for, such as the machine that will use it.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
