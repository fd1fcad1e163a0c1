"""Deployments: everything that a transcript can be played against, behind one interface.

A `BareDeployment` is only the room: it has no sockets, processes or fan-out. The others are
servers, to which clients connect. Where two deployments behave differently, one of them is wrong.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from ssl import SSLContext
from types import MappingProxyType
from urllib.parse import urlsplit
from urllib.request import urlopen

from programs import pause
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from broadcast_server.console.time_limit import run_within
from broadcast_server.protocol.codec import encode_json, encode_text
from broadcast_server.protocol.join import JoinRequest, parse_join
from broadcast_server.protocol.messages import (
    ABNORMAL_CLOSURE,
    NORMAL_CLOSURE,
    SUBPROTOCOL,
    CloseCode,
    Error,
    Event,
    Format,
    PrivateMessage,
)
from broadcast_server.protocol.operators import OPERATOR_HEADER
from broadcast_server.protocol.session_key import SESSION_HEADER, SessionKey
from broadcast_server.rooms.actions import (
    Action,
    Close,
    Operate,
    Publish,
    PublishLines,
    Send,
    SendPrivate,
    Subscribe,
)
from broadcast_server.rooms.hiding import hide
from broadcast_server.rooms.kept_names import KeptNames
from broadcast_server.rooms.message_log import MessageLog
from broadcast_server.rooms.participant import Participant
from broadcast_server.rooms.room import Room
from broadcast_server.rooms.sqlite_log import SQLiteLog
from broadcast_server.server.server import Server
from broadcast_server.server.settings import Settings
from broadcast_server.server.tls import ReloadableCertificate

NOTHING: Mapping[str, str] = MappingProxyType({})

ANSWER_TIMEOUT_S = 30.0
"""How long a deployment may take to answer, in seconds."""


class DeploymentClient(ABC):
    """One client of a deployment. It sends frames and reads lines."""

    @abstractmethod
    async def send(self, frame: str | bytes, *, text: bool = True) -> None:
        """Send a frame, a text frame unless *text* is false."""

    @abstractmethod
    async def line(self) -> str:
        """Return the next line. Raises EOFError with the close code when it is closed."""

    @abstractmethod
    async def close(self) -> None:
        """Close the connection as a client should."""

    @abstractmethod
    async def vanish(self) -> None:
        """Cut the connection without a closing handshake."""


class Deployment(ABC):
    """Something that clients can connect to."""

    @abstractmethod
    async def open(
        self,
        target: str,
        *,
        as_json: bool,
        headers: Mapping[str, str] = NOTHING,
        offered: Sequence[str] = (),
    ) -> DeploymentClient:
        """Connect a client to *target*, for example ``/?name=bob``.

        It sends *headers*, and offers the subprotocols *offered* besides that for JSON.
        """

    operator_tokens: Mapping[str, str] = MappingProxyType({})
    """The tokens of moderators' accounts by their names, where an operator shows no key."""

    def stay_in_one_process(self) -> None:  # noqa: B027  # most have one only
        """Have all further clients connect to the same process."""

    async def emptied(self, room: str) -> None:  # noqa: B027  # one process knows at once
        """Wait until all processes know that the last client has left *room*."""


# -- the bare room ------------------------------------------------------------


class BareClient(DeploymentClient):
    """A client of a bare deployment: a queue of lines."""

    def __init__(self, deployment: BareDeployment, room: str) -> None:
        self.deployment = deployment
        self.room = room
        self.lines: deque[str] = deque()
        self.code: int | None = None
        self.participant: Participant | None = None
        self.subscribed = False

    async def send(self, frame: str | bytes, *, text: bool = True) -> None:
        assert isinstance(frame, str) and self.participant is not None
        self.deployment.execute(
            self.room, self.deployment.rooms[self.room].receive(self.participant, frame)
        )

    async def line(self) -> str:
        if self.lines:
            return self.lines.popleft()
        if self.code is not None:
            raise EOFError(self.code)
        raise TimeoutError("no line")

    async def close(self) -> None:
        self._leave(NORMAL_CLOSURE)

    async def vanish(self) -> None:
        self._leave(ABNORMAL_CLOSURE)

    def _leave(self, code: int) -> None:
        assert self.participant is not None
        if self.deployment.clients.pop(self.participant, None):
            self.deployment.execute(
                self.room, self.deployment.rooms[self.room].disconnect(self.participant, code)
            )
        self.code = self.code or 1005

    def receive(self, event: Event) -> None:
        """Add the lines of one event."""
        assert self.participant is not None
        as_json = self.participant.join.format is Format.JSON
        line = encode_json(event) if as_json else encode_text(event)
        if line is not None:
            self.lines.extend(line.split("\n"))


class BareDeployment(Deployment):
    """Rooms and their logs. It executes the actions that the rooms return, without batching."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.rooms: dict[str, Room] = {}
        self.logs: dict[str, MessageLog] = {}
        self.clients: dict[Participant, BareClient] = {}
        self._session_key = SessionKey()
        self._kept_names = KeptNames(time.monotonic)

    async def open(
        self,
        target: str,
        *,
        as_json: bool,
        headers: Mapping[str, str] = NOTHING,
        offered: Sequence[str] = (),
    ) -> DeploymentClient:
        join = parse_join(
            urlsplit(target).query,
            Format.JSON if as_json else Format.TEXT,
            self._session_key,
            headers=[headers[SESSION_HEADER]] if SESSION_HEADER in headers else [],
            subprotocols=offered,
            operator=OPERATOR_HEADER in headers,
        )
        if not isinstance(join, JoinRequest):
            return self._reject(join, CloseCode.REJECTED, as_json=as_json)
        if join.room not in self.rooms:
            log = MessageLog(self.settings.log_messages, self.settings.log_bytes)
            self.logs[join.room] = log
            max_bytes = self.settings.max_message_bytes
            self.rooms[join.room] = Room(join.room, log, max_bytes, kept_names=self._kept_names)
        rejection = self.rooms[join.room].check_join(join, "")
        if rejection is not None:
            return self._reject(rejection.error, rejection.code, as_json=as_json)
        client = BareClient(self, join.room)
        client.participant = Participant(join, join.session or secrets.token_hex(8))
        self.clients[client.participant] = client
        self.execute(join.room, self.rooms[join.room].connect(client.participant))
        return client

    def _reject(self, error: Error, code: CloseCode, *, as_json: bool) -> BareClient:
        client = BareClient(self, "")
        join = JoinRequest(format=Format.JSON if as_json else Format.TEXT)
        client.participant = Participant(join, "")
        client.receive(error)
        client.code = code
        return client

    def execute(self, name: str, actions: Sequence[Action]) -> None:
        """Execute the actions of the room *name*, one after the other."""
        room, log = self.rooms[name], self.logs[name]
        for action in actions:
            match action:
                case Subscribe(participant=participant, after=after, welcome=welcome):
                    client = self.clients[participant]
                    client.subscribed = True
                    client.receive(welcome)
                    for message in log.read_after(after, log.head):
                        client.receive(message)
                case Publish(author=author, text=text, id=id, name=author_name):
                    seq = log.seq_of(author.id_scope, id)
                    if seq is not None and id is not None:
                        self.execute(name, room.acknowledge_duplicate(author, id, seq))
                    else:
                        at = "2026-11-25T09:00:00.000Z"
                        message = log.append(author_name, text, at, id, author.id_scope)
                        self.execute(name, room.deliver(message))
                case PublishLines(author=author, texts=texts, name=author_name):
                    lines = [Publish(author, text, None, author_name) for text in texts]
                    self.execute(name, lines)
                case Operate(member=member, request=request):
                    self.execute(name, hide(log, member, request)[0])
                case SendPrivate(author=author, recipient=recipient, text=text, id=id):
                    at = "2026-11-25T09:00:00.000Z"
                    private = PrivateMessage(author.name, recipient.name, text, at)
                    if recipient is not author:
                        self.clients[recipient].receive(private)
                    self.clients[author].receive(replace(private, id=id))
                case Send(to=None, event=event):
                    for client in self.clients.values():
                        if client.room == name and client.subscribed:
                            client.receive(event)
                case Send(to=Participant() as participant, event=event):
                    self.clients[participant].receive(event)
                case Close(participant=participant, code=code):
                    self.clients.pop(participant).code = code


# -- servers ------------------------------------------------------------------


class WebSocketClient(DeploymentClient):
    """A client over a WebSocket."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self._lines: deque[str] = deque()

    async def send(self, frame: str | bytes, *, text: bool = True) -> None:
        await self.socket.send(frame, text=text)

    async def line(self) -> str:
        while not self._lines:
            try:
                frame = await run_within(self.socket.recv(), ANSWER_TIMEOUT_S)
            except ConnectionClosed as closed:
                raise EOFError(closed.rcvd.code if closed.rcvd else 1006) from None
            assert isinstance(frame, str) and frame, "a frame holds at least one line"
            self._lines.extend(frame.split("\n"))
        return self._lines.popleft()

    async def close(self) -> None:
        await self.socket.close()

    async def vanish(self) -> None:
        self.socket.transport.abort()

    async def assert_nothing_new(self, count: int) -> None:
        """Assert that no event came, and that *count* members are here. For text clients only."""
        await self.send("/who")
        line = await self.line()
        assert line.startswith(f"* {count} here: "), line


class ServedDeployment(Deployment):
    """A server, or several processes of one, at given URLs."""

    def __init__(self, url: str, *others: str, trusting: SSLContext | None = None) -> None:
        self.url = url
        self._trusting = trusting  # how to check the certificate of a wss:// address
        # In a deployment of several processes, each client connects to the next one.
        self._processes = [url, *others]
        self._urls: Iterator[str] = itertools.cycle(self._processes)
        self._clients: list[WebSocketClient] = []

    def stay_in_one_process(self) -> None:
        self._urls = itertools.repeat(self.url)

    def next_url(self) -> str:
        """Return the URL of the next process."""
        return next(self._urls)

    async def open(
        self,
        target: str,
        *,
        as_json: bool,
        headers: Mapping[str, str] = NOTHING,
        offered: Sequence[str] = (),
    ) -> WebSocketClient:
        subprotocols = [SUBPROTOCOL, *offered] if as_json else offered
        socket = await connect(
            self.next_url().rstrip("/") + target,
            subprotocols=[Subprotocol(each) for each in subprotocols] or None,
            additional_headers=headers,
            compression=None,
            proxy=None,
            max_queue=None,  # the close must be seen also by a client that reads no events
            ssl=self._trusting,
        )
        assert socket.subprotocol == (SUBPROTOCOL if as_json else None)
        client = WebSocketClient(socket)
        self._clients.append(client)
        return client

    async def emptied(self, room: str) -> None:
        # A single process has to know at once. Others learn of it from the database, which may
        # be later than the client sees its close answered.
        if len(self._processes) > 1:
            begin = time.monotonic()
            while await asyncio.to_thread(self._count, room):
                waited = time.monotonic() - begin
                assert waited < ANSWER_TIMEOUT_S, f"{room} does not empty"
                await asyncio.sleep(pause(waited))

    def _count(self, room: str) -> int:
        url = self.url.replace("ws:", "http:").rstrip("/") + f"/stream?room={room}&poll=1"
        with urlopen(url, timeout=ANSWER_TIMEOUT_S) as answer:
            count: int = json.loads(answer.readline())["count"]
        return count

    async def close(self) -> None:
        """Close all clients."""
        for client in self._clients:
            await client.close()


@asynccontextmanager
async def serving(
    settings: Settings, certificate: ReloadableCertificate | None = None
) -> AsyncIterator[Server]:
    """Run a server in the running loop."""
    log_file = None if settings.log is None else SQLiteLog(settings.log)
    server = Server(settings, log_file=log_file, certificate=certificate)
    await server.listen()
    try:
        yield server
    finally:
        await server.stop()
        if log_file is not None:
            log_file.close()


INSTALLED = (sys.executable, "-W", "error", "-m", "broadcast_server")
"""The command that runs the installed package."""


def zipped(path: Path) -> tuple[str, ...]:
    """Return the command that runs the single file."""
    return (sys.executable, "-W", "error", str(path))
