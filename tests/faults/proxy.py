"""The proxy: a client's way to a house, that can be cut, stalled and delayed.

It knows bytes and connections, no WebSocket. Each client has a link of its own, so that
a plan can name whom a fault befalls. A fault that comes when there is no connection
befalls nobody.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from random import Random

from .plan import Trouble

CHUNK = 4096
"""So many bytes are read at once, and twice as many held: a stall is felt on the other side."""

WINDOW = 16 * 2**10
"""So many bytes the system holds for us, for the same reason."""

Address = tuple[str, int]


class Side:
    """One of the two connections of a pair."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def reset(self) -> None:
        """Reset it."""
        with suppress(OSError):
            self.writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        self.writer.transport.abort()

    def finish(self) -> None:
        """End our direction of it."""
        with suppress(OSError, RuntimeError):
            if not self.writer.is_closing():
                self.writer.write_eof()

    def close(self) -> None:
        """End it."""
        self.writer.close()


class Way:
    """One direction of a pair: how it is with it now."""

    def __init__(self, random: Random) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.delay = 0.0
        self.trickle = False
        self.tear = False
        self.ended = False
        self.silent = False  # and nobody is told that it ended
        self.random = random

    async def pass_on(self, source: Side, target: Side, torn: Callable[[], None]) -> None:
        """Pass on what comes until it ends."""
        try:
            while not self.ended:
                data = await source.reader.read(CHUNK)
                await self.open.wait()
                if self.delay:
                    await asyncio.sleep(self.delay)
                if not data or self.ended:
                    break
                if self.tear:
                    target.writer.write(data[: self.random.randrange(len(data))])
                    await target.writer.drain()
                    await asyncio.sleep(0.01)  # else the reset would overtake it
                    torn()
                    return
                await self._write(target.writer, data)
            if not self.silent:
                target.finish()
        except (OSError, RuntimeError):  # the latter where our direction was ended meanwhile
            if not self.silent:
                target.reset()

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        while data:
            size = self.random.randint(1, 48) if self.trickle else len(data)
            writer.write(data[:size])
            await writer.drain()
            data = data[size:]
            if self.trickle:
                await asyncio.sleep(0.001)


class Pair:
    """A client's connection and the one that it was put through to."""

    def __init__(self, client: Side, server: Side, random: Random) -> None:
        self.client = client
        self.server = server
        self.up = Way(random)
        self.down = Way(random)
        self.torn = False

    async def run(self) -> None:
        """Pass bytes until both directions have ended."""
        ways = (
            self.up.pass_on(self.client, self.server, self.reset),
            self.down.pass_on(self.server, self.client, self.reset),
        )
        try:
            await asyncio.gather(*ways)
        finally:
            if not self.torn:
                self.client.close()
                self.server.close()

    def reset(self) -> None:
        """Reset both sides."""
        self.torn = True
        self.client.reset()
        self.server.reset()
        self.calm()

    def calm(self) -> None:
        """Let everything pass."""
        for way in (self.up, self.down):
            way.delay, way.trickle, way.tear = 0.0, False, False
            way.open.set()


class Link:
    """The address that one client dials."""

    def __init__(self, choose: Callable[[], Address | None], random: Random) -> None:
        self._choose = choose
        self._random = random
        self._server: asyncio.Server | None = None
        self._pairs: list[Pair] = []  # in the order in which they came
        self._refusing = False
        self._late = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self) -> str:
        """Listen, and return where."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=CHUNK)
        host, port = self._server.sockets[0].getsockname()
        return f"ws://{host}:{port}/"

    async def close(self) -> None:
        """Listen no more, and cut what is there."""
        if self._server is not None:
            self._server.close()
        for pair in self._pairs:
            pair.reset()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        client = Side(reader, writer)
        try:
            await self._put_through(client)
        except asyncio.CancelledError:  # by `close`; streams complain of a task that passes it on
            client.reset()
        finally:
            self._tasks.discard(task)

    async def _put_through(self, client: Side) -> None:
        late, self._late = self._late, 0.0
        await asyncio.sleep(late)
        address = None if self._refusing else self._choose()
        if address is None:
            client.reset()
            return
        try:
            dialled = socket.socket()
            dialled.setblocking(False)
            dialled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW)
            await asyncio.get_running_loop().sock_connect(dialled, address)
            there = await asyncio.open_connection(sock=dialled, limit=CHUNK)
        except OSError:
            dialled.close()
            client.reset()
            return
        pair = Pair(client, Side(*there), Random(self._random.random()))
        self._pairs.append(pair)
        try:
            await pair.run()
        finally:
            self._pairs.remove(pair)

    # -- faults --

    async def suffer(self, trouble: Trouble, seconds: float) -> bool:
        """Let it happen; False if there is nobody whom it could befall."""
        if trouble is Trouble.REFUSE:
            self._refusing = True
            await asyncio.sleep(seconds)
            self._refusing = False
            return True
        if trouble is Trouble.LATE:
            self._late = seconds
        if not self._pairs:
            return trouble is Trouble.LATE
        pair = self._pairs[-1]
        await self._befall(pair, trouble, seconds)
        return True

    async def _befall(self, pair: Pair, trouble: Trouble, seconds: float) -> None:
        match trouble:
            case Trouble.RESET | Trouble.LATE:
                pair.reset()
            case Trouble.CUT:
                pair.torn = True
                pair.client.close()
                pair.server.close()
            case Trouble.TEAR:
                (pair.up if self._random.random() < 0.3 else pair.down).tear = True
            case Trouble.ORPHAN | Trouble.DESERT:
                pair.torn = True
                for way in (pair.up, pair.down):
                    way.ended = way.silent = True
                first, last = pair.client, pair.server
                if trouble is Trouble.DESERT:
                    first, last = last, first
                first.reset()
                await asyncio.sleep(seconds)
                last.reset()
            case Trouble.HALF_UP | Trouble.HALF_DOWN:
                way = pair.up if trouble is Trouble.HALF_UP else pair.down
                way.ended = True
                (pair.server if way is pair.up else pair.client).finish()
            case Trouble.STALL | Trouble.STALL_UP | Trouble.STALL_DOWN:
                ways = [
                    *([pair.up] if trouble is not Trouble.STALL_DOWN else []),
                    *([pair.down] if trouble is not Trouble.STALL_UP else []),
                ]
                for way in ways:
                    way.open.clear()
                await asyncio.sleep(seconds)
                for way in ways:
                    way.open.set()
            case Trouble.DELAY:
                pair.up.delay = pair.down.delay = self._random.uniform(0.01, 0.3)
                await asyncio.sleep(seconds)
                pair.up.delay = pair.down.delay = 0
            case Trouble.TRICKLE:
                pair.up.trickle = pair.down.trickle = True
                await asyncio.sleep(seconds)
                pair.up.trickle = pair.down.trickle = False

    def calm(self) -> None:
        """Let everything pass from now on."""
        self._refusing, self._late = False, 0.0
        for pair in self._pairs:
            pair.calm()
