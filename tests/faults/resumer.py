"""The resumer: a client that resumes again and again, from anywhere in the log, in every way.

Other clients resume only when a fault cuts them, mostly a few messages behind. The resumer reads
whole sections of the log at every place and by every way that there is. So a server that is wrong
about one message in fifty is found within seconds.
"""

from __future__ import annotations

import asyncio
import enum
import json
import secrets
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode, urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from broadcast_server.console.time_limit import run_within

from .clients import Member, Noticer
from .history import Kind, Received, Replayed, Resumed, Welcomed

MAX_SECTION = 150
"""How many messages before the end of the log a cursor is at most."""

OLD_EPOCH_SHARE = 0.1
"""How often it resumes with a cursor of a log that is gone, if it knows one."""

MAX_LINGER_S = 0.05
"""How long it receives the live stream behind a replay, at most."""

PAUSE_S = 0.01
"""How long it waits between two connections, on average."""


TIMEOUT_S = 2.0
"""How long a connection may take to open, and again to end its replay. It is short, because the
next connection may have no fault."""

FAILURES = OSError, EOFError, InvalidHandshake, ConnectionClosed, asyncio.TimeoutError
"""What an attempt may end with while there are faults."""


class Way(enum.Enum):
    """The ways to resume."""

    SOCKET = "a WebSocket with since"
    TAKEOVER = "the same, while the connection before is still open"
    HISTORY = "a WebSocket with history"
    STREAM = "a stream with since"
    EVENT_ID = "a stream of server-sent events with Last-Event-ID"
    POLL = "a poll with since"
    POLL_HISTORY = "a poll with history"


class Resumer(Member):
    """A client that publishes nothing, and resumes all the time."""

    kind = Kind.RESUMER

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._session = secrets.token_hex(16)
        self._connection = 0
        self._cursors: dict[str, int] = {}  # the highest number received, by epoch
        self._epoch = ""
        self._seq = 0  # where this connection is
        self._due = 0  # where its replay ends at the earliest
        self._replayed = False
        self._leaving = False
        self._previous: ClientConnection | None = None
        self._noticer: Noticer | None = None

    @property
    def connected(self) -> bool:
        return bool(self.answer_count)

    @property
    def can_publish(self) -> bool:
        return False

    def _submit(self, text: str) -> None:
        raise AssertionError(text)

    async def leave(self) -> None:
        self._leaving = True

    async def run(self) -> None:
        while not self._leaving:
            way = self.random.choice(tuple(Way))
            with suppress(*FAILURES):
                await self._once(way)
            await asyncio.sleep(self.random.expovariate(1 / PAUSE_S))
        await self._drop_previous()

    async def _once(self, way: Way) -> None:
        query: dict[str, Any] = {"room": self.room}
        cursor, asked = self._choose_cursor(), 0
        if way in (Way.HISTORY, Way.POLL_HISTORY) or cursor is None:
            cursor, asked = None, self.random.randrange(MAX_SECTION)
            query["history"] = asked
        elif way is not Way.EVENT_ID:
            query["since"] = f"{cursor[0]}.{cursor[1]}"
        self._connection += 1
        since = ("", 0) if cursor is None else cursor
        self.record(Resumed, self.name, self._connection, *since, asked)
        if way in (Way.SOCKET, Way.TAKEOVER, Way.HISTORY):
            await self._use_socket(way, query)
        else:
            await self._use_stream(way, query, cursor)

    def _choose_cursor(self) -> tuple[str, int] | None:
        if not self._epoch:
            return None
        epoch = self._epoch
        old = [each for each in self._cursors if each != epoch]
        if old and self.random.random() < OLD_EPOCH_SHARE:
            epoch = old[-1]
        head = self._cursors[epoch]
        return epoch, self.random.randint(max(0, head - MAX_SECTION), head)

    # -- WebSockets --

    async def _use_socket(self, way: Way, query: dict[str, Any]) -> None:
        if way is not Way.TAKEOVER:
            await self._drop_previous()
        query |= {"name": self.name, "session": self._session}
        socket = await connect(
            f"{self.url}?{urlencode(query)}",
            subprotocols=[Subprotocol("broadcast.v1.json")],
            compression=None,
            proxy=None,
            max_queue=None,
            max_size=2**23,
            open_timeout=TIMEOUT_S,
            close_timeout=0.5,
        )
        await self._drop_previous()
        self._previous = socket
        self._noticer = Noticer(self, self._connection)
        await run_within(self._replay(socket), TIMEOUT_S)
        with suppress(asyncio.TimeoutError):
            await run_within(self._follow(socket), self.random.uniform(0, MAX_LINGER_S))

    async def _replay(self, socket: ClientConnection) -> None:
        await socket.send('{"type":"ping","id":"end"}')
        self._replayed = False
        while not self._replayed:
            self._take_lines(str(await socket.recv()).split("\n"))

    async def _follow(self, socket: ClientConnection) -> None:
        while True:
            self._take_lines(str(await socket.recv()).split("\n"))

    async def _drop_previous(self) -> None:
        if self._previous is not None:
            previous, self._previous = self._previous, None
            previous.transport.abort()
            await previous.wait_closed()

    # -- streams --

    async def _use_stream(
        self, way: Way, query: dict[str, Any], cursor: tuple[str, int] | None
    ) -> None:
        self._noticer = None
        is_poll = way in (Way.POLL, Way.POLL_HISTORY)
        if is_poll:
            query["poll"] = 1
        parts = urlsplit(self.url)
        # A response to HTTP/1.0 has no chunks. With chunks it shows whether it is complete.
        version = "1.1" if is_poll else "1.0"
        head = [f"GET /stream?{urlencode(query)} HTTP/{version}", f"Host: {parts.netloc}"]
        head.append("Connection: close")
        if way is Way.EVENT_ID and cursor is not None:
            head += ["Accept: text/event-stream", f"Last-Event-ID: {cursor[0]}.{cursor[1]}"]
        opening = asyncio.open_connection(parts.hostname, parts.port, limit=2**20)
        reader, writer = await run_within(opening, TIMEOUT_S)
        try:
            writer.write("\r\n".join([*head, "", ""]).encode())
            read = self._read_poll if is_poll else self._read_stream
            await run_within(read(reader), TIMEOUT_S)
        finally:
            writer.transport.abort()

    async def _read_poll(self, reader: asyncio.StreamReader) -> None:
        head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
        if b" 200 " not in head.partition(b"\r\n")[0]:
            return
        text = b""
        while body:
            size, _, body = body.partition(b"\r\n")
            length = int(size, 16)
            text, body = text + body[:length], body[length + 2 :]
            if not length:
                lines = text.decode().splitlines()
                self._take_lines(lines)
                # A server that ends a response early says so in its last event.
                if json.loads(lines[-1])["type"] != "error":
                    self.record(Replayed, self.name, self._connection)

    async def _read_stream(self, reader: asyncio.StreamReader) -> None:
        if b" 200 " not in await reader.readline():
            return
        while (await reader.readline()).strip():
            pass
        end = asyncio.get_running_loop().time() + self.random.uniform(0, MAX_LINGER_S)
        while line := await reader.readline():
            text = line.decode().strip().removeprefix("data: ")
            if line.endswith(b"\n") and text.startswith("{"):
                self._take_lines([text])
            if self._seq >= self._due and asyncio.get_running_loop().time() > end:
                return

    # -- what it receives --

    def _take_lines(self, lines: Sequence[str]) -> None:
        for line in lines:
            event = json.loads(line)
            if self._noticer is not None:
                self._noticer.take(event)
            match event["type"]:
                case "welcome":
                    fields = (event[key] for key in ("name", "epoch", "seq", "recovered", "missed"))
                    self.record(Welcomed, self.name, self._connection, *fields)
                    self._epoch, self._due, self._seq = event["epoch"], event["seq"], 0
                    self._cursors.setdefault(self._epoch, 0)
                    self.answer_count += 1
                case "message":
                    self._seq = event["seq"]
                    fields = (event[key] for key in ("seq", "name", "text"))
                    self.record(Received, self.name, self._connection, *fields)
                    self._cursors[self._epoch] = max(self._cursors[self._epoch], self._seq)
                    self.note_last(event["text"])
                case "pong":
                    self._replayed = True
                    self.record(Replayed, self.name, self._connection)
