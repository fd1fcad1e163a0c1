"""The pages: sign in and out, passwords, tokens. Django's own, with our templates.

A token's secret is in one answer and nowhere else: not in an address, a session or a log.
"""

from __future__ import annotations

from typing import Any, ClassVar, cast

from django.contrib import messages
from django.contrib.auth import views as auth
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.messages.views import SuccessMessageMixin
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse_lazy
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_variables
from django.views.generic import FormView, View

from . import brake
from .brake import Held
from .forms import LoginForm, TokenForm
from .look import Page
from .models import MOST_TOKENS, Account, Token


class Braked(FormView):  # type: ignore[type-arg]  # generic only for types
    """A form that cannot be sent again and again: attempts are counted by a field of it."""

    response_class = Page
    counted: ClassVar[str]

    def post(self, request: HttpRequest, *args: str, **kwargs: Any) -> HttpResponse:
        """Take the form, unless there were too many."""
        self.counts = self.counted, request.POST.get(self.counted, ""), brake.address_of(request)
        try:
            brake.attempt(*self.counts)
        except Held as held:
            # A form that is filled in would be looked at when it is shown.
            form = self.get_form_class()(initial={self.counted: self.counts[1]})
            minutes = -(-held.seconds // 60)
            return self.render_to_response(
                self.get_context_data(form=form, held=minutes),
                status=429,
                headers={"Retry-After": str(held.seconds)},
            )
        return super().post(request, *args, **kwargs)


class Login(Braked, auth.LoginView):
    """Sign in."""

    template_name = "accounts/login.html"
    form_class = LoginForm
    counted = "username"

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        """Forget what was mistyped before."""
        brake.passed(*self.counts)
        return super().form_valid(form)


class Logout(auth.LogoutView):
    """Sign out."""

    response_class = Page


class Told(SuccessMessageMixin):  # type: ignore[type-arg]  # the same
    """A form whose success is told on the next page."""


class Password(Told, auth.PasswordChangeView):
    """Change the password."""

    response_class = Page
    template_name = "accounts/password.html"
    success_url = reverse_lazy("tokens")
    success_message = "Your password is changed, and whoever had signed in by the old one is out."


class Reset(Told, Braked, auth.PasswordResetView):
    """Ask for a mail with a link."""

    template_name = "accounts/reset.html"
    email_template_name = "accounts/reset_mail.txt"
    subject_template_name = "accounts/reset_subject.txt"
    success_url = reverse_lazy("login")
    # Whether there is such an account is nobody's business.
    success_message = "If an account has that address, a mail with a link is on its way to it."
    counted = "email"


class ResetConfirm(Told, auth.PasswordResetConfirmView):
    """Choose another password, by the link in a mail."""

    response_class = Page
    template_name = "accounts/reset_confirm.html"
    success_url = reverse_lazy("login")
    success_message = "Your password is changed: sign in with it."


class Tokens(LoginRequiredMixin, FormView):  # type: ignore[type-arg]  # the same
    """List the tokens, and make one."""

    response_class = Page
    template_name = "accounts/tokens.html"
    form_class = TokenForm

    @method_decorator(sensitive_variables())
    def form_valid(self, form: TokenForm) -> HttpResponse:
        """Show the secret: there is no redirect that could."""
        try:
            token, secret = Token.make(_account(self.request), form.cleaned_data["label"])
        except ValidationError as error:
            form.add_error(None, error)
            return self.form_invalid(form)
        context = self.get_context_data(form=TokenForm(), made=token, secret=secret)
        return self.render_to_response(context)

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        """List them, the newest first."""
        tokens = Token.objects.filter(account=_account(self.request))
        return super().get_context_data(tokens=tokens, most=MOST_TOKENS, **context)


class Revoke(LoginRequiredMixin, View):
    """Revoke a token."""

    def post(self, request: HttpRequest, *args: str, **kwargs: Any) -> HttpResponse:
        """Delete it: its connections are closed in the same transaction."""
        token = get_object_or_404(Token, account=_account(request), pk=kwargs["token"])
        token.delete()
        messages.success(request, f"{token.label} is revoked.")
        return redirect("tokens")


def stale(request: HttpRequest, reason: str = "") -> HttpResponseBase:
    """Say that a form was not sent by a page of ours, or by one that is too old."""
    return Page(request, "accounts/stale.html", {"reason": reason}, status=403)


def _account(request: HttpRequest) -> Account:
    return cast(Account, request.user)
