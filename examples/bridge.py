"""A bridge: what is said in one room is said in the other, with the name of its author.

The rooms may be on different servers. Usage: python3 bridge.py URL ROOM OTHER-URL OTHER-ROOM
"""

import asyncio
import sys

from broadcast_server import ClientRoom, Gap, Message, MessageTooLongError, connect


async def forward(source: ClientRoom, target: ClientRoom) -> None:
    """Say in *target* what is said in *source*, except what this bridge has said there."""
    async for event in source.events():
        if isinstance(event, Message) and not event.own:
            text = f"{event.name}@{source.room}: {event.text}"
            try:
                await target.send(text)
            except MessageTooLongError:
                await target.send(f"{event.name}@{source.room} said too much to be shown here")
        elif isinstance(event, Gap):
            await target.send(f"* {event.missed or 'some'} messages of {source.room} are missing")


async def main(url: str, room: str, other_url: str, other_room: str) -> None:
    """Connect the two rooms for as long as the program runs."""
    async with (
        connect(url, name="bridge", room=room) as one,
        connect(other_url, name="bridge", room=other_room) as other,
    ):
        await asyncio.gather(forward(one, other), forward(other, one))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5]))
