"""One HTTP connection: one request and its answer, on h11.

It is bounded in bytes and in time, takes of a body no more than a message may be, and reads
an answer's no faster than the client takes it. What the answers are is `web`'s and
`post`'s; a stream it hands on to a `Tap`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http import HTTPStatus
from typing import Protocol, cast

import h11

from .connection import Connection, Visitor, client_of
from .entry import Entry
from .eventstream import HEADERS, Listen, is_stream, parse_listen, type_of
from .gate import Refusal, given_token
from .post import (
    PATIENCE,
    Post,
    Said,
    TooFew,
    body_limit,
    is_post,
    late,
    outcome,
    parse_post,
    refuse_head,
    too_long,
)
from .proxies import Trusted
from .tap import House, Tap
from .web import (
    HEAD_BYTES,
    Answer,
    Site,
    answer,
    forbidden,
    options,
    origin_allowed,
    refused,
    shared,
)


class Keeper(Site, House, Protocol):
    """What an exchange needs of the server."""

    origins: frozenset[str]
    trusted: Trusted
    max_message_bytes: int

    def opened(self, connection: Connection) -> None:
        """Remember a connection, until it is `lost`."""

    def lost(self, connection: Connection) -> None:
        """Forget a connection."""

    def knock(
        self, visitor: Visitor, entry: Entry, token: str | None, come: Callable[[], None]
    ) -> None:
        """Let *visitor* `come`, now or later, or refuse it."""

    def waits_no_more(self, visitor: Visitor) -> None:
        """Note that *visitor* is gone."""

    def passed(self, visitor: Visitor) -> None:
        """Note that *visitor*, who was let in, does not stay."""

    def say(self, visitor: Visitor, post: Post, then: Callable[[Said | TooFew], None]) -> None:
        """Say what *visitor* posted, and do *then* with that when everyone was told; or refuse."""

    def hear(self, tap: Tap, what: Listen) -> None:
        """Put *tap* on the stream of the room that it asked for."""


class Exchange(asyncio.Protocol):
    """One HTTP connection."""

    code = None  # it is nobody's who is in a room

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
        self._body: Iterator[bytes] | None = None
        self._headers: dict[str, str] = {}
        self._query = ""
        self._head_only = False
        self._posted: bytearray | None = None  # while a message is read
        self._pending = False  # it waits for the house
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None
        self.client: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection over from its arrival."""
        self._transport = cast(asyncio.Transport, transport)
        self._wait(PATIENCE, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        """Take bytes from the client."""
        if self._pending:  # there is one request a connection: what comes now is none's
            return
        if not self._answered and self._posted is None:  # who is slow puts nothing off
            self._wait(PATIENCE, self._transport.abort)
        self._http.receive_data(data)
        self._go_on()

    def eof_received(self) -> bool:
        """Take it that the client asks no more; it may still wait for an answer."""
        if not self._pending:
            self._http.receive_data(b"")
            self._go_on()
        return self._body is not None or self._pending

    def pause_writing(self) -> None:
        """Read no more of the body: the client is slower than we are."""
        self._paused = True
        self._transport.pause_reading()  # nor of what it asks: that would pile up

    def resume_writing(self) -> None:
        """Go on."""
        self._paused = False
        self._transport.resume_reading()
        self._wait(PATIENCE, self._transport.abort)
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let everything go."""
        if self._timer is not None:
            self._timer.cancel()
        self._keeper.waits_no_more(self)
        self._keeper.lost(self)

    def shut(self) -> None:
        """End it, unless it waits for an answer: the server stops."""
        if not self._pending:
            self._transport.close()

    def abort(self) -> None:
        """Cut it."""
        self._transport.abort()

    # -- what the house says --

    def hold(self, delay: float, then: Callable[[], None]) -> None:
        """Do *then* after *delay*, unless it is lost before."""
        self._wait(delay, then)

    def refuse(self, refusal: Refusal) -> None:
        """Tell it why it is not let in."""
        self._answer(refused(refusal.code, refusal.error.text, refusal.after))

    # -- what it asks --

    def _go_on(self) -> None:
        """Answer what was asked, as far as the client takes it."""
        try:
            while not self._paused and not self._pending:
                if self._body is not None:
                    self._pump(self._body)
                elif not self._ask():
                    return
        except h11.RemoteProtocolError as error:
            self._refuse(error)

    def _ask(self) -> bool:
        """Take one event of the client's; False if it has to send more first."""
        event = self._http.next_event()
        if isinstance(event, h11.Request):
            self._request(event)
            return True
        if self._posted is not None and isinstance(event, h11.Data | h11.EndOfMessage):
            self._post(self._posted, event)
            return True
        # Only once its body is in, however little we want it: a connection that is closed
        # with bytes unread is reset, and the answer may be lost with it.
        heard_out = self._answered and self._http.their_state is not h11.SEND_BODY
        if isinstance(event, h11.ConnectionClosed) or heard_out:
            self._transport.close()
            return False
        return isinstance(event, h11.Data | h11.EndOfMessage)  # of no interest

    def _request(self, event: h11.Request) -> None:
        self._headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
        method, target = event.method.decode(), event.target.decode()
        self._head_only = method == "HEAD"
        path, _, self._query = target.partition("?")
        forwarded = [
            value.decode("latin-1") for name, value in event.headers if name == b"x-forwarded-for"
        ]
        self.client = client_of(self._transport, self._keeper.trusted, forwarded)
        headers, origins = self._headers, self._keeper.origins
        stream = is_stream(method, path)
        if method == "OPTIONS":
            self._begin(options(headers, origins))
        elif not (stream or is_post(method, path)):
            found = answer(self._keeper, method, target, headers)
            self._begin(found)
        elif not origin_allowed(headers, origins):
            self._begin(forbidden())
        elif stream:
            self._stream()
        else:
            wrong = refuse_head(headers, self._keeper.max_message_bytes)
            if wrong is not None:
                self._begin(wrong)
                return
            self._posted = bytearray()
            self._wait(PATIENCE, self._late)
            if self._http.they_are_waiting_for_100_continue:
                self._write(h11.InformationalResponse(status_code=100, headers=[]))

    def _late(self) -> None:
        self._posted = None
        self._answer(late(PATIENCE))

    def _post(self, body: bytearray, event: h11.Data | h11.EndOfMessage) -> None:
        """Take a piece of a message, or its end."""
        limit = self._keeper.max_message_bytes
        if isinstance(event, h11.Data):
            body += event.data
            if len(body) > body_limit(limit):
                self._posted = None
                self._begin(too_long(f"more than {body_limit(limit)} bytes", limit))
            return
        self._posted = None
        found = parse_post(self._query, bytes(body), limit)
        if isinstance(found, Answer):
            self._begin(found)
            return

        def come() -> None:
            self._keeper.say(self, found, lambda what: self._answer(outcome(found, what)))
            self._keeper.passed(self)

        self._knock(found.entry, come)

    def _stream(self) -> None:
        found = parse_listen(self._query, self._headers)
        if isinstance(found, Answer):
            self._begin(found)
            return

        def come() -> None:
            head = self._head(200, type_of(found.entry.format), HEADERS)
            if self._head_only:
                self._pending = False
                self._transport.write(head)
                self._write(h11.EndOfMessage())
                self._keeper.passed(self)
                self._transport.close()
            else:
                self._tap(found, head)

        self._knock(found.entry, come)

    def _tap(self, what: Listen, head: bytes) -> None:
        """Hand the connection on to a tap."""
        if self._timer is not None:
            self._timer.cancel()
        keeper, transport = self._keeper, self._transport
        chunked = self._http.their_http_version != b"1.0"
        tap = Tap(
            *(keeper, transport, self.client, head, what.entry.format),
            chunked=chunked,
            poll=what.poll,
        )
        keeper.opened(tap)
        keeper.lost(self)
        transport.set_protocol(tap)
        keeper.hear(tap, what)

    def _knock(self, entry: Entry, come: Callable[[], None]) -> None:
        self._pending = True
        if self._timer is not None:
            self._timer.cancel()  # it is our turn
        self._keeper.knock(self, entry, given_token(self._headers, ()), come)

    # -- what it is answered --

    def _answer(self, found: Answer) -> None:
        """Give the answer that it has waited for."""
        self._pending = False
        if self._transport.is_closing():
            return
        self._wait(PATIENCE, self._transport.abort)
        self._begin(found)
        self._go_on()

    def _begin(self, found: Answer) -> None:
        length = "Content-Length", str(found.length)
        self._transport.write(self._head(found.status, found.type, (length, *found.headers)))
        self._body = found.body
        if self._head_only:
            self._body = None
            self._write(h11.EndOfMessage())

    def _head(self, status: int, type: str, more: tuple[tuple[str, str], ...]) -> bytes:
        headers = [
            ("Date", formatdate(usegmt=True)),
            ("Content-Type", type),
            ("X-Content-Type-Options", "nosniff"),
            # A proxy that kept the connection might ask for an upgrade on it.
            ("Connection", "close"),
            *more,
            *shared(self._headers, self._keeper.origins),
        ]
        reason = HTTPStatus(status).phrase
        response = h11.Response(status_code=status, headers=headers, reason=reason)
        return self._http.send(response) or b""

    def _pump(self, body: Iterator[bytes]) -> None:
        chunk = next(body, None)
        if chunk is not None:
            self._write(h11.Data(data=chunk))
        else:
            self._body = None
            self._write(h11.EndOfMessage())

    def _refuse(self, error: h11.RemoteProtocolError) -> None:
        self._body = None
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            text = b"request is not valid HTTP\n"
            headers = [("Content-Length", str(len(text))), ("Connection", "close")]
            self._write(h11.Response(status_code=error.error_status_hint, headers=headers))
            self._write(h11.Data(data=text))
            self._write(h11.EndOfMessage())
        self._transport.close()

    def _write(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            self._transport.write(data)

    @property
    def _answered(self) -> bool:
        return self._http.our_state is h11.MUST_CLOSE

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, then)
