"""The archive: everything that was said, to be searched, read in its context, and hidden."""

from __future__ import annotations

import unicodedata
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.timezone import localtime

from django_site import log, moderation
from django_site.accounts.models import Account
from django_site.keys import stored_key
from django_site.models import Message, Room

from .acts import Act, Acting, harmless

AROUND = 10
"""So many messages before and after one are its context."""

SHORT = 160
"""So many characters of a text fit into a list."""


def short(text: str) -> str:
    """Return the beginning of what was said, in one line."""
    line = harmless(" ⏎ ".join(log.shown(text).splitlines()))
    return line if len(line) <= SHORT else line[: SHORT - 1] + "…"


def clock(moment: datetime) -> str:
    """Write a time so that it sorts as it reads, in the site's zone."""
    return f"{localtime(moment):%Y-%m-%d %H:%M:%S}"


def moments(**options: Any) -> forms.DateTimeField:
    """Return a field for a time that browsers help with."""
    widget = forms.DateTimeInput({"type": "datetime-local"}, "%Y-%m-%dT%H:%M")
    return forms.DateTimeField(widget=widget, **options)


class Search(forms.Form):
    """What the archive is narrowed to, besides words in the text."""

    room = forms.CharField(required=False, widget=forms.TextInput({"size": 14}))
    name = forms.CharField(
        required=False,
        widget=forms.TextInput({"size": 14, "title": "in any case; or that of an account"}),
    )
    since = moments(required=False)
    before = moments(required=False)
    hidden = forms.ChoiceField(
        required=False, choices=[("", "all"), ("no", "to be seen"), ("yes", "hidden")]
    )

    def narrow(self, rows: QuerySet[Message]) -> QuerySet[Message]:
        """Return those of *rows* that are asked for; none if that is not understood."""
        if not self.is_valid():
            return rows.none()
        asked = self.cleaned_data
        if asked["room"]:
            # By its key, so that the database plans with it and not with a join.
            rows = rows.filter(room=Room.objects.filter(name=asked["room"].lower()).first())
        if asked["name"]:
            rows = rows.filter(_named(asked["name"]))
        if asked["since"]:
            rows = rows.filter(at__gte=asked["since"])
        if asked["before"]:
            rows = rows.filter(at__lt=asked["before"])
        if asked["hidden"]:
            rows = rows.filter(edit__isnull=asked["hidden"] == "no")
        return rows


def _named(name: str) -> Q:
    """Ask for what was said under *name*, as nearly as a column without keys allows."""
    name = unicodedata.normalize("NFC", name)
    # Of case, SQLite knows that of ASCII only.
    spelled = {each(name) for each in (str.lower, str.upper, str.title, str.casefold)}
    named = Q(name__iexact=name) | Q(name__in=spelled)
    account = Account.objects.filter(key=stored_key(name)).first()
    return named if account is None else named | Q(account=account)


class Archive(ChangeList):
    """A page of the archive. Nothing is counted: there may be millions of messages."""

    def __init__(self, request: HttpRequest, *rest: Any) -> None:
        self.form = Search(request.GET)
        super().__init__(request, *rest)
        self.title = "Archive"

    def get_filters_params(self, params: Any = None) -> dict[str, Any]:
        """Leave to Django what is not of our form."""
        rest = super().get_filters_params(params)
        return {key: value for key, value in rest.items() if key not in self.form.fields}

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> Any:
        """Find what is asked for."""
        return self.form.narrow(super().get_queryset(request, exclude_parameters))

    def get_ordering(self, request: HttpRequest, queryset: Any) -> Any:
        """Put the newest first, by an index that there is."""
        one_room = self.form.is_valid() and self.form.cleaned_data["room"]
        return ["-seq"] if one_room else ["-at", "-pk"]

    def get_results(self, request: HttpRequest) -> None:
        """Read one page, and one row more, which tells whether there is another."""
        self.page_num = max(1, self.page_num)
        first = (self.page_num - 1) * self.list_per_page
        rows = list(self.queryset[first : first + self.list_per_page + 1])
        known = first + len(rows)
        self.more = len(rows) > self.list_per_page
        self.result_list = rows[: self.list_per_page]
        self.result_count = self.full_result_count = known
        self.show_full_result_count = self.can_show_all = False
        self.show_admin_actions = bool(rows)
        self.multi_page = self.more or self.page_num > 1
        self.paginator = Paginator(range(known), self.list_per_page)

    @property
    def newer(self) -> str:
        """The query of the page before this."""
        return self.get_query_string({"p": self.page_num - 1}) if self.page_num > 1 else ""

    @property
    def older(self) -> str:
        """The query of the page after this."""
        return self.get_query_string({"p": self.page_num + 1}) if self.more else ""


@admin.register(Message)
class MessageAdmin(Acting[Message]):
    """The log of all rooms."""

    acts = (
        Act(
            "hide",
            "Hide",
            "Nobody will find it in the history any more, and clients that speak JSON"
            " take it out of view at once. What a terminal has printed stays there.",
            lambda message: message.edit is None,
            moderation.hide,
        ),
        Act(
            "unhide",
            "Show again",
            "It will be in the history of those who come from now on.",
            lambda message: message.edit is not None,
            moderation.unhide,
        ),
    )
    list_display = ("time", "room", "who", "said", "state")
    list_display_links = ("time",)
    list_select_related = ("room", "account")
    sortable_by = ()
    search_fields = ("text",)
    show_full_result_count = False
    fields = readonly_fields = ("time", "place", "who", "whole", "state", "context")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Message]:
        """Find messages with what is shown of them."""
        return super().get_queryset(request).select_related("room", "account")

    def get_changelist(self, request: HttpRequest, **_: Any) -> type[ChangeList]:
        """Look through the archive by our own form."""
        return Archive

    def get_list_display(self, request: HttpRequest) -> Any:
        """Offer a ban beside each message, to those who may impose one."""
        return (*self.list_display, "ban") if self._has(request, "add_ban") else self.list_display

    def tools(self, request: HttpRequest, row: Message) -> list[tuple[str, str]]:
        """Offer a ban as well."""
        ban = [(_ban_url(row), f"Ban {row.account or row.name}…")]
        return super().tools(request, row) + ban * self._has(request, "add_ban")

    def describe(self, row: Message) -> str:
        """Say where a message is, and how it begins."""
        return f"{self.heading(row)}: {short(row.text)}"

    def heading(self, row: Message) -> str:
        """Say where a message is, and whose it was."""
        return f"{row.room.name} {row.seq}, {harmless(row.name)}"

    # -- columns --

    @admin.display(description="time")
    def time(self, message: Message) -> str:
        """When it was said."""
        return clock(message.at)

    @admin.display(description="room")
    def place(self, message: Message) -> SafeString:
        """Where it was said, with a way there."""
        url = f"../../?{urlencode({'room': message.room.name})}"
        return format_html('<a href="{}">{}</a>, message {}', url, message.room.name, message.seq)

    @admin.display(description="name")
    def who(self, message: Message) -> SafeString | str:
        """Who said it; an account is marked, since its name is nobody else's."""
        name = harmless(message.name)
        if message.account is None:
            return name
        title = f"account {message.account}"
        return format_html('{} <span class="account" title="{}">✔ account</span>', name, title)

    @admin.display(description="text")
    def said(self, message: Message) -> SafeString:
        """What was said, shortened."""
        return format_html('<span class="said">{}</span>', short(message.text))

    @admin.display(description="text")
    def whole(self, message: Message) -> SafeString:
        """What was said, all of it."""
        lines = ((harmless(line),) for line in log.shown(message.text).splitlines())
        return format_html('<div class="whole">{}</div>', format_html_join("", "<p>{}</p>", lines))

    @admin.display(description="state", empty_value="")
    def state(self, message: Message) -> str | None:
        """Whether it is hidden."""
        return None if message.edit is None else "hidden"

    @admin.display(description="")
    def ban(self, message: Message) -> SafeString:
        """The way to a ban of who said it."""
        return format_html('<a href="{}">ban…</a>', _ban_url(message))

    @admin.display(description="context")
    def context(self, message: Message) -> SafeString:
        """What was said before and after it."""
        near = Message.objects.filter(
            room=message.room, seq__range=(message.seq - AROUND, message.seq + AROUND)
        )
        rows = [
            (row.pk == message.pk, row.pk, clock(row.at), self.who(row), short(row.text), row.edit)
            for row in near.select_related("account").order_by("seq")
        ]
        return render_to_string("admin/django_site/message/context.html", {"rows": rows})


def _ban_url(message: Message) -> str:
    whom = {"name": message.name}
    if message.account is not None:
        whom = {"account": message.account.username}
    query = urlencode({**whom, "room": message.room.name})
    return f"{reverse('admin:django_site_ban_add')}?{query}"
