"""An event stream, as it is asked for and written."""

from __future__ import annotations

import pytest

from broadcast_server.eventstream import Listen, bare, chunk, is_stream, parse_listen, preface
from broadcast_server.protocol import Cursor, Format
from broadcast_server.web import Answer

SSE = {"accept": "text/event-stream"}


def test_who_listens_has_no_name() -> None:
    """A name and a session in the address are nobody's, so they count for nothing."""
    found = parse_listen("name=a:b&session=x&room=ops&history=3", {})
    assert isinstance(found, Listen)
    entry = found.entry
    assert (entry.name, entry.session, entry.room, entry.history) == ("", None, "ops", 3)
    assert (entry.format, found.poll) == (Format.JSON, False)


def test_where_a_browser_was_counts_more() -> None:
    """The last id goes before the cursor of the address, with which it began."""
    found = parse_listen("since=e.1&poll=1", {**SSE, "last-event-id": "e.7"})
    assert isinstance(found, Listen)
    assert (found.entry.since, found.entry.format, found.poll) == (Cursor("e", 7), Format.SSE, True)
    empty = parse_listen("since=e.1", {"last-event-id": ""})
    assert isinstance(empty, Listen) and empty.entry.since == Cursor("e", 1)
    wrong = parse_listen("", {"last-event-id": "7"})
    assert isinstance(wrong, Answer) and wrong.status == 400


@pytest.mark.parametrize(
    ("method", "path", "found"),
    [
        ("GET", "/stream", True),
        ("HEAD", "/a/b/stream", True),
        ("POST", "/stream", False),
        ("GET", "/stream/", False),
        ("GET", "/upstream", False),
    ],
)
def test_where_streams_are(method: str, path: str, found: bool) -> None:
    """A stream is beside the socket, under any prefix."""
    assert is_stream(method, path) is found


def test_where_a_browser_begins() -> None:
    """Before the welcome a browser is told a cursor, and when to come back: not all at once."""
    at = Cursor("e", 4)
    assert preface(Format.JSON, at, 0.5) is None
    assert preface(Format.SSE, at, 0.0) == b"retry: 500\nid: e.4\n"
    assert preface(Format.SSE, at, 0.999) == b"retry: 1499\nid: e.4\n"


def test_payloads_become_lines_and_chunks() -> None:
    """A payload's last line is ended, which in a chunk counts."""
    assert bare(b"a\nb") == b"a\nb\n"
    assert chunk(b"a" * 15) == b"10\r\n" + b"a" * 15 + b"\n\r\n"
