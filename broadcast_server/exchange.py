"""One HTTP connection: one request and its answer, on h11.

It is bounded in bytes and in time, and reads an answer's body no faster than
the client takes it. What the answers are is `web`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from email.utils import formatdate
from http import HTTPStatus
from typing import Protocol, cast

import h11

from .web import HEAD_BYTES, Answer, Site, answer

PATIENCE = 20.0
"""Seconds that a client may do nothing at all before it is cut."""


class Keeper(Site, Protocol):
    """What an exchange needs of the server."""

    def lost(self, connection: Exchange) -> None:
        """Forget a connection."""


class Exchange(asyncio.Protocol):
    """One HTTP connection."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
        self._body: Iterator[bytes] | None = None
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection over from its arrival."""
        self._transport = cast(asyncio.Transport, transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take bytes from the client."""
        if not self._answered:  # who goes on sending after its answer puts nothing off
            self._wait()
        self._http.receive_data(data)
        self._go_on()

    def eof_received(self) -> bool:
        """Take it that the client asks no more; it may still wait for an answer."""
        self._http.receive_data(b"")
        self._go_on()
        return self._body is not None

    def pause_writing(self) -> None:
        """Read no more of the body: the client is slower than we are."""
        self._paused = True
        self._transport.pause_reading()  # nor of what it asks: that would pile up

    def resume_writing(self) -> None:
        """Go on."""
        self._paused = False
        self._transport.resume_reading()
        self._wait()
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let everything go."""
        if self._timer is not None:
            self._timer.cancel()
        self._keeper.lost(self)

    def shut(self) -> None:
        """End it: the server stops."""
        self._transport.close()

    def abort(self) -> None:
        """Cut it."""
        self._transport.abort()

    def _go_on(self) -> None:
        """Answer what was asked, as far as the client takes it."""
        try:
            while not self._paused:
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
            headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
            found = answer(self._keeper, event.method.decode(), event.target.decode(), headers)
            self._begin(found, head_only=event.method == b"HEAD")
            return True
        # Only once its body is in, however little we want it: a connection that is closed
        # with bytes unread is reset, and the answer may be lost with it.
        heard_out = self._answered and self._http.their_state is not h11.SEND_BODY
        if isinstance(event, h11.ConnectionClosed) or heard_out:
            self._transport.close()
            return False
        return isinstance(event, h11.Data | h11.EndOfMessage)  # of no interest

    def _begin(self, found: Answer, *, head_only: bool) -> None:
        headers = [
            ("Date", formatdate(usegmt=True)),
            ("Content-Type", found.type),
            ("Content-Length", str(found.length)),
            ("X-Content-Type-Options", "nosniff"),
            # A proxy that kept the connection might ask for an upgrade on it.
            ("Connection", "close"),
            *found.headers,
        ]
        reason = HTTPStatus(found.status).phrase
        self._write(h11.Response(status_code=found.status, headers=headers, reason=reason))
        self._body = found.body
        if head_only:
            self._body = None
            self._write(h11.EndOfMessage())

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

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(PATIENCE, self._transport.abort)
