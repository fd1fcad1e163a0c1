"""The forms of accounts that differ from Django's own."""

from __future__ import annotations

from django import forms
from django.contrib.auth.forms import AuthenticationForm

from .models import Token


class LoginForm(AuthenticationForm):
    """The login form. The error of Django's own says that names are case-sensitive."""

    error_messages = {  # noqa: RUF012  # as in the base class
        **AuthenticationForm.error_messages,
        "invalid_login": "The name or the password is wrong.",
    }


class TokenForm(forms.Form):
    """The form to create a token."""

    label = forms.CharField(
        max_length=Token._meta.get_field("label").max_length,
        help_text="What the token is for, such as the machine that will use it.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
