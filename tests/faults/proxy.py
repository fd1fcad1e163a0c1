"""The proxy between a client and a deployment, which injects faults into their connection.

It knows bytes and connections, but no WebSocket. Each client has its own proxy, so that a plan can
name the client of a fault. A fault that is due while there is no connection has no effect.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from random import Random

from .plan import FaultKind

READ_CHUNK_BYTES = 4096
"""Bytes that are read at once; twice as many are buffered. Small, so that a stall has an effect."""

SOCKET_BUFFER_BYTES = 16 * 2**10
"""Size of the kernel's receive buffer, small for the same reason."""

Address = tuple[str, int]


class Endpoint:
    """One of the two sockets of a proxied connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def reset(self) -> None:
        """Reset the connection (TCP RST)."""
        with suppress(OSError):
            self.writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        self.writer.transport.abort()

    def finish(self) -> None:
        """End our sending direction (TCP FIN)."""
        with suppress(OSError, RuntimeError):
            if not self.writer.is_closing():
                self.writer.write_eof()

    def close(self) -> None:
        """Close the socket."""
        self.writer.close()


class Direction:
    """One direction of a proxied connection, and the faults that are active on it."""

    def __init__(self, random: Random) -> None:
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.delay = 0.0
        self.trickle = False
        self.tear = False
        self.ended = False
        self.silent = False  # if it ends, the other side is not told
        self.random = random

    async def forward(self, source: Endpoint, target: Endpoint, torn: Callable[[], None]) -> None:
        """Forward data from *source* to *target* until the end. *torn* is called after a TEAR."""
        try:
            while not self.ended:
                data = await source.reader.read(READ_CHUNK_BYTES)
                await self.flowing.wait()
                if self.delay:
                    await asyncio.sleep(self.delay)
                if not data or self.ended:
                    break
                if self.tear:
                    target.writer.write(data[: self.random.randrange(len(data))])
                    await target.writer.drain()
                    await asyncio.sleep(0.01)  # else the reset would discard the data
                    torn()
                    return
                await self._write(target.writer, data)
            if not self.silent:
                target.finish()
        except (OSError, RuntimeError):  # RuntimeError if our direction was ended meanwhile
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


class ProxiedConnection:
    """A client's connection, and the connection to the server that it is forwarded to."""

    def __init__(self, client: Endpoint, server: Endpoint, random: Random) -> None:
        self.client = client
        self.server = server
        self.up = Direction(random)
        self.down = Direction(random)
        self.torn = False

    async def run(self) -> None:
        """Forward bytes until both directions have ended."""
        directions = (
            self.up.forward(self.client, self.server, self.reset),
            self.down.forward(self.server, self.client, self.reset),
        )
        try:
            await asyncio.gather(*directions)
        finally:
            if not self.torn:
                self.client.close()
                self.server.close()

    def reset(self) -> None:
        """Reset both sides."""
        self.torn = True
        self.client.reset()
        self.server.reset()
        self.restore()

    def restore(self) -> None:
        """End all faults of this connection."""
        for direction in (self.up, self.down):
            direction.delay, direction.trickle, direction.tear = 0.0, False, False
            direction.flowing.set()


class ClientProxy:
    """The proxy of one client. *choose* returns the server for a new connection, or None."""

    def __init__(self, choose: Callable[[], Address | None], random: Random) -> None:
        self._choose = choose
        self._random = random
        self._server: asyncio.Server | None = None
        self._connections: list[ProxiedConnection] = []  # in the order in which they were opened
        self._rejecting = False
        self._delay = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self) -> str:
        """Start to listen, and return the URL."""
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, limit=READ_CHUNK_BYTES
        )
        host, port = self._server.sockets[0].getsockname()
        return f"ws://{host}:{port}/"

    async def close(self) -> None:
        """Stop listening, and reset all connections."""
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.reset()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        client = Endpoint(reader, writer)
        try:
            await self._forward(client)
        except asyncio.CancelledError:  # by `close`; asyncio would log it if it were raised
            client.reset()
        finally:
            self._tasks.discard(task)

    async def _forward(self, client: Endpoint) -> None:
        delay, self._delay = self._delay, 0.0
        await asyncio.sleep(delay)
        address = None if self._rejecting else self._choose()
        if address is None:
            client.reset()
            return
        try:
            outgoing = socket.socket()
            outgoing.setblocking(False)
            outgoing.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
            await asyncio.get_running_loop().sock_connect(outgoing, address)
            streams = await asyncio.open_connection(sock=outgoing, limit=READ_CHUNK_BYTES)
        except OSError:
            outgoing.close()
            client.reset()
            return
        connection = ProxiedConnection(client, Endpoint(*streams), Random(self._random.random()))
        self._connections.append(connection)
        try:
            await connection.run()
        finally:
            self._connections.remove(connection)

    # -- faults --

    async def inject(self, kind: FaultKind, seconds: float) -> bool:
        """Inject a fault, and return after it ended; False if there was no connection for it."""
        if kind is FaultKind.REJECT:
            self._rejecting = True
            await asyncio.sleep(seconds)
            self._rejecting = False
            return True
        if kind is FaultKind.LATE:
            self._delay = seconds
        if not self._connections:
            return kind is FaultKind.LATE
        connection = self._connections[-1]
        await self._apply(connection, kind, seconds)
        return True

    async def _apply(self, connection: ProxiedConnection, kind: FaultKind, seconds: float) -> None:
        match kind:
            case FaultKind.RESET | FaultKind.LATE:
                connection.reset()
            case FaultKind.CUT:
                connection.torn = True
                connection.client.close()
                connection.server.close()
            case FaultKind.TEAR:
                (connection.up if self._random.random() < 0.3 else connection.down).tear = True
            case FaultKind.CLIENT_RESET | FaultKind.SERVER_RESET:
                connection.torn = True
                for direction in (connection.up, connection.down):
                    direction.ended = direction.silent = True
                first, last = connection.client, connection.server
                if kind is FaultKind.SERVER_RESET:
                    first, last = last, first
                first.reset()
                await asyncio.sleep(seconds)
                last.reset()
            case FaultKind.HALF_UP | FaultKind.HALF_DOWN:
                direction = connection.up if kind is FaultKind.HALF_UP else connection.down
                direction.ended = True
                (connection.server if direction is connection.up else connection.client).finish()
            case FaultKind.STALL | FaultKind.STALL_UP | FaultKind.STALL_DOWN:
                directions = [
                    *([connection.up] if kind is not FaultKind.STALL_DOWN else []),
                    *([connection.down] if kind is not FaultKind.STALL_UP else []),
                ]
                for direction in directions:
                    direction.flowing.clear()
                await asyncio.sleep(seconds)
                for direction in directions:
                    direction.flowing.set()
            case FaultKind.DELAY:
                connection.up.delay = connection.down.delay = self._random.uniform(0.01, 0.3)
                await asyncio.sleep(seconds)
                connection.up.delay = connection.down.delay = 0
            case FaultKind.TRICKLE:
                connection.up.trickle = connection.down.trickle = True
                await asyncio.sleep(seconds)
                connection.up.trickle = connection.down.trickle = False

    def restore(self) -> None:
        """End all faults, of this and of future connections."""
        self._rejecting, self._delay = False, 0.0
        for connection in self._connections:
            connection.restore()
