"""The exchange: a request over HTTP that is a room's matter: a post, a stream.

An ASGI adapter and no more. What such requests are and how they are answered is
`broadcast_server.post`'s and `eventstream`'s, and what becomes of them the node's.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseError
from django.urls import Resolver404, resolve

from broadcast_server.entry import Entry
from broadcast_server.eventstream import HEADERS, Listen, is_stream, parse_listen, type_of
from broadcast_server.post import (
    PATIENCE,
    Post,
    body_limit,
    is_post,
    late,
    outcome,
    parse_post,
    refuse_head,
    too_long,
)
from broadcast_server.web import (
    Answer,
    answer,
    forbidden,
    options,
    origin_allowed,
    refused,
    shared,
)

from . import ends, outage
from .accounts.models import Account
from .address import whence
from .ends import End, Refused
from .identity import account_of, known
from .nodes import nodes
from .tap import Tap
from .threshold import Seat
from .urls import Here

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

ANSWER = 15.0
"""Seconds in which the log has to take it, or its sender is told that it does not answer."""


class Gone(Exception):
    """The client waits no more."""


def is_ours(scope: Mapping[str, Any]) -> bool:
    """Tell whether a request is a room's matter, and not Django's."""
    method, path = scope["method"], scope["path"]
    if method in ("GET", "HEAD") and not is_stream(method, path):
        return False
    # Forms are posted, too; the page is where nothing else is.
    try:
        return resolve(path.removeprefix(scope.get("root_path", ""))).url_name == "page"
    except Resolver404:  # OPTIONS * is about no page
        return False


async def exchange(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
    """Answer one request. The types are ASGI's."""
    await _Exchange(scope, receive, send).answer()


class _Exchange:
    """One request."""

    def __init__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        self._query = scope["query_string"].decode("ascii", "replace")
        self._origins: frozenset[str] = settings.BROADCAST_ALLOW_ORIGIN
        self._address = whence(scope)
        self._token = secrets.token_hex(8)

    async def answer(self) -> None:
        """Answer it, or let it listen."""
        method, path = self._scope["method"], self._scope["path"]
        ours = is_post(method, path) or is_stream(method, path)
        try:
            if method == "OPTIONS":
                found: Answer | None = options(self._headers, self._origins)
            elif not ours:
                found = answer(Here(), method, path, self._headers)
            elif not origin_allowed(self._headers, self._origins):
                found = forbidden()
            elif is_stream(method, path):
                found = await self._listen()
            else:
                found = await self._post()
        except Gone:
            return
        except Refused as no:
            found = _refused(no.end)
        except DatabaseError as error:
            outage.database.met(error)
            found = _refused(ends.NO_LOG)
        if found is not None:
            await self._begin(found.status, found.type, found.headers, str(found.length))
            body = b"" if method == "HEAD" else b"".join(found.body)
            await self._send({"type": "http.response.body", "body": body})

    async def _begin(
        self, status: int, type: str, more: tuple[tuple[str, str], ...], length: str = ""
    ) -> None:
        headers = [
            ("Content-Type", type),
            *([("Content-Length", length)] if length else []),
            ("X-Content-Type-Options", "nosniff"),
            *more,
            *shared(self._headers, self._origins),
        ]
        coded = [(name.lower().encode(), value.encode()) for name, value in headers]
        await self._send({"type": "http.response.start", "status": status, "headers": coded})

    # -- posts --

    async def _post(self) -> Answer:
        limit = settings.BROADCAST_MAX_MESSAGE_BYTES
        wrong = refuse_head(self._headers, limit)
        if wrong is not None:
            return wrong
        try:
            body = await asyncio.wait_for(self._body(body_limit(limit)), PATIENCE)
        except asyncio.TimeoutError:
            return late(PATIENCE)
        if body is None:
            return too_long(f"more than {body_limit(limit)} bytes", limit)
        post = parse_post(self._query, body, limit)
        return post if isinstance(post, Answer) else await self._say(post)

    async def _body(self, most: int) -> bytes | None:
        """Read the body, None if it is longer than that: no more of it is read then."""
        body = bytearray()
        while True:
            event = await self._receive()
            if event["type"] == "http.disconnect":
                raise Gone
            body += event.get("body", b"")
            if len(body) > most:
                return None
            if not event.get("more_body", False):
                return bytes(body)

    async def _say(self, post: Post) -> Answer:
        account = await self._come()
        nodes().threshold.say(self._address, asyncio.get_running_loop().time())
        with self._seated(post.entry):
            node = await nodes().get(post.entry.room)
            nodes().metrics.received += len(post.text.encode())
            try:
                what = await node.say(post, account, self._token, ANSWER)
            except asyncio.TimeoutError:
                return _refused(ends.NO_LOG)
        return outcome(post, what)

    async def _come(self) -> Account | None:
        """Find whose account it is, if it may come. Raises `Refused`, or a database's error."""
        threshold = nodes().threshold
        threshold.come(self._address, asyncio.get_running_loop().time())
        return await known(self._scope, threshold, self._address, asyncio.sleep)

    @contextmanager
    def _seated(self, entry: Entry) -> Iterator[None]:
        """Take a place as long as this lasts. Raises `Refused` if there is none."""
        seat = Seat(self._address, entry.room, entry.session)
        nodes().threshold.enter(seat)
        try:
            yield
        finally:
            nodes().threshold.leave(seat)

    # -- streams --

    async def _listen(self) -> Answer | None:
        what = parse_listen(self._query, self._headers)
        if isinstance(what, Answer):
            return what
        account = await self._come()
        with self._seated(what.entry):
            await self._tap(what, account)
        return None

    async def _tap(self, what: Listen, account: Account | None) -> None:
        node = await nodes().get(what.entry.room)
        head_only = self._scope["method"] == "HEAD"
        tap = Tap(self._receive, self._send, what.entry.format)
        try:
            if not head_only:
                tap.peer = await node.hear(what, account, self._token, tap)
                tap.node = node
                nodes().metrics.joins += 1
                # Only now is it known who listens by it: it may have ended meanwhile.
                if account is not None and await account_of(self._scope) != account:
                    raise Refused(ends.SIGN_IN_CHANGED)
            await self._begin(200, type_of(what.entry.format), HEADERS)
            if head_only:
                await self._send({"type": "http.response.body"})
            else:
                await tap.run()
        finally:
            if tap.peer is not None:
                node.go(tap.peer, self._token)


def _refused(end: End) -> Answer:
    return refused(end.code, end.text, end.after)
