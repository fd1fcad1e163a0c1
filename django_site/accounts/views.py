"""The account pages: sign in and out, passwords, tokens. Django's views with the site's templates.

The secret of a token is in one response and nowhere else: in no URL, session or log.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, cast

from django.contrib import messages
from django.contrib.auth import views as auth
from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.messages.views import SuccessMessageMixin
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse_lazy
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_variables
from django.views.generic import FormView, View

from . import login_throttle
from .account_page import AccountPage
from .backend import check_password
from .forms import LoginForm, PasswordForm, ResetForm, TokenForm
from .login_throttle import Throttled
from .mail_queue import MailingRedirect
from .models import MAX_TOKENS, Account, Token
from .public_site import public_site


class ThrottledFormView(FormView):  # type: ignore[type-arg]  # it is generic in its type stubs only
    """A form with a throttle. After too many attempts its field *kept* is filled in again."""

    response_class = AccountPage
    kept: ClassVar[str] = ""

    def post(self, request: HttpRequest, *args: str, **kwargs: Any) -> HttpResponse:
        """Handle the form, unless there were too many attempts."""
        try:
            return super().post(request, *args, **kwargs)
        except Throttled as throttled:
            # A form with data would be validated when it is rendered, and check the password.
            options = self.get_form_kwargs()
            del options["data"], options["files"]
            options["initial"] = {self.kept: request.POST.get(self.kept, "")}
            minutes = -(-throttled.seconds // 60)
            return self.render_to_response(
                self.get_context_data(form=self.get_form_class()(**options), throttled=minutes),
                status=429,
                headers={"Retry-After": str(throttled.seconds)},
            )


class Login(ThrottledFormView, auth.LoginView):
    """Sign in."""

    template_name = "accounts/login.html"
    form_class = LoginForm
    kept = "username"


class Logout(auth.LogoutView):
    """Sign out."""

    response_class = AccountPage


class SuccessMessageFormView(SuccessMessageMixin):  # type: ignore[type-arg]  # as above
    """A form with a message about its success on the next page."""


class Password(SuccessMessageFormView, ThrottledFormView, auth.PasswordChangeView):
    """Change the password."""

    form_class = PasswordForm
    template_name = "accounts/password.html"
    success_url = reverse_lazy("tokens")
    success_message = "Your password has been changed. Everyone who used the old one is signed out."

    def get_form_kwargs(self) -> dict[str, Any]:
        """Add the function that checks the old password."""
        return {**super().get_form_kwargs(), "check": partial(check_password, self.request)}


class Reset(SuccessMessageFormView, ThrottledFormView, auth.PasswordResetView):
    """Request a mail with a link to choose a new password."""

    template_name = "accounts/reset.html"
    email_template_name = "accounts/reset_mail.txt"
    subject_template_name = "accounts/reset_subject.txt"
    success_url = reverse_lazy("login")
    # It must not reveal whether there is such an account.
    success_message = "If an account has that address, a mail with a link is on its way."
    form_class = ResetForm
    kept = "email"

    def form_valid(self, form: ResetForm) -> HttpResponse:
        """Respond in the same way whether there is an account, and look for it after that."""
        recipient = login_throttle.mails_to(form.cleaned_data["email"])
        login_throttle.record_attempt(recipient, login_throttle.address_of(self.request))
        super().form_valid(form)
        return MailingRedirect(self.get_success_url(), form.job)


class ResetConfirm(SuccessMessageFormView, auth.PasswordResetConfirmView):
    """Choose a new password, with the link from a mail."""

    response_class = AccountPage
    template_name = "accounts/reset_confirm.html"
    success_url = reverse_lazy("login")
    success_message = "Your password has been changed: sign in with the new one."


class Tokens(LoginRequiredMixin, FormView):  # type: ignore[type-arg]  # as above
    """List your tokens, and create one."""

    response_class = AccountPage
    template_name = "accounts/tokens.html"
    form_class = TokenForm

    @method_decorator(sensitive_variables())
    def form_valid(self, form: TokenForm) -> HttpResponse:
        """Create a token, and show its secret in this response: a redirect could not."""
        try:
            token, secret = Token.make(_account(self.request), form.cleaned_data["label"])
        except ValidationError as error:
            form.add_error(None, error)
            return self.form_invalid(form)
        context = self.get_context_data(form=TokenForm(), created=token, secret=secret)
        return self.render_to_response(context)

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        """Add the tokens of the account, the newest first."""
        tokens = Token.objects.filter(account=_account(self.request))
        address = public_site(self.request).socket_address
        return super().get_context_data(
            tokens=tokens, max_tokens=MAX_TOKENS, address=address, **context
        )


class Revoke(LoginRequiredMixin, View):
    """Revoke a token."""

    def post(self, request: HttpRequest, *args: str, **kwargs: Any) -> HttpResponse:
        """Delete the token. The connections of its account are closed in the same transaction."""
        token = get_object_or_404(Token, account=_account(request), pk=kwargs["token"])
        token.delete()
        messages.success(request, f"{token.label} has been revoked.")
        return redirect("tokens")


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponseBase:
    """Respond to a form without a valid CSRF token, for instance from a page that is too old."""
    return AccountPage(request, "accounts/stale.html", {"reason": reason}, status=403)


def _account(request: HttpRequest) -> Account:
    return cast(Account, request.user)
