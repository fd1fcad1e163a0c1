"""A bot: answers `ping` with `pong`. It reconnects by itself, and answers what it missed."""

import asyncio
import sys

from broadcast_server import connect


async def main(url: str) -> None:
    """Answer pings in the room `ops`."""
    async with connect(url, name="bot", room="ops") as room:
        async for message in room:
            if message.text == "ping":
                await room.send("pong")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:8765/"))
