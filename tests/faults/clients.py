"""The clients of a run: one class for each `Kind`, which records what it publishes and receives.

The docstring of `checker` says what each kind is promised. The clients check nothing, and repair
no more than their kind has to.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from random import Random
from typing import Any
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from broadcast_server.client.client import ClientError, ClientTimeouts, ReconnectingClient
from broadcast_server.client.session import ClientSession
from broadcast_server.protocol.messages import Event, Heartbeat, Message, Welcome

from .history import (
    Acknowledged,
    Closed,
    GaveUp,
    HeartbeatReceived,
    Kind,
    Line,
    Noticed,
    Opened,
    PingSent,
    PongReceived,
    ProcessFault,
    Published,
    Received,
    Record,
    Rejected,
    Sent,
    Welcomed,
)

FINAL_SUFFIX = ".last"
"""Ends the message that one client publishes when all others are silent.

A client that has received it has received everything.
"""

FINAL_CODES = range(4500, 5000)
"""Close codes after which a client does not reconnect."""

REPLACED_CODE = 4504

HANDSHAKE_TIMEOUT_S = 4.0
"""After this time, an attempt to connect is given up. `FaultKind.LATE` delays some for longer."""

TOO_LONG_BYTES = 2**15 + 1
"""One byte more than a message may have."""

PROGRAM = (sys.executable, "-W", "error", "-m", "broadcast_server")


class Recorder:
    """Collects the records of all clients in one order."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._begin = time.monotonic()

    @property
    def now(self) -> float:
        """Seconds since the beginning of the run."""
        return time.monotonic() - self._begin

    def __call__(self, kind: Callable[..., Record], *values: Any) -> None:
        """Append a record of *kind*, with the time and *values*."""
        self.records.append(kind(self.now, *values))


class Member(ABC):
    """One client in one room."""

    kind: Kind

    def __init__(self, name: str, room: str, url: str, record: Recorder, random: Random) -> None:
        self.name = name
        self.room = room
        self.url = url
        self.record = record
        self.random = random
        self.unanswered: dict[str, None] = {}  # texts without an answer, in order
        self.last_received = ""  # the newest message with FINAL_SUFFIX
        self.answer_count = 0
        self.gave_up = False
        self._count = 0
        self._task: asyncio.Task[None] | None = None

    # -- what each kind implements --

    @property
    @abstractmethod
    def connected(self) -> bool:
        """Whether the client is in the room, as far as it knows."""

    @abstractmethod
    def _submit(self, text: str) -> None:
        """Send *text*, or queue it."""

    @abstractmethod
    async def run(self) -> None:
        """Connect, and read until the client leaves."""

    @abstractmethod
    async def leave(self) -> None:
        """Make `run` return."""

    @property
    def can_publish(self) -> bool:
        """Whether the client can publish now."""
        return True

    # -- what all kinds do --

    def start(self) -> None:
        """Start `run` in a task."""
        self._task = asyncio.ensure_future(self.run())

    async def stop(self) -> None:
        """Leave, and wait for the task."""
        await self.leave()
        if self._task is not None:
            await self._task

    async def publish_at_random(self, pause: float) -> None:
        """Publish until cancelled, with random pauses of *pause* seconds on average."""
        while True:
            await asyncio.sleep(self.random.expovariate(1 / pause))
            for _ in range(self.random.choice((1, 1, 1, 2, 5))):
                self.publish(self._random_text())

    def flood(self) -> None:
        """Publish about 900 KB at once."""
        for _ in range(300):
            self.publish(f"{self._next_word()} {'z' * 3000}")

    def publish_first(self) -> None:
        """Publish a message, unless one is unanswered."""
        if not self.unanswered:
            self.publish(self._next_word())

    def publish_last(self) -> str:
        """Publish a message with `FINAL_SUFFIX`, and return it."""
        text = f"{self._next_word()}{FINAL_SUFFIX}"
        self.publish(text)
        return text

    def publish(self, text: str) -> None:
        """Publish *text*, if the client can publish now."""
        if self.can_publish and not self.gave_up:
            self.record(Published, self.name, text)
            self.unanswered[text] = None
            self._submit(text)

    def _next_word(self) -> str:
        self._count += 1
        return f"{self.name}.{self._count}"

    def _random_text(self) -> str:
        """Return a unique text: short, long, of two lines, or too long."""
        word = self._next_word()
        match self.random.randrange(12):
            case 0:
                return f"{word} {'y' * self.random.randrange(3000)}"
            case 1 if self.kind in (Kind.OURS, Kind.INDEPENDENT, Kind.STATELESS):
                return f"{word} and\n{word} more"
            case 2 if self.kind in (Kind.INDEPENDENT, Kind.STATELESS):
                return f"{word} {'x' * TOO_LONG_BYTES}"
        return word

    def note_last(self, text: str) -> None:
        """Remember *text* if it is the last message of the run."""
        if text.endswith(FINAL_SUFFIX):
            self.last_received = text

    def note_answer(
        self, kind: type[Acknowledged] | type[Rejected], connection: int, text: str
    ) -> None:
        """Record that *text* was acknowledged or rejected, the first time."""
        if text in self.unanswered:
            del self.unanswered[text]
            self.answer_count += 1
            self.record(kind, self.name, connection, text)

    def give_up(self, reason: str) -> None:
        """Record that the client does not reconnect any more."""
        self.gave_up = True
        self.record(GaveUp, self.name, reason)


class Noticer:
    """Records what one connection of a JSON client is told about members."""

    def __init__(self, member: Member, connection: int) -> None:
        self._member = member
        self._connection = connection

    def take(self, event: dict[str, Any]) -> None:
        """Record *event* if it is about members."""
        match event["type"]:
            case "welcome" | "members":
                names = tuple(event["members"])
            case "joined" | "left":
                names = (event["name"],)
            case "renamed":
                names = event["name"], event["to"]
            case _:
                return
        fields = self._member.name, self._connection, event["type"], names, event.get("count")
        self._member.record(Noticed, *fields)


# -- our own client ----------------------------------------------------------------


class LibraryClient(Member):
    """`ReconnectingClient` and `ClientSession`, with a sink that records all events."""

    kind = Kind.OURS

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._session = ClientSession(self.name, self.room)
        self._client = self._new()
        self._connection = 0

    @property
    def connected(self) -> bool:
        return self._session.live

    @property
    def can_publish(self) -> bool:
        return not self._session.full

    def _submit(self, text: str) -> None:
        self._client.send(text)

    def _new(self) -> ReconnectingClient:
        timeouts = ClientTimeouts(
            first_delay=0.2, max_delay=1.0, handshake=HANDSHAKE_TIMEOUT_S, close=0.5
        )
        return ReconnectingClient(self.url, {}, self._session, timeouts=timeouts)

    async def run(self) -> None:
        while True:
            try:
                await self._client.run(self)
                return
            except ClientError as failed:
                if self._client.has_been_live:
                    self.give_up(str(failed))
                    return
            # The first connection failed, which ends `run`: start again, as its user would.
            self._client = self._new()

    async def leave(self) -> None:
        if not len(self._session):
            for text in tuple(self.unanswered):
                self.note_answer(Acknowledged, self._connection, text)
        self._client.leave()

    # -- the sink --

    def show(self, events: list[Event]) -> None:
        """Record events."""
        for event in events:
            match event:
                case Welcome():
                    self._connection += 1
                    _record_welcome(self, self._connection, event)
                case Message():
                    fields = event.seq, event.name, event.text
                    self.record(Received, self.name, self._connection, *fields)
                    self.note_last(event.text)
                    self.note_answer(Acknowledged, self._connection, event.text)
                case Heartbeat(seq=seq):
                    self.record(HeartbeatReceived, self.name, self._connection, seq)

    def note(self, text: str) -> None:
        """Record that a connection ended."""
        self.record(Closed, self.name, self._connection, 1006)

    async def drain(self) -> None:
        """Return at once: this sink is always ready."""


def _record_welcome(member: Member, connection: int, welcome: Welcome) -> None:
    fields = welcome.name, welcome.epoch, welcome.seq, welcome.recovered, welcome.missed
    member.record(Welcomed, member.name, connection, *fields)


# -- our own client, as a process ----------------------------------------------------


class PipeClient(Member):
    """``connect --listen`` in a process of its own."""

    kind = Kind.PIPE
    options: Sequence[str] = ()

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._process: asyncio.subprocess.Process | None = None
        self._connection = 0
        self._errors = b""
        self._leaving = False
        self._joined = False

    @property
    def connected(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def can_publish(self) -> bool:
        return self.connected and len(self.unanswered) < 500

    def _submit(self, text: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode() + b"\n")

    async def run(self) -> None:
        await self._start()
        while not (self._leaving or self._joined):
            # The first connection failed, which ends `run`: start again, as its user would.
            await self._start()

    async def _start(self) -> None:
        options = "--name", self.name, "--room", self.room
        self._errors = b""
        self._process = await asyncio.create_subprocess_exec(
            *(*PROGRAM, "connect", self.url, *options, "--listen", *self.options),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self.record(Opened, self.name, self._connection)
        try:
            await asyncio.gather(self._read(), self._read_errors())
            code = await self._process.wait()
        except asyncio.CancelledError:
            self._process.kill()
            await self._process.wait()
            raise
        errors = self._errors.decode()
        if not self._leaving and self._joined:
            self.give_up(f"exit code {code}: {errors[-200:]}")
        elif code == 0:  # 0 means that all input was acknowledged
            for text in tuple(self.unanswered):
                self.note_answer(Acknowledged, self._connection, text)
        for word in ("Traceback", "Warning", "never retrieved", "Fatal"):
            if word in errors:
                self.record(ProcessFault, f"{self.name}: {errors[-2000:]}")

    async def leave(self) -> None:
        self._leaving = True
        if self.connected and self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.send_signal(signal.SIGTERM)

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        rest = b""
        while data := await self._process.stdout.read(2**16):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._joined = True
                self.line(line.decode())

    async def _read_errors(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        while data := await self._process.stderr.read(2**16):
            self._errors += data
            for _ in range(data.count(b"trying again")):  # printed once for each connection
                self.record(Closed, self.name, self._connection, 1006)

    def line(self, line: str) -> None:
        """Record a line of the process's output."""
        self.record(Line, self.name, self._connection, line)
        name, _, text = line.partition(": ")
        self.note_last(text)
        if name == self.name:
            self.note_answer(Acknowledged, self._connection, text)


class JsonPipeClient(PipeClient):
    """``connect --listen --json`` in a process of its own."""

    kind = Kind.PIPE_JSON
    options = ("--json",)

    def line(self, line: str) -> None:
        event = json.loads(line)
        match event["type"]:
            case "welcome":
                self._connection += 1
                fields = (event[key] for key in ("name", "epoch", "seq", "recovered", "missed"))
                self.record(Welcomed, self.name, self._connection, *fields)
            case "message":
                fields = (event[key] for key in ("seq", "name", "text"))
                self.record(Received, self.name, self._connection, *fields)
                self.note_last(event["text"])
                if event["name"] == self.name:
                    self.note_answer(Acknowledged, self._connection, event["text"])
            case "head":
                self.record(HeartbeatReceived, self.name, self._connection, event["seq"])


# -- clients that are not ours ---------------------------------------------------------


class SocketClient(Member):
    """A client that uses a WebSocket library only; it reconnects within 0.4 seconds."""

    as_json = True

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.connection = 0
        self.socket: ClientConnection | None = None
        self.joined = False
        self._uncertain_attempts = 0  # attempts that failed here, but may have joined there
        self.unsent: list[str] = []
        self._wake = asyncio.Event()
        self._leaving = False

    @property
    def connected(self) -> bool:
        return self.joined

    def query(self) -> dict[str, str]:
        """Return the URL parameters of the next connection."""
        return {"name": self.name, "room": self.room}

    def lines(self, texts: Sequence[str]) -> list[str]:
        """Return the lines to send for *texts*, and perhaps further ones."""
        return list(texts)

    def line(self, line: str) -> None:
        """Process a received line."""
        raise NotImplementedError

    def lost(self) -> None:
        """Update the state after a connection ended."""
        self.unsent.clear()
        self.unanswered.clear()

    def _submit(self, text: str) -> None:
        self.unsent.append(text)
        self._wake.set()

    async def leave(self) -> None:
        self._leaving = True
        if self.socket is not None:
            await self.socket.close()

    async def run(self) -> None:
        while not (self._leaving or self.gave_up):
            await self._once()
            await asyncio.sleep(self.random.uniform(0, 0.4))

    async def _once(self) -> None:
        try:
            socket = await connect(
                f"{self.url}?{urlencode(self.query())}",
                subprotocols=[Subprotocol("broadcast.v1.json")] if self.as_json else None,
                compression=None,
                proxy=None,
                max_queue=None,
                max_size=2**23,
                open_timeout=HANDSHAKE_TIMEOUT_S,
                close_timeout=0.5,
                ping_interval=4.0,
                ping_timeout=4.0,
            )
        except (OSError, InvalidHandshake, asyncio.TimeoutError, EOFError):
            self._uncertain_attempts += 1
            return
        if self._leaving:  # since it began to connect
            await socket.close()
            return
        self.connection += 1
        self.record(Opened, self.name, self.connection)
        self.socket = socket
        self.opened()
        sending = asyncio.ensure_future(self._send(socket))
        code = 1006
        try:
            while True:
                frame = str(await socket.recv())
                for line in frame.split("\n"):
                    self.line(line)
        except ConnectionClosed as closed:
            code = 1006 if closed.rcvd is None else closed.rcvd.code
        finally:
            self.socket, self.joined = None, False
            self.lost()
            self.record(Closed, self.name, self.connection, code)
            sending.cancel()
            await asyncio.wait({sending})
        if code == REPLACED_CODE and self._uncertain_attempts:
            # An attempt that had timed out here reached the server after all, and took over.
            self._uncertain_attempts -= 1
        elif code in FINAL_CODES:
            self.give_up(f"closed with {code}")

    def opened(self) -> None:
        """Update the state after a connection was opened."""
        self.joined = True

    async def _send(self, socket: ClientConnection) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                if not self.joined:
                    continue
                texts, self.unsent = self.unsent[:20], self.unsent[20:]
                if self.unsent:
                    self._wake.set()
                for text in texts:
                    self.record(Sent, self.name, self.connection, text)
                if lines := self.lines(texts):
                    await socket.send("\n".join(lines))
        except ConnectionClosed:  # the reader gets the same exception
            pass


class TextClient(SocketClient):
    """A client that sends and receives plain text."""

    kind = Kind.TEXT
    as_json = False

    @property
    def can_publish(self) -> bool:
        return self.connected

    def line(self, line: str) -> None:
        self.record(Line, self.name, self.connection, line)
        _, _, text = line.partition(": ")
        self.note_last(text)
        self.note_answer(Acknowledged, self.connection, text)


class StatelessClient(SocketClient):
    """A JSON client without a session or cursor: it is a new client on each connection."""

    kind = Kind.STATELESS

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._asked = self.random.choice((0, 20))
        self._ids: dict[str, str] = {}  # id -> text

    @property
    def can_publish(self) -> bool:
        return self.connected

    def query(self) -> dict[str, str]:
        return {**super().query(), "history": str(self._asked)}

    async def publish_at_random(self, pause: float) -> None:
        publishing = asyncio.ensure_future(super().publish_at_random(pause))
        try:
            while True:
                await asyncio.sleep(self.random.uniform(0.5, 5))
                if self.socket is not None:
                    await self.socket.close()
        finally:
            publishing.cancel()
            await asyncio.wait({publishing})

    def opened(self) -> None:
        """Do nothing: the client has joined when it is welcomed."""

    def lines(self, texts: Sequence[str]) -> list[str]:
        requests = ({"type": "say", "text": text, "id": self.id_of(text)} for text in texts)
        lines = [json.dumps(request) for request in requests]
        if self.random.random() < 0.2:
            id = secrets.token_hex(4)
            lines.append(json.dumps({"type": "ping", "id": id}))
            self.record(PingSent, self.name, self.connection, id)
        return lines

    def id_of(self, text: str) -> str:
        """Return the id for *text*, and remember which text it is for."""
        id = text.split(maxsplit=1)[0]
        self._ids[id] = text
        return id

    def line(self, line: str) -> None:
        event = json.loads(line)
        Noticer(self, self.connection).take(event)
        match event["type"]:
            case "welcome":
                fields = (event[key] for key in ("name", "epoch", "seq", "recovered", "missed"))
                self.record(Welcomed, self.name, self.connection, *fields, self._asked)
                self.on_welcome(event)
                self.joined = True
                self._wake.set()
            case "message":
                self.on_message(event)
            case "error":
                text = self._ids.get(event.get("id", ""))
                if text is not None:
                    kind = Acknowledged if event["code"] == "duplicate" else Rejected
                    self.note_answer(kind, self.connection, text)
            case "pong":
                self.record(PongReceived, self.name, self.connection, event["id"])
            case "head":
                self.record(HeartbeatReceived, self.name, self.connection, event["seq"])

    def on_welcome(self, event: dict[str, Any]) -> None:
        """Process a welcome."""

    def on_message(self, event: dict[str, Any]) -> None:
        """Process a message."""
        fields = event["seq"], event["name"], event["text"]
        self.record(Received, self.name, self.connection, *fields)
        self.note_last(event["text"])
        self.note_answer(Acknowledged, self.connection, event["text"])


class IndependentClient(StatelessClient):
    """A JSON client with a session and cursor, which resends unanswered messages at once."""

    kind = Kind.INDEPENDENT

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._session = secrets.token_hex(16)
        self._epoch = ""
        self._seq = 0
        self._asked = 0

    @property
    def can_publish(self) -> bool:
        return len(self.unanswered) < 500

    def query(self) -> dict[str, str]:
        since = {"since": f"{self._epoch}.{self._seq}"} if self._epoch else {}
        return {"name": self.name, "room": self.room, "session": self._session, **since}

    async def publish_at_random(self, pause: float) -> None:
        await Member.publish_at_random(self, pause)

    def lost(self) -> None:
        self.unsent.clear()

    def _submit(self, text: str) -> None:
        if self.connected:
            super()._submit(text)

    def on_welcome(self, event: dict[str, Any]) -> None:
        if not self._epoch:
            self._seq = event["seq"]
        elif event["missed"] is None:
            self._seq = 0
        else:
            self._seq += event["missed"]
        self._epoch = event["epoch"]
        self.unsent = list(self.unanswered)

    def on_message(self, event: dict[str, Any]) -> None:
        self._seq = max(self._seq, event["seq"])
        super().on_message(event)


CLIENTS: dict[Kind, type[Member]] = {
    each.kind: each
    for each in (
        LibraryClient,
        PipeClient,
        JsonPipeClient,
        TextClient,
        StatelessClient,
        IndependentClient,
    )
}
