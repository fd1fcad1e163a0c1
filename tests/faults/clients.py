"""The clients: all kinds of them, each of which takes down what it says and hears.

What each kind is promised stands at the head of `checker`. The recorders here judge
nothing, and heal nothing that they need not.
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

from broadcast_server.client import Client, Failed, Pace
from broadcast_server.conversation import Conversation
from broadcast_server.protocol import Event, Head, Message, Welcome

from .history import (
    Acknowledged,
    Closed,
    Complained,
    GaveUp,
    Headed,
    Heard,
    Kind,
    Line,
    Opened,
    Pinged,
    Ponged,
    Record,
    Refused,
    Said,
    Sent,
    Welcomed,
)

LAST = ".last"
"""Ends what one says when all others are silent: who has heard that has heard everything."""

FINAL = range(4500, 5000)
"""Codes after which a client stays away."""

REPLACED = 4504

ANSWER = 4.0
"""Seconds after which an attempt is given up: less than an attempt may be late."""

TOO_LONG = 4097
"""Bytes that no message may have."""

PROGRAM = (sys.executable, "-W", "error", "-m", "broadcast_server")


class Recorder:
    """Puts records in one order."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._begin = time.monotonic()

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._begin

    def __call__(self, kind: Callable[..., Record], *values: Any) -> None:
        """Take down a record of *kind*."""
        self.records.append(kind(self.now, *values))


class Member(ABC):
    """One client of one room."""

    kind: Kind

    def __init__(self, name: str, room: str, url: str, record: Recorder, random: Random) -> None:
        self.name = name
        self.room = room
        self.url = url
        self.record = record
        self.random = random
        self.owed: dict[str, None] = {}  # what has no answer, in order
        self.last = ""  # the newest last words that it heard
        self.answers = 0
        self.gone = False
        self._count = 0
        self._task: asyncio.Task[None] | None = None

    # -- what a kind fills in --

    @property
    @abstractmethod
    def connected(self) -> bool:
        """Whether it is in the room, as far as it knows."""

    @abstractmethod
    def say(self, text: str) -> None:
        """Say *text*."""

    @abstractmethod
    async def run(self) -> None:
        """Take part."""

    @abstractmethod
    async def leave(self) -> None:
        """Leave."""

    @property
    def speaks(self) -> bool:
        """Whether it may say something now."""
        return True

    # -- what all do --

    def start(self) -> None:
        """Begin to take part."""
        self._task = asyncio.ensure_future(self.run())

    async def stop(self) -> None:
        """Leave, and be gone."""
        await self.leave()
        if self._task is not None:
            await self._task

    async def talk(self, pause: float) -> None:
        """Say things until cancelled, after pauses of so many seconds on average."""
        while True:
            await asyncio.sleep(self.random.expovariate(1 / pause))
            for _ in range(self.random.choice((1, 1, 1, 2, 5))):
                self.speak(self._words())

    def flood(self) -> None:
        """Say very much."""
        for _ in range(300):
            self.speak(f"{self._next()} {'z' * 3000}")

    def say_first(self) -> None:
        """Say something until something comes back."""
        if not self.owed:
            self.speak(self._next())

    def say_last(self) -> str:
        """Say last words, and return them."""
        words = f"{self._next()}{LAST}"
        self.speak(words)
        return words

    def speak(self, text: str) -> None:
        """Say *text*, if anything may be said."""
        if self.speaks and not self.gone:
            self.record(Said, self.name, text)
            self.owed[text] = None
            self.say(text)

    def _next(self) -> str:
        self._count += 1
        return f"{self.name}.{self._count}"

    def _words(self) -> str:
        """Think of something to say: short, long, or of two lines."""
        word = self._next()
        match self.random.randrange(12):
            case 0:
                return f"{word} {'y' * self.random.randrange(3000)}"
            case 1 if self.kind in (Kind.OURS, Kind.APART, Kind.VISITOR):
                return f"{word} and\n{word} more"
            case 2 if self.kind in (Kind.APART, Kind.VISITOR):
                return f"{word} {'x' * TOO_LONG}"
        return word

    def hear(self, text: str) -> None:
        """Note last words."""
        if text.endswith(LAST):
            self.last = text

    def answered(
        self, kind: type[Acknowledged] | type[Refused], connection: int, text: str
    ) -> None:
        """Note that *text* needs no further answer."""
        if text in self.owed:
            del self.owed[text]
            self.answers += 1
            self.record(kind, self.name, connection, text)

    def give_up(self, reason: str) -> None:
        """Note that it stays away."""
        self.gone = True
        self.record(GaveUp, self.name, reason)


# -- our own client ----------------------------------------------------------------


class Ours(Member):
    """`Client` and `Conversation`, with a door that takes down what it is shown."""

    kind = Kind.OURS

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._conversation = Conversation(self.name, self.room)
        self._client = self._new()
        self._connection = 0

    @property
    def connected(self) -> bool:
        return self._conversation.live

    @property
    def speaks(self) -> bool:
        return not self._conversation.full

    def say(self, text: str) -> None:
        self._client.say(text)

    def _new(self) -> Client:
        pace = Pace(first=0.2, longest=1.0, answer=ANSWER, goodbye=0.5)
        return Client(self.url, {}, self._conversation, pace)

    async def run(self) -> None:
        while True:
            try:
                await self._client.run(self)
                return
            except Failed as failed:
                if self._client.been_live:
                    self.give_up(str(failed))
                    return
            # It could not come in at all: whoever runs it starts it again.
            self._client = self._new()

    async def leave(self) -> None:
        if not len(self._conversation):
            for text in tuple(self.owed):
                self.answered(Acknowledged, self._connection, text)
        self._client.leave()

    # -- the door --

    def show(self, events: list[Event]) -> None:
        """Take down events."""
        for event in events:
            match event:
                case Welcome():
                    self._connection += 1
                    _welcomed(self, self._connection, event)
                case Message():
                    heard = event.seq, event.name, event.text
                    self.record(Heard, self.name, self._connection, *heard)
                    self.hear(event.text)
                    self.answered(Acknowledged, self._connection, event.text)
                case Head(seq=seq):
                    self.record(Headed, self.name, self._connection, seq)

    def note(self, text: str) -> None:
        """Take down that a connection ended."""
        self.record(Closed, self.name, self._connection, 1006)

    async def drain(self) -> None:
        """Be always ready."""


def _welcomed(member: Member, connection: int, welcome: Welcome) -> None:
    told = welcome.name, welcome.epoch, welcome.seq, welcome.recovered, welcome.missed
    member.record(Welcomed, member.name, connection, *told)


# -- our own client, as a process ----------------------------------------------------


class Pipe(Member):
    """``connect --listen`` in a process of its own."""

    kind = Kind.PIPE
    options: Sequence[str] = ()

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._process: asyncio.subprocess.Process | None = None
        self._connection = 0
        self._errors = b""
        self._leaving = False
        self._in = False

    @property
    def connected(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def speaks(self) -> bool:
        return self.connected and len(self.owed) < 500

    def say(self, text: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode() + b"\n")

    async def run(self) -> None:
        await self._start()
        while not (self._leaving or self._in):
            # It could not come in at all: whoever runs it starts it again.
            await self._start()

    async def _start(self) -> None:
        who = "--name", self.name, "--room", self.room
        self._errors = b""
        self._process = await asyncio.create_subprocess_exec(
            *(*PROGRAM, "connect", self.url, *who, "--listen", *self.options),
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
        if not self._leaving and self._in:
            self.give_up(f"exit code {code}: {errors[-200:]}")
        elif code == 0:  # it says itself that all has come back
            for text in tuple(self.owed):
                self.answered(Acknowledged, self._connection, text)
        for word in ("Traceback", "Warning", "never retrieved", "Fatal"):
            if word in errors:
                self.record(Complained, f"{self.name}: {errors[-2000:]}")

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
                self._in = True
                self.line(line.decode())

    async def _read_errors(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        while data := await self._process.stderr.read(2**16):
            self._errors += data
            for _ in range(data.count(b"trying again")):  # it says so once a connection
                self.record(Closed, self.name, self._connection, 1006)

    def line(self, line: str) -> None:
        """Take down a line of its output."""
        self.record(Line, self.name, self._connection, line)
        name, _, text = line.partition(": ")
        self.hear(text)
        if name == self.name:
            self.answered(Acknowledged, self._connection, text)


class PipeJson(Pipe):
    """``connect --listen --json`` in a process of its own."""

    kind = Kind.PIPE_JSON
    options = ("--json",)

    def line(self, line: str) -> None:
        event = json.loads(line)
        match event["type"]:
            case "welcome":
                self._connection += 1
                told = (event[key] for key in ("name", "epoch", "seq", "recovered", "missed"))
                self.record(Welcomed, self.name, self._connection, *told)
            case "message":
                heard = (event[key] for key in ("seq", "name", "text"))
                self.record(Heard, self.name, self._connection, *heard)
                self.hear(event["text"])
                if event["name"] == self.name:
                    self.answered(Acknowledged, self._connection, event["text"])
            case "head":
                self.record(Headed, self.name, self._connection, event["seq"])


# -- clients that are not ours ---------------------------------------------------------


class Dialler(Member):
    """A client on a WebSocket library alone: it dials, and comes back soon."""

    as_json = True

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.connection = 0
        self.socket: ClientConnection | None = None
        self.inside = False
        self._unseen = 0  # attempts that came to nothing here, and perhaps to something there
        self.unsent: list[str] = []
        self._wake = asyncio.Event()
        self._leaving = False

    @property
    def connected(self) -> bool:
        return self.inside

    def query(self) -> dict[str, str]:
        """Return what it asks for."""
        return {"name": self.name, "room": self.room}

    def lines(self, texts: Sequence[str]) -> list[str]:
        """Return *texts* as lines to send, and perhaps others."""
        return list(texts)

    def line(self, line: str) -> None:
        """Take a line."""
        raise NotImplementedError

    def lost(self) -> None:
        """Note that a connection ended."""
        self.unsent.clear()
        self.owed.clear()

    def say(self, text: str) -> None:
        self.unsent.append(text)
        self._wake.set()

    async def leave(self) -> None:
        self._leaving = True
        if self.socket is not None:
            await self.socket.close()

    async def run(self) -> None:
        while not (self._leaving or self.gone):
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
                open_timeout=ANSWER,
                close_timeout=0.5,
                ping_interval=4.0,
                ping_timeout=4.0,
            )
        except (OSError, InvalidHandshake, asyncio.TimeoutError, EOFError):
            self._unseen += 1
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
            self.socket, self.inside = None, False
            self.lost()
            self.record(Closed, self.name, self.connection, code)
            sending.cancel()
            await asyncio.wait({sending})
        if code == REPLACED and self._unseen:
            # An attempt of which it saw no end came through after all, and was the newer one.
            self._unseen -= 1
        elif code in FINAL:
            self.give_up(f"closed with {code}")

    def opened(self) -> None:
        """Take a new connection."""
        self.inside = True

    async def _send(self, socket: ClientConnection) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                if not self.inside:
                    continue
                texts, self.unsent = self.unsent[:20], self.unsent[20:]
                if self.unsent:
                    self._wake.set()
                for text in texts:
                    self.record(Sent, self.name, self.connection, text)
                if lines := self.lines(texts):
                    await socket.send("\n".join(lines))
        except ConnectionClosed:  # who receives is told as well
            pass


class Text(Dialler):
    """A client that reads and writes lines."""

    kind = Kind.TEXT
    as_json = False

    @property
    def speaks(self) -> bool:
        return self.connected

    def line(self, line: str) -> None:
        self.record(Line, self.name, self.connection, line)
        _, _, text = line.partition(": ")
        self.hear(text)
        self.answered(Acknowledged, self.connection, text)


class Visitor(Dialler):
    """A client that speaks JSON, and is new each time it comes."""

    kind = Kind.VISITOR

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.restless = True
        self._asked = self.random.choice((0, 20))
        self._ids: dict[str, str] = {}  # by id, what was said under it

    @property
    def speaks(self) -> bool:
        return self.connected

    def query(self) -> dict[str, str]:
        return {**super().query(), "history": str(self._asked)}

    async def talk(self, pause: float) -> None:
        talking = asyncio.ensure_future(super().talk(pause))
        try:
            while True:
                await asyncio.sleep(self.random.uniform(0.5, 5))
                if self.socket is not None:
                    await self.socket.close()
        finally:
            talking.cancel()
            await asyncio.wait({talking})

    def opened(self) -> None:
        """Do nothing: it is in when it is welcomed."""

    def lines(self, texts: Sequence[str]) -> list[str]:
        says = ({"type": "say", "text": text, "id": self.id_of(text)} for text in texts)
        lines = [json.dumps(say) for say in says]
        if self.random.random() < 0.2:
            id = secrets.token_hex(4)
            lines.append(json.dumps({"type": "ping", "id": id}))
            self.record(Pinged, self.name, self.connection, id)
        return lines

    def id_of(self, text: str) -> str:
        """Return the id under which it says *text*."""
        id = text.split(maxsplit=1)[0]
        self._ids[id] = text
        return id

    def line(self, line: str) -> None:
        event = json.loads(line)
        match event["type"]:
            case "welcome":
                told = (event[key] for key in ("name", "epoch", "seq", "recovered", "missed"))
                self.record(Welcomed, self.name, self.connection, *told, self._asked)
                self.welcomed(event)
                self.inside = True
                self._wake.set()
            case "message":
                self.message(event)
            case "error":
                text = self._ids.get(event.get("id", ""))
                if text is not None:
                    kind = Acknowledged if event["code"] == "duplicate" else Refused
                    self.answered(kind, self.connection, text)
            case "pong":
                self.record(Ponged, self.name, self.connection, event["id"])
            case "head":
                self.record(Headed, self.name, self.connection, event["seq"])

    def welcomed(self, event: dict[str, Any]) -> None:
        """Take a welcome."""

    def message(self, event: dict[str, Any]) -> None:
        """Take a message."""
        heard = event["seq"], event["name"], event["text"]
        self.record(Heard, self.name, self.connection, *heard)
        self.hear(event["text"])
        self.answered(Acknowledged, self.connection, event["text"])


class Apart(Visitor):
    """A client that comes back by its cursor and says again what has no answer, at once."""

    kind = Kind.APART

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._session = secrets.token_hex(16)
        self._epoch = ""
        self._seq = 0
        self._asked = 0

    @property
    def speaks(self) -> bool:
        return len(self.owed) < 500

    def query(self) -> dict[str, str]:
        since = {"since": f"{self._epoch}.{self._seq}"} if self._epoch else {}
        return {"name": self.name, "room": self.room, "session": self._session, **since}

    async def talk(self, pause: float) -> None:
        await Member.talk(self, pause)

    def lost(self) -> None:
        self.unsent.clear()

    def say(self, text: str) -> None:
        if self.connected:
            super().say(text)

    def welcomed(self, event: dict[str, Any]) -> None:
        if not self._epoch:
            self._seq = event["seq"]
        elif event["missed"] is None:
            self._seq = 0
        else:
            self._seq += event["missed"]
        self._epoch = event["epoch"]
        self.unsent = list(self.owed)

    def message(self, event: dict[str, Any]) -> None:
        self._seq = max(self._seq, event["seq"])
        super().message(event)


CLIENTS: dict[Kind, type[Member]] = {
    each.kind: each for each in (Ours, Pipe, PipeJson, Text, Visitor, Apart)
}
