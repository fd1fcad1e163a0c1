"""The broadcast in the documentation of websockets: a set of connections, and `broadcast()`."""

import asyncio
import ssl
import sys

from websockets.asyncio.server import ServerConnection, broadcast, serve

here: set[ServerConnection] = set()


async def chat(connection: ServerConnection) -> None:
    """Send each message of a connection to all connections."""
    here.add(connection)
    try:
        async for message in connection:
            broadcast(here, message)
    finally:
        here.remove(connection)


async def main(port: int, *certificate: str) -> None:
    """Serve for ever, over TLS with the files of a certificate and its key."""
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*certificate)
    async with serve(chat, "127.0.0.1", port, ssl=context) as server:
        await server.serve_forever()


asyncio.run(main(int(sys.argv[1]), *sys.argv[2:]))
