"""The forms that are ours: for all else there are Django's."""

from __future__ import annotations

from django import forms
from django.contrib.auth.forms import AuthenticationForm

from .models import Token


class LoginForm(AuthenticationForm):
    """Who one is. Django's would say that names are case-sensitive."""

    error_messages = {  # noqa: RUF012  # Django's way
        **AuthenticationForm.error_messages,
        "invalid_login": "This is not the password of an account with that name.",
    }


class TokenForm(forms.Form):
    """What a token is for."""

    label = forms.CharField(
        max_length=Token._meta.get_field("label").max_length,
        help_text="What it is for, such as the machine that will have it.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
