"""Bounded lists: what the list of a table can be asked for, and for how long it may search.

Django's admin applies look-ups that no filter offers, such as `?text__regex=...`. Some reveal
values that are not shown, and a pattern can take forever: SQLite leaves it to Python.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.exceptions import DisallowedModelAdminLookup
from django.contrib.admin.filters import FieldListFilter, SimpleListFilter
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import get_fields_from_path
from django.contrib.admin.views.main import (
    ORDER_VAR,
    SEARCH_VAR,
    ChangeList,
    ChangeListSearchForm,
)
from django.core.exceptions import ValidationError
from django.db import DataError, OperationalError
from django.db.models import Model
from django.http import HttpRequest, HttpResponse

from .damaged_rows import is_damage, is_damaged, readable
from .time_limit import TimeLimitExceeded, time_limit

M = TypeVar("M", bound=Model)

if TYPE_CHECKING:

    class _ModelAdmin(admin.ModelAdmin[M]):
        """Django's class, which is generic in its type stubs."""

else:

    class _ModelAdmin(admin.ModelAdmin, Generic[M]):
        """Django's class, made generic: at runtime it is not."""


KEY = re.compile("[0-9]{1,18}")
"""The primary key of a row, in a form or a URL. All databases can compare numbers of this
length."""

SEARCH_TIMEOUT_S = 2.0
"""How long a search may take, in seconds. It occupies one of the threads for pages."""

MAX_SEARCH_CHARS = 200
"""How long the words of a search may be."""

MAX_SEARCH_WORDS = 10
"""How many words a search may have: each is a condition on every row."""

MAX_PAGE = 10**6
"""The number of the last page that can be asked for."""


class SearchForm(ChangeListSearchForm):
    """The words of a search."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields[SEARCH_VAR] = forms.CharField(
            required=False,
            strip=False,
            max_length=MAX_SEARCH_CHARS,
            error_messages={
                "max_length": f"A search has at most {MAX_SEARCH_CHARS} characters.",
            },
            validators=[_check_word_count],
        )


def _check_word_count(text: str) -> None:
    count = len(text.split())
    if count > MAX_SEARCH_WORDS:
        raise ValidationError(f"You search for {count} words, the limit is {MAX_SEARCH_WORDS}.")


class BoundedChangeList(ChangeList):
    """A list whose search has a time limit."""

    search_form_class = SearchForm

    def get_results(self, request: HttpRequest) -> None:
        """Read the rows of the page, none if that takes too long or something is not valid."""
        if not 1 <= self.page_num <= MAX_PAGE:
            self.page_num = 1
        try:
            with time_limit(SEARCH_TIMEOUT_S):
                self.read_page(request)
        except TimeLimitExceeded:
            messages.error(
                request,
                f"The search took longer than {SEARCH_TIMEOUT_S:g} s. {self.remedy}",
            )
            self.queryset = self.queryset.none()
            self.read_page(request)
        except (ValueError, OverflowError, DataError) as error:
            # A value that the database cannot compare, such as a NUL character.
            raise IncorrectLookupParameters from error

    remedy = "Search for something else, or use a filter."
    """What to do when a search has taken too long."""

    def read_page(self, request: HttpRequest) -> None:
        """Read the rows of the page."""
        super().get_results(request)
        self.result_list = self.read_rows(request, self.result_list)

    def read_rows(self, request: HttpRequest, rows: Any) -> list[Any]:
        """Read *rows* here, as the template would do so later. Leave out what is damaged."""
        found, damaged = readable(rows, lambda key: self.queryset.filter(pk=key))
        if damaged:
            messages.error(request, damage_text(damaged, self.opts))
        return found


def damage_text(count: int, opts: Any) -> str:
    """Return what is said of *count* damaged rows."""
    rows = opts.verbose_name if count == 1 else opts.verbose_name_plural
    remedy = "restore it from a backup, then run python manage.py new_epochs"
    return f"{count} {rows} cannot be shown, as the database is damaged: {remedy}."


class BoundedAdmin(_ModelAdmin[M]):
    """A table in the admin whose list can be asked for what its filters offer, and no more."""

    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    _offered: frozenset[str] | None = None

    def get_changelist(self, request: HttpRequest, **options: Any) -> type[ChangeList]:
        """Use a list whose search has a time limit."""
        return BoundedChangeList

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> M | None:
        """Return a row, None if there is none or if it is damaged, which is told."""
        try:
            row = super().get_object(request, object_id, from_field)
        except (OperationalError, TypeError, ValueError) as error:
            if not is_damage(error):
                raise
            row, is_whole = None, False
        else:
            is_whole = row is None or not is_damaged(row)
        if not is_whole:
            messages.error(request, damage_text(1, self.opts))
        return row if is_whole else None

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Tell whether one of the filters of this list has the parameter *lookup*."""
        if self._offered is None and request is not None:
            self._offered = self._parameters(request)
        return lookup in (self._offered or ())

    def _parameters(self, request: HttpRequest) -> frozenset[str]:
        found: set[str] = set()
        for each in self.get_list_filter(request):
            if isinstance(each, type) and issubclass(each, SimpleListFilter):
                found.add(str(each.parameter_name))
                continue
            path = str(each)
            field: Any = get_fields_from_path(self.model, path)[-1]
            offered = FieldListFilter.create(field, request, {}, self.model, self, path)
            found.update(str(name) for name in offered.expected_parameters())
        return frozenset(found)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the list. A look-up that it does not offer is rejected."""
        if len(request.GET.get(ORDER_VAR, "").split(".")) > len(self.get_list_display(request)):
            return _reject(f"{ORDER_VAR} has more columns than the list")
        if not all(map(KEY.fullmatch, request.POST.getlist(ACTION_CHECKBOX_NAME))):
            return _reject(f"{ACTION_CHECKBOX_NAME} is not the key of a row")
        try:
            return super().changelist_view(request, extra_context)
        except DisallowedModelAdminLookup:
            offered = ", ".join(sorted(self._offered or ())) or "none"
            return _reject(f"this list has no such filter, its filters are: {offered}")


def _reject(text: str) -> HttpResponse:
    return HttpResponse(f"{text}\n", status=400, content_type="text/plain; charset=utf-8")
