"""Row actions: what a moderator can do to read-only rows, each after a page that asks for a reason.

This module knows no particular table, nor what an action does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar, cast
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from broadcast_server.protocol.sanitize import escape_control
from django_site.accounts.models import Account

from .bounded_list import KEY, BoundedAdmin
from .damaged_rows import readable

M = TypeVar("M", bound=Model)

MAX_ROWS = 1000
"""How many rows an action may have. A list shows fewer."""

FILTERS = "_changelist_filters"
"""The parameter in which Django passes on the filters of a list."""


def visible(text: str) -> str:
    """Return *text* with control characters as escapes, so that it is shown as one line."""
    return escape_control(text)


def moderator(request: HttpRequest) -> Account:
    """Return the account that sent the request. The admin requires that it is signed in."""
    return cast(Account, request.user)


@dataclass(frozen=True, slots=True)
class RowAction(Generic[M]):
    """An action on rows, such as hiding messages.

    Args:
        name: identifies the action in URLs and records, such as "hide".
        label: the text of its button, with ``{}`` for the rows, such as "Hide {}".
        effect: what it does, for the page that asks for the reason.
        can: tells whether a row is in a state in which the action applies.
        do: does it to rows, for a moderator, with the fields of the form as keywords, of which
            ``reason`` is one, and returns how many rows changed.
        form: asks for the reason, and for what else the action needs.

    """

    name: str
    label: str
    effect: str
    can: Callable[[M], bool]
    do: Callable[..., int]
    form: type[ReasonForm] | None = None


class ReasonForm(forms.Form):
    """The form that asks for the reason of an action."""

    reason = forms.CharField(
        max_length=200,
        required=False,
        widget=forms.TextInput({"size": 80, "autofocus": True}),
        help_text="The reason is recorded with your name.",
    )


class ReadOnlyAdmin(BoundedAdmin[M]):
    """A table whose rows can be viewed and acted on, but not edited."""

    row_actions: ClassVar[Sequence[RowAction[Any]]] = ()
    list_per_page = 100

    # These apply to superusers as well: messages and records stay as they were written.

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Rows cannot be added."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        """Rows cannot be edited."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        """Rows cannot be deleted."""
        return False

    def may_act(self, request: HttpRequest) -> bool:
        """Tell whether the moderator may act on rows: with Django's permission to change them."""
        return self._has(request, f"change_{self.opts.model_name}")

    def _has(self, request: HttpRequest, codename: str) -> bool:
        return moderator(request).has_perm(f"{self.opts.app_label}.{codename}")

    def has_view_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        """A moderator that may act on rows may also see them."""
        return self._has(request, f"view_{self.opts.model_name}") or self.may_act(request)

    # -- actions --

    def get_actions(self, request: HttpRequest, action_location: Any = None) -> dict[str, Any]:
        """Return the actions for selected rows, none without the permission.

        *action_location* exists since Django 6.1, which can also show actions on the page of a
        row. There, `tools` has them already.
        """
        on_list = action_location is None or action_location.name == "CHANGE_LIST"
        actions = self.row_actions if on_list and self.may_act(request) else ()
        rows = self.opts.verbose_name_plural
        return {
            action.name: (
                self._ask_reason,
                action.name,
                f"{action.label.format(f'selected {rows}')}…",
            )
            for action in actions
        }

    @staticmethod
    def _ask_reason(
        admin: ReadOnlyAdmin[M], request: HttpRequest, rows: QuerySet[M]
    ) -> HttpResponse:
        keys = request.POST.getlist(ACTION_CHECKBOX_NAME)  # at most the rows of one page
        return HttpResponseRedirect(
            admin.action_url(request.POST["action"], keys, request.GET.urlencode())
        )

    def _url(self, page: str, *key: object) -> str:
        view = f"admin:{self.opts.app_label}_{self.opts.model_name}_{page}"
        return reverse(view, args=key)

    def action_url(self, name: str, keys: Sequence[object], filters: str = "") -> str:
        """Return the URL of the page that asks for the reason of action *name* on rows *keys*."""
        query = [("pk", str(key)) for key in keys] + [(FILTERS, filters)] * bool(filters)
        return f"{self._url(name)}?{urlencode(query)}"

    def get_urls(self) -> list[URLPattern]:
        """Add a page for each action."""
        pages = [
            path(
                f"{action.name}/",
                self.admin_site.admin_view(partial(self._act, action=action)),
                name=f"{self.opts.app_label}_{self.opts.model_name}_{action.name}",
            )
            for action in self.row_actions
        ]
        return [*pages, *super().get_urls()]

    def _act(self, request: HttpRequest, action: RowAction[M]) -> HttpResponse:
        """Show the page that asks for the reason, or do the action when its form is sent."""
        if not self.may_act(request):
            raise PermissionDenied
        given = request.GET.getlist("pk")[:MAX_ROWS]
        keys = [int(key) for key in given if KEY.fullmatch(key)]
        of = self.get_queryset(request)
        selected, _ = readable(of.filter(pk__in=keys), lambda key: of.filter(pk=key))
        rows = [row for row in selected if action.can(row)]
        back = f"{self._url('changelist')}?{request.GET.get(FILTERS, '')}".rstrip("?")
        if not rows:
            self.message_user(request, f"nothing to {action.name}", messages.WARNING)
            return HttpResponseRedirect(back)
        form = (action.form or ReasonForm)(request.POST or None)
        if request.method == "POST" and form.is_valid():
            count = action.do(rows, moderator(request), **form.cleaned_data)
            names = self.opts.verbose_name if count == 1 else self.opts.verbose_name_plural
            self.message_user(request, f"{action.name}: {count} {names}", messages.SUCCESS)
            return HttpResponseRedirect(back)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": self._label(action, len(rows)),
            "action": action,
            "rows": [self.describe(row) for row in rows],
            "form": form,
            "back": back,
        }
        return TemplateResponse(request, "admin/django_site/act.html", context)

    def _label(self, action: RowAction[M], count: int = 1) -> str:
        """Return the text of the button that does *action* to *count* rows."""
        one, many = self.opts.verbose_name, self.opts.verbose_name_plural
        return action.label.format(f"this {one}" if count == 1 else f"{count} {many}")

    def describe(self, row: M) -> str:
        """Describe *row* on the page that asks for the reason."""
        return visible(str(row))

    # -- one row --

    def heading(self, row: M) -> str:
        """Return the title of the page of *row*."""
        return visible(str(row))

    def tools(self, request: HttpRequest, row: M) -> list[tuple[str, str]]:
        """Return the buttons of *row*, as pairs of URL and text."""
        if not self.may_act(request):
            return []
        filters = request.GET.get(FILTERS, "")
        return [
            (self.action_url(action.name, [row.pk], filters), f"{self._label(action)}…")
            for action in self.row_actions
            if action.can(row)
        ]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show a row with its buttons."""
        row = self.get_object(request, object_id)
        if row is None or not self.has_view_permission(request, row):
            # Django would redirect to the index for a row that does not exist.
            raise Http404 if row is None else PermissionDenied
        context = {
            "tools": self.tools(request, row),
            "title": self.heading(row),
            "subtitle": None,
        }
        return super().change_view(
            request, object_id, form_url, {**context, **(extra_context or {})}
        )
