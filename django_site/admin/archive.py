"""The archive: every message of every room, to be searched, read in context, and hidden."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
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
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.timezone import localtime

from django_site.accounts.models import Account
from django_site.models import Message, Room
from django_site.moderation import actions
from django_site.store import message_log
from django_site.store.senders import by_author_of, by_name, session_of

from .banned_client import BannedClient, ban_url
from .bounded_list import BoundedChangeList
from .row_actions import ReadOnlyAdmin, RowAction, visible

CONTEXT_MESSAGES = 10
"""How many messages before and after a message are shown as its context."""

MAX_LISTED_CHARS = 160
"""How many characters of a text are shown in a list."""


MAX_FIELD_CHARS = 64
"""How many characters of a name or a room can be searched for: none is longer."""


def short(text: str) -> str:
    """Return the beginning of a stored text, in one line."""
    line = visible(" ⏎ ".join(message_log.unescape_nul(text).splitlines()))
    return line if len(line) <= MAX_LISTED_CHARS else line[: MAX_LISTED_CHARS - 1] + "…"


def clock(moment: datetime) -> str:
    """Format a time in the site's time zone, or as it is at an end of the calendar."""
    with suppress(OverflowError):
        moment = localtime(moment)
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def time_field(**options: Any) -> forms.DateTimeField:
    """Return a form field for a time, with the date picker of the browser."""
    widget = forms.DateTimeInput({"type": "datetime-local"}, "%Y-%m-%dT%H:%M")
    return forms.DateTimeField(widget=widget, **options)


class Search(forms.Form):
    """The search form of the archive. Words in the text are searched by Django."""

    room = forms.CharField(
        required=False, max_length=MAX_FIELD_CHARS, widget=forms.TextInput({"size": 14})
    )
    name = forms.CharField(
        required=False,
        max_length=MAX_FIELD_CHARS,
        widget=forms.TextInput({"size": 14, "title": "in any case, or the name of an account"}),
    )
    since = time_field(required=False)
    before = time_field(required=False)
    hidden = forms.ChoiceField(
        required=False, choices=[("", "all"), ("no", "visible"), ("yes", "hidden")]
    )

    def narrow(self, rows: QuerySet[Message]) -> QuerySet[Message]:
        """Return those of *rows* that match the form, none if the form is not valid."""
        if not self.is_valid():
            return rows.none()
        values = self.cleaned_data
        if values["room"]:
            # By its key: the database can plan for one room, but not for a join.
            rows = rows.filter(room=Room.objects.filter(name=values["room"].lower()).first())
        if values["name"]:
            rows = rows.filter(_by_author(values["name"]))
        if values["since"]:
            rows = rows.filter(at__gte=values["since"])
        if values["before"]:
            rows = rows.filter(at__lt=values["before"])
        if values["hidden"]:
            rows = rows.filter(edit__isnull=values["hidden"] == "no")
        return rows


def _by_author(name: str) -> Q:
    """Match messages by the name or account of their author."""
    account = Account.objects.find(name)
    return by_name(name) if account is None else by_name(name) | Q(account=account)


def _hide_all(messages: Sequence[Message], by: Account, reason: str) -> int:
    return sum(actions.hide_all(by_author_of(each), by, reason) for each in messages)


class Archive(BoundedChangeList):
    """A page of the archive. It never counts messages, since there may be millions."""

    def __init__(self, request: HttpRequest, *rest: Any) -> None:
        self.form = Search(request.GET)
        super().__init__(request, *rest)
        self.title = "Archive"

    def get_filters_params(self, params: Any = None) -> dict[str, Any]:
        """Return the parameters that are not fields of the search form, for Django."""
        rest = super().get_filters_params(params)
        return {key: value for key, value in rest.items() if key not in self.form.fields}

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> Any:
        """Return the messages that match the search form."""
        return self.form.narrow(super().get_queryset(request, exclude_parameters))

    def get_ordering(self, request: HttpRequest, queryset: Any) -> Any:
        """Order by the newest first, so that an index exists for it."""
        one_room = self.form.is_valid() and self.form.cleaned_data["room"]
        return ["-seq"] if one_room else ["-at", "-pk"]

    remedy = "Narrow it down with a room and a time."

    def read_page(self, request: HttpRequest) -> None:
        """Read one page and one more row, which shows whether there is a next page."""
        first = (self.page_num - 1) * self.list_per_page
        page = self.queryset[first : first + self.list_per_page + 1]
        keys = list(page.values_list("pk", flat=True))
        known = first + len(keys)
        self.more = len(keys) > self.list_per_page
        rows = self.read_rows(request, self.queryset.filter(pk__in=keys[: self.list_per_page]))
        self.result_list = rows
        self.result_count = self.full_result_count = known
        self.show_full_result_count = self.can_show_all = False
        self.show_admin_actions = bool(rows)
        self.multi_page = self.more or self.page_num > 1
        self.paginator = Paginator(range(known), self.list_per_page)

    @property
    def newer(self) -> str:
        """The query string of the page with newer messages, empty if there is none."""
        return self.get_query_string({"p": self.page_num - 1}) if self.page_num > 1 else ""

    @property
    def older(self) -> str:
        """The query string of the page with older messages, empty if there is none."""
        return self.get_query_string({"p": self.page_num + 1}) if self.more else ""


@admin.register(Message)
class MessageAdmin(ReadOnlyAdmin[Message]):
    """The archive in the admin: the messages of all rooms."""

    row_actions = (
        RowAction(
            "hide",
            "Hide {}",
            "The message is removed from the history, and at once from the view of every client"
            " that speaks JSON. What a text client has printed stays there.",
            lambda message: message.edit is None,
            actions.hide,
        ),
        RowAction(
            "hide_all",
            "Hide everything by the author of {}",
            "Everything that the author has published in this room is hidden: by the same account,"
            " or by a guest with the same session, or with the same name at the same address.",
            lambda message: True,
            _hide_all,
        ),
        RowAction(
            "unhide",
            "Show {} again",
            "The message is in the history again, for clients that join from now on.",
            lambda message: message.edit is not None,
            actions.unhide,
        ),
    )
    list_display = ("time", "room", "author", "excerpt", "state")
    list_display_links = ("time",)
    list_select_related = ("room", "account")
    sortable_by = ()
    search_fields = ("text",)
    fields = readonly_fields = ("time", "place", "author", "full_text", "visibility", "context")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Message]:
        """Return the messages with their rooms and accounts, which are shown."""
        return super().get_queryset(request).select_related("room", "account")

    def get_changelist(self, request: HttpRequest, **_: Any) -> type[ChangeList]:
        """Use the archive's own search form."""
        return Archive

    def get_list_display(self, request: HttpRequest) -> Any:
        """Add the link to ban the author, for moderators with the permission."""
        return (*self.list_display, "ban") if self._has(request, "add_ban") else self.list_display

    def tools(self, request: HttpRequest, row: Message) -> list[tuple[str, str]]:
        """Add the button to ban the author, for moderators with the permission."""
        ban = [(_ban_url(row), f"Ban {row.account or visible(row.name)}…")]
        return super().tools(request, row) + ban * self._has(request, "add_ban")

    def describe(self, row: Message) -> str:
        """Return the room, number, author and beginning of a message."""
        return f"{self.heading(row)}: {short(row.text)}"

    def heading(self, row: Message) -> str:
        """Return the room, number and author of a message."""
        return f"{row.room.name} {row.seq}, {visible(row.name)}"

    # -- columns --

    @admin.display(description="time")
    def time(self, message: Message) -> str:
        """When the message was published."""
        return clock(message.at)

    @admin.display(description="room")
    def place(self, message: Message) -> SafeString:
        """The room, with a link to its messages, and the number of the message."""
        url = f"../../?{urlencode({'room': message.room.name})}"
        return format_html('<a href="{}">{}</a>, message {}', url, message.room.name, message.seq)

    @admin.display(description="name")
    def author(self, message: Message) -> SafeString | str:
        """The author. An account is marked, because nobody else can have its name."""
        name = visible(message.name)
        if message.account is None:
            return name
        title = f"account {message.account}"
        return format_html('{} <span class="account" title="{}">✔ account</span>', name, title)

    @admin.display(description="text")
    def excerpt(self, message: Message) -> SafeString:
        """The text, shortened to one line."""
        return format_html('<span class="excerpt">{}</span>', short(message.text))

    @admin.display(description="text")
    def full_text(self, message: Message) -> SafeString:
        """The whole text."""
        lines = ((visible(line),) for line in message_log.unescape_nul(message.text).splitlines())
        paragraphs = format_html_join("", "<p>{}</p>", lines)
        return format_html('<div class="full-text">{}</div>', paragraphs)

    @admin.display(description="state")
    def state(self, message: Message) -> str:
        """Whether the message is hidden; empty for most, to be seen in a list."""
        return "" if message.edit is None else "hidden"

    @admin.display(description="state")
    def visibility(self, message: Message) -> str:
        """The same on the page of the message."""
        return self.state(message) or "visible"

    @admin.display(description="")
    def ban(self, message: Message) -> SafeString:
        """A link to the form to ban the author."""
        return format_html('<a href="{}">ban…</a>', _ban_url(message))

    @admin.display(description="context")
    def context(self, message: Message) -> SafeString:
        """The messages before and after this one."""
        near = Message.objects.filter(
            room=message.room,
            seq__range=(message.seq - CONTEXT_MESSAGES, message.seq + CONTEXT_MESSAGES),
        )
        rows = [
            {
                "this": row.pk == message.pk,
                "pk": row.pk,
                "time": clock(row.at),
                "author": self.author(row),
                "text": short(row.text),
                "hidden": row.edit is not None,
            }
            for row in near.select_related("account").order_by("seq")
        ]
        return render_to_string("admin/django_site/message/context.html", {"rows": rows})


def _ban_url(message: Message) -> str:
    client = BannedClient(message.name, session_of(message), message.origin or "")
    return ban_url(client, message.account, message.room)
