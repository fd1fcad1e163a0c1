"""Acts: what a moderator can do to rows that nobody edits, each after a page that asks why.

It knows no particular table, nor what an act does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from broadcast_server.safe import safe_json
from django_site.accounts.models import Account

M = TypeVar("M", bound=Model)

FILTERS = "_changelist_filters"
"""In which parameter Django hands on what a list was narrowed to."""

if TYPE_CHECKING:

    class _ModelAdmin(admin.ModelAdmin[M]):
        """What Django's own is to its stubs."""

else:

    class _ModelAdmin(admin.ModelAdmin, Generic[M]):
        """What Django's own is not when it runs: generic."""


def harmless(text: str) -> str:
    """Return one line of *text* in which what could turn or break it is seen, as an escape."""
    return safe_json(text)


def moderator(request: HttpRequest) -> Account:
    """Return who asks; the admin let them in, so it is somebody."""
    return cast(Account, request.user)


@dataclass(frozen=True, slots=True)
class Act(Generic[M]):
    """Something to be done to rows, such as *name*: hide. It is on record.

    *effect* is what will happen, for the page that asks why; *can* whether it is of any
    use to a row, and *do* does it and returns to how many it was.
    """

    name: str
    label: str
    effect: str
    can: Callable[[M], bool]
    do: Callable[[Sequence[M], Account, str], int]


class Why(forms.Form):
    """Why something is done."""

    reason = forms.CharField(
        max_length=200, required=False, widget=forms.TextInput({"size": 80, "autofocus": True})
    )


class Acting(_ModelAdmin[M]):
    """A table of which rows are looked at, and acted on; they are never edited."""

    acts: ClassVar[Sequence[Act[Any]]] = ()
    actions_selection_counter = False  # with it comes a button that selects all pages
    list_per_page = 100
    show_facets = admin.ShowFacets.NEVER

    # Superusers neither: what was said stays as it was said, and what was done, done.

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds a row."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        """Nobody edits one."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        """Nobody deletes one."""
        return False

    def may_act(self, request: HttpRequest) -> bool:
        """Tell whether who asks may act on rows: Django's permission to change them."""
        return self._has(request, f"change_{self.opts.model_name}")

    def _has(self, request: HttpRequest, codename: str) -> bool:
        return moderator(request).has_perm(f"{self.opts.app_label}.{codename}")

    def has_view_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        """Who may act on rows may see them."""
        return self._has(request, f"view_{self.opts.model_name}") or self.may_act(request)

    # -- acts --

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Offer the acts below the list, to those who may."""
        acts = self.acts if self.may_act(request) else ()
        names = self.opts.verbose_name_plural
        return {act.name: (self._ask, act.name, f"{act.label} selected {names}…") for act in acts}

    @staticmethod
    def _ask(admin: Acting[M], request: HttpRequest, rows: QuerySet[M]) -> HttpResponse:
        keys = request.POST.getlist(ACTION_CHECKBOX_NAME)  # never more than are on a page
        return HttpResponseRedirect(
            admin.act_url(request.POST["action"], keys, request.GET.urlencode())
        )

    def _url(self, page: str, *key: object) -> str:
        place = f"admin:{self.opts.app_label}_{self.opts.model_name}_{page}"
        return reverse(place, args=key)

    def act_url(self, name: str, keys: Sequence[object], filters: str = "") -> str:
        """Return where act *name* is asked about."""
        query = [("pk", str(key)) for key in keys] + [(FILTERS, filters)] * bool(filters)
        return f"{self._url(name)}?{urlencode(query)}"

    def get_urls(self) -> list[URLPattern]:
        """Give each act a page."""
        pages = [
            path(
                f"{act.name}/",
                self.admin_site.admin_view(partial(self._act, act=act)),
                name=f"{self.opts.app_label}_{self.opts.model_name}_{act.name}",
            )
            for act in self.acts
        ]
        return [*pages, *super().get_urls()]

    def _act(self, request: HttpRequest, act: Act[M]) -> HttpResponse:
        """Ask why, then act."""
        if not self.may_act(request):
            raise PermissionDenied
        keys = [int(key) for key in request.GET.getlist("pk") if key.isdecimal()]
        found = self.get_queryset(request).filter(pk__in=keys)
        rows = [row for row in found if act.can(row)]
        back = f"{self._url('changelist')}?{request.GET.get(FILTERS, '')}".rstrip("?")
        if not rows:
            self.message_user(request, f"there is nothing to {act.name} in it", messages.WARNING)
            return HttpResponseRedirect(back)
        form = Why(request.POST or None)
        if request.method == "POST" and form.is_valid():
            count = act.do(rows, moderator(request), form.cleaned_data["reason"])
            names = self.opts.verbose_name if count == 1 else self.opts.verbose_name_plural
            self.message_user(request, f"{act.name}: {count} {names}", messages.SUCCESS)
            return HttpResponseRedirect(back)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": act.label,
            "act": act,
            "rows": [self.describe(row) for row in rows],
            "form": form,
            "back": back,
        }
        return TemplateResponse(request, "admin/django_site/act.html", context)

    def describe(self, row: M) -> str:
        """Say what *row* is, where one is about to act on it."""
        return harmless(str(row))

    # -- one row --

    def heading(self, row: M) -> str:
        """Say in a few words what *row* is."""
        return harmless(str(row))

    def tools(self, request: HttpRequest, row: M) -> list[tuple[str, str]]:
        """List the buttons of *row*: where each leads, and what it says."""
        if not self.may_act(request):
            return []
        filters = request.GET.get(FILTERS, "")
        return [
            (self.act_url(act.name, [row.pk], filters), f"{act.label}…")
            for act in self.acts
            if act.can(row)
        ]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show a row, and what can be done to it."""
        row = self.get_object(request, object_id)
        if row is None or not self.has_view_permission(request, row):
            # Django's own tells of a missing one by a redirect to the index.
            raise Http404 if row is None else PermissionDenied
        context = {
            "tools": self.tools(request, row),
            "title": self.heading(row),
            "subtitle": None,
        }
        return super().change_view(
            request, object_id, form_url, {**context, **(extra_context or {})}
        )
