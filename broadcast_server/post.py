"""A post: one message said over HTTP, by someone who does not come in for it.

Pure: a query and a body in, an answer out, by which both houses speak alike. How the
message gets its number is not known here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from .entry import Entry, entry_of, parse_count, parse_query
from .protocol import BAD_ID, Error, Format, is_id, say_of
from .web import Answer, is_socket_path, plain, text_answer

PATIENCE = 20.0
"""Seconds in which a whole message has to be there."""

LENGTH = 19
"""So many digits has a Content-Length at the most that is worth a look."""


@dataclass(frozen=True, slots=True)
class Post:
    """What is to be said, by whom and where, if at least *require* are there to hear it."""

    entry: Entry
    text: str
    id: str | None
    require: int


@dataclass(frozen=True, slots=True)
class Said:
    """It is in the log as number *seq* of *name*, and *count* were there."""

    seq: int
    name: str
    count: int
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class TooFew:
    """It was not said, as only *count* were there."""

    count: int


def is_post(method: str, path: str) -> bool:
    """Tell whether a request wants to say something: where the socket is."""
    return method == "POST" and is_socket_path(path)


def body_limit(limit: int) -> int:
    """Return how long a body may be, if a message may be *limit* bytes: it may end a line."""
    return limit + 2


def refuse_head(headers: Mapping[str, str], limit: int) -> Answer | None:
    """Say what is wrong with a post before its body is read. *headers* have lower-case names."""
    if "transfer-encoding" in headers:
        return None
    length = headers.get("content-length", "")
    if not length.strip().isdecimal():
        return plain(411, "request has no Content-Length and no chunks: send the message in it")
    if len(length.strip()) > LENGTH or int(length) > body_limit(limit):
        return too_long(f"{length.strip()[: LENGTH + 1]} bytes", limit)
    return None


def too_long(size: str, limit: int) -> Answer:
    """Refuse a message that is not read to its end; its *size* is as far as we know."""
    return plain(413, f"message is {size}, limit is {limit}")


def late(seconds: float) -> Answer:
    """Refuse a message that did not come."""
    return plain(408, f"message did not come within {seconds:g} s")


def parse_post(query: str, body: bytes, limit: int) -> Post | Answer:
    """Read a post, or say what is wrong with it."""
    given = parse_query(query)
    if isinstance(given, Error):
        return plain(400, given.text)
    entry = entry_of(given, Format.TEXT)
    if isinstance(entry, Error):
        return plain(400, entry.text)
    require = parse_count(given, "require")
    if isinstance(require, Error):
        return plain(400, require.text)
    id = given.get("id")
    if id is not None and not is_id(id):
        return plain(400, BAD_ID.text)
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        return plain(400, f"message is not UTF-8: {error.reason} at position {error.start}")
    text = text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")
    say = say_of(text, id, limit)
    if isinstance(say, Error):
        return plain(400 if say.code == "empty" else 413, say.text)
    return Post(entry, say.text, id, require)


def outcome(post: Post, of: Said | TooFew) -> Answer:
    """Say what became of a post."""
    if isinstance(of, TooFew):
        are = "1 is" if of.count == 1 else f"{of.count} are"
        wanted = "1 is" if post.require == 1 else f"{post.require} are"
        return plain(409, f"{are} here, {wanted} required")
    fields: dict[str, object] = {
        "seq": of.seq,
        "name": of.name,
        "room": post.entry.room,
        "count": of.count,
    }
    if post.id is not None:
        fields["id"] = post.id
    if of.repeated:
        fields["repeated"] = True
    line = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    return text_answer(200, "application/json", line + "\n")
