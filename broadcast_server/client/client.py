"""The client: connects, carries a `ClientSession`, and reconnects after a break.

What it receives goes to its `EventSink`, a terminal or a pipe. It waits for the sink before it
reads on, so a slow sink makes a slow reader, which the server is prepared for.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from broadcast_server.console.time_limit import run_to_end, run_within
from broadcast_server.protocol.messages import CloseCode, Cursor, Error, Event, Request
from broadcast_server.protocol.operators import OperatorRequest

from .close_reason import CONNECTION_LOST, describe_close
from .opener import Opener, OpenError, close_connection
from .proxy import Proxy
from .session import ClientSession, GapError


@dataclass(frozen=True, slots=True)
class ClientTimeouts:
    """How long a client waits, in seconds."""

    first_delay: float = 1.0
    """Upper limit of the delay before the first attempt to reconnect."""
    max_delay: float = 15.0
    """Upper limit of the delay before any attempt."""
    handshake: float = 10.0
    close: float = 1.0
    """For the server to answer a closing handshake."""
    welcome: float = 20.0
    """For the server to send its welcome, and then each part of the replay. It may have to wait for
    a database, and it delays clients after wrong tokens by up to 8 s."""

    def longest_delay(self, attempt: int) -> float:
        """Return the upper limit of the delay before an attempt, counted from 0."""
        return min(self.max_delay, self.first_delay * float(2 ** min(attempt, 30)))

    def delay(self, attempt: int) -> float:
        """Return the delay before an attempt, counted from 0: exponential, with full jitter."""
        return random.uniform(0, self.longest_delay(attempt))


class Break(NamedTuple):
    """Why there is no connection."""

    reason: str
    wait: float = 0.0
    """Seconds that the server asks to wait."""


class ClientError(Exception):
    """The client gives up; the text is the reason, for the user.

    *code* is the close code with which the server told it to, None if it did not.
    """

    def __init__(self, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.code = code


class EventSink(Protocol):
    """Where a client shows what it receives."""

    def show(self, events: list[Event]) -> None:
        """Show events of the room."""

    def note(self, text: str) -> None:
        """Show a notice about the connection."""

    async def drain(self) -> None:
        """Wait until the sink can take more events."""


class ReconnectingClient:
    """One client of one room.

    Args:
        url: The WebSocket's URL, without a query.
        query: Additional query parameters.
        session: The client's part in the room, which outlives each connection.
        timeouts: How long to wait.
        token: Token to send with each handshake.
        unix: Path of a Unix socket to connect to, instead of the URL's host and port.
        authorities: The trusted certificate authorities; None means those of the system.
        proxy: The HTTP proxy to go through; None for a direct connection.
        operator_key: Key to be an operator with, shown in each handshake.
    """

    def __init__(
        self,
        url: str,
        query: dict[str, str],
        session: ClientSession,
        *,
        timeouts: ClientTimeouts = ClientTimeouts(),
        token: str | None = None,
        unix: str | None = None,
        authorities: ssl.SSLContext | None = None,
        proxy: Proxy | None = None,
        operator_key: str | None = None,
    ) -> None:
        self.session = session
        self.has_been_live = False
        """Whether we have been in the room. If not, a failed attempt to connect ends the client,
        unless the server says that another one may succeed."""
        self.opener = Opener(url, query, token, unix, authorities, proxy, operator_key)
        self._timeouts = timeouts
        self._wake = asyncio.Event()  # there may be something to send
        self._news = asyncio.Event()  # something was received, or the connection was lost
        self._leave = asyncio.Event()
        self._replace = asyncio.Event()  # a new connection is to take over the session
        self._attempt = 0  # attempts to reconnect since the last connection that lasted
        self._live_since: float | None = None  # of this connection, by the loop's clock
        self._unseen_attempts = 0  # attempts that failed here but may yet succeed at the server

    # -- called by the user interface --

    def send(self, text: str) -> str:
        """Publish *text*, now or as soon as possible. Return the message's id."""
        id = self.session.send(text)
        self._wake.set()
        return id

    def send_private(self, to: str, text: str) -> str | None:
        """Send *text* to the member *to* alone. Return the id, or None if that is impossible now.

        Unlike a message to the room, it is never sent again.
        """
        id = self.session.send_private(to, text)
        self._wake.set()
        return id

    def request(self, request: Request) -> None:
        """Send *request*, if there is a connection."""
        self.session.request(request)
        self._wake.set()

    def rename(self, name: str) -> str:
        """Ask for another name, now or as soon as possible. Return the request's id."""
        id = self.session.rename(name)
        self._wake.set()
        return id

    def operate(self, request: OperatorRequest) -> str:
        """Ask for what an operator does, now or as soon as possible. Return the request's id."""
        id = self.session.operate(request)
        self._wake.set()
        return id

    def show_again(self, count: int) -> None:
        """Show the last *count* messages again, now or as soon as possible."""
        self.session.show_again(count)
        if self.session.live:
            self._replace.set()

    def rewind(self, to: Cursor) -> None:
        """Receive everything after *to* again, on a new connection of the same session."""
        self.session.rewind(to)
        self._replace.set()

    def in_room(self, session: ClientSession) -> ReconnectingClient:
        """Return a client of the same server that carries *session*."""
        opener = self.opener
        other = ReconnectingClient(
            opener.url,
            opener.query,
            session,
            timeouts=self._timeouts,
            token=opener.token,
            unix=opener.unix,
            authorities=opener.authorities,
            proxy=opener.proxy,
            operator_key=opener.operator_key,
        )
        other.has_been_live = self.has_been_live
        return other

    def leave(self) -> None:
        """Make `run` return."""
        self._leave.set()

    async def wait_for_window(self) -> None:
        """Wait until another message may be sent without too many lacking their echo."""
        while self.session.full:
            await self._wait_for_news()

    async def wait_live(self) -> None:
        """Wait until the replay of this connection is over, if there is a connection."""
        while self.session.is_welcomed and not self.session.live:
            await self._wait_for_news()

    async def wait_joined(self) -> None:
        """Wait until we have been in the room."""
        while not self.has_been_live:
            await self._wait_for_news()

    async def wait_confirmed(self) -> None:
        """Wait until every message has its echo."""
        while not self.has_been_live or len(self.session):
            await self._wait_for_news()

    async def _wait_for_news(self) -> None:
        self._news.clear()
        await self._news.wait()

    # -- the connection --

    async def run(self, sink: EventSink) -> None:
        """Stay in the room until `leave`. Raises ClientError."""
        staying = asyncio.ensure_future(self._keep_connected(sink))
        leaving = asyncio.ensure_future(self._leave.wait())
        try:
            await asyncio.wait({staying, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (staying, leaving):
                task.cancel()
            # Cancelling the task closes the connection properly, which takes a moment.
            await run_to_end(asyncio.wait({staying, leaving}))
        if not staying.cancelled():
            staying.result()

    async def _keep_connected(self, sink: EventSink) -> None:
        previous: ClientConnection | None = None  # its session is taken over by the next one
        try:
            while not self._leave.is_set():
                outcome = await self._connect_or_explain()
                if isinstance(outcome, Break):
                    end: Break | None = outcome
                else:
                    replaced, previous = previous, None
                    end = await self._use(outcome, replaced, sink)
                    previous = outcome if end is None else None
                if end is None:
                    continue
                if previous is not None:
                    await close_connection(previous)
                    previous = None
                delay = max(end.wait, self._timeouts.delay(self._attempt))
                self._attempt += 1
                sink.note(f"{end.reason}, trying again in {delay:.1f} s")
                await asyncio.sleep(delay)
        finally:
            if previous is not None:
                await run_to_end(close_connection(previous))

    async def _connect_or_explain(self) -> ClientConnection | Break:
        """Connect, or return the reason why that failed this time. Raises ClientError."""
        try:
            return await self.opener.open(
                self.session, self._timeouts.handshake, self._timeouts.close
            )
        except OpenError as error:
            failure = error.failure
            self._unseen_attempts += error.unseen
            if self.has_been_live or failure.temporary:
                return Break(failure.reason, failure.wait)
            raise ClientError(failure.message(self.opener.description)) from None

    async def _use(
        self, connection: ClientConnection, replaced: ClientConnection | None, sink: EventSink
    ) -> Break | None:
        """Use *connection* until it ends, and return why it ended. Close the one that it replaced.

        Returns None, and leaves the connection open, if `show_again` or `rewind` wants a new one in
        its place.
        """
        if not self.session.is_rewinding:
            self._replace.clear()
        receiving = asyncio.ensure_future(self._receive_all(connection, sink))
        replacing = asyncio.ensure_future(self._replace.wait())
        has_ended = True

        async def finish() -> None:
            for task in (receiving, replacing):
                task.cancel()
            try:
                await asyncio.wait({receiving, replacing})
            finally:
                if has_ended:
                    await close_connection(connection)
            if not self.session.is_welcomed:
                self._unseen_attempts += 1
            self._note_end()
            self.session.connection_lost()
            self._news.set()

        try:
            if replaced is not None:
                await run_to_end(close_connection(replaced))
            await asyncio.wait({receiving, replacing}, return_when=asyncio.FIRST_COMPLETED)
            has_ended = receiving.done()
        finally:
            await run_to_end(finish())
        return Break(receiving.result()) if has_ended else None

    def _note_end(self) -> None:
        """Begin with the shortest delay again, if the connection has lasted.

        If a server breaks off right after each welcome, the delays grow as if it was not there.
        """
        since, self._live_since = self._live_since, None
        if since is not None:
            lasted = asyncio.get_running_loop().time() - since
            if lasted >= self._timeouts.longest_delay(self._attempt):
                self._attempt = 0

    async def _receive_all(self, connection: ClientConnection, sink: EventSink) -> str:
        """Show what is received until the connection ends, and return why it ended."""
        loop = asyncio.get_running_loop()
        welcome_until = loop.time() + self._timeouts.welcome
        sending = asyncio.ensure_future(self._send_all(connection))
        held_back: list[Event] = []  # an error that may be the reason for closing
        try:
            while True:
                try:
                    if self.session.live:
                        frame = await connection.recv()
                    else:
                        frame = await run_within(connection.recv(), welcome_until - loop.time())
                    events = held_back + self._parse(frame)
                except ConnectionClosed as closed:
                    return self._close_reason(closed, held_back)
                except GapError:
                    return "a message did not arrive"
                except asyncio.TimeoutError:
                    what = "part of the replay" if self.session.is_welcomed else "welcome"
                    return f"the server sent no {what} within {self._timeouts.welcome:g} s"
                # An error without an id is about the connection, and the server closes it next. The
                # error is reported as the reason then, so it is not shown as an event as well.
                held_back = [events.pop()] if events and _is_about_connection(events[-1]) else []
                if self.session.live:
                    self.has_been_live = True
                    self._live_since = self._live_since or loop.time()
                self._wake.set()
                self._news.set()
                sink.show(events)
                await sink.drain()
                if self.session.is_welcomed:
                    welcome_until = loop.time() + self._timeouts.welcome
        finally:
            sending.cancel()
            await asyncio.wait({sending})

    def _parse(self, frame: str | bytes) -> list[Event]:
        try:
            if isinstance(frame, str):
                return self.session.receive(frame)
        except ValueError:
            pass
        raise ClientError(
            f"{self.opener.description} sent an invalid event, it is not a broadcast server"
        )

    def _close_reason(self, closed: ConnectionClosed, held_back: list[Event]) -> str:
        """Return why the connection was closed. Raises ClientError if that is final."""
        end = describe_close(closed)
        if end.invalid and not self.has_been_live:
            where = self.opener.description
            raise ClientError(f"Could not join at {where} ({end.reason})")
        reasons = [event.text for event in held_back if isinstance(event, Error)]
        reason = next(filter(None, (*reasons, end.reason)), CONNECTION_LOST)
        if CloseCode.is_final(end.code) and not self._is_replaced_by_own_attempt(end.code):
            raise ClientError(reason, end.code)
        return reason

    def _is_replaced_by_own_attempt(self, code: int) -> bool:
        """Tell whether an earlier attempt of our own has taken over the session.

        Nobody else has our session. But an attempt that we gave up may still be on its way to the
        server, which then replaces the current connection by it, although nobody uses it any more.
        """
        if code != CloseCode.REPLACED or not self._unseen_attempts:
            return False
        self._unseen_attempts -= 1
        return True

    async def _send_all(self, connection: ClientConnection) -> None:
        while True:
            self._wake.clear()
            frame = self.session.outgoing()
            if frame is None:
                await self._wake.wait()
                continue
            try:
                await connection.send(frame)
            except ConnectionClosed:  # `_receive_all` gets the same exception, with the reason
                return


def _is_about_connection(event: Event) -> bool:
    return isinstance(event, Error) and event.id is None
