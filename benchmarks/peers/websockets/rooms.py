"""Rooms on websockets: each room is a set of connections, which is told about every join."""

import asyncio
import sys
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection, broadcast, serve

rooms: dict[str, set[ServerConnection]] = {}


async def chat(connection: ServerConnection) -> None:
    """Announce a connection to its room, and send each of its messages to the room."""
    query = parse_qs(urlsplit(connection.request.path).query)
    here = rooms.setdefault(query["room"][0], set())
    broadcast(here, f"{query['name'][0]} joined the chat")
    here.add(connection)
    try:
        async for message in connection:
            broadcast(here, message)
    finally:
        here.remove(connection)


async def main(port: int) -> None:
    """Serve for ever."""
    async with serve(chat, "127.0.0.1", port) as server:
        await server.serve_forever()


asyncio.run(main(int(sys.argv[1])))
