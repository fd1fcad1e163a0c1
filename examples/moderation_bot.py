"""A moderation bot: reports floods and unwanted words to the room of the moderators.

It continues where it was when it is started again: its position is in a file.
Usage: python3 moderation_bot.py URL ROOM POSITION-FILE WORD ...
"""

import asyncio
import sys
from collections import defaultdict, deque
from pathlib import Path

from broadcast_server import ClientRoom, Gap, Message, connect

MAX_MESSAGES, WITHIN_S = 5, 10.0
"""A member that publishes more messages in this time is reported."""

MAX_NAMES = 10_000
"""How many names are remembered: strangers can have any number of them."""


class Rules:
    """What the bot objects to."""

    def __init__(self, words: list[str]) -> None:
        self._words = [word.casefold() for word in words]
        self._times: defaultdict[str, deque[float]] = defaultdict(
            lambda: deque([-WITHIN_S] * (MAX_MESSAGES + 1), MAX_MESSAGES + 1)
        )

    def objection(self, message: Message) -> str | None:
        """Return what is wrong with *message*, None if nothing is."""
        if len(self._times) > MAX_NAMES:
            self._times.clear()
        times = self._times[message.name]
        times.append(message.time.timestamp())
        if times[-1] - times[0] < WITHIN_S:
            return f"published more than {MAX_MESSAGES} messages in {WITHIN_S:.0f} s"
        for word in self._words:
            if word in message.text.casefold():
                return f"said {word!r}"
        return None


async def watch(room: ClientRoom, moderators: ClientRoom, rules: Rules, position: Path) -> None:
    """Report what happens in *room* to *moderators*."""
    async for event in room.events():
        if isinstance(event, Message) and not event.own:
            objection = rules.objection(event)
            if objection is not None:
                report = f"{event.name} {objection}: number {event.seq} in {room.room}"
                await moderators.send(report)
                await room.send(f"{event.name}, please calm down. The moderators know.")
        elif isinstance(event, Gap):
            await moderators.send(f"could not see {event.missed or 'some'} messages in {room.room}")
        position.write_text(room.cursor, "utf-8")


async def main(url: str, name: str, position: Path, words: list[str]) -> None:
    """Watch the room *name* for as long as the program runs."""
    cursor = position.read_text("utf-8") if position.exists() else None
    async with (
        connect(url, name="moderator", room="moderators") as moderators,
        connect(url, name="moderator", room=name, cursor=cursor) as room,
    ):
        await watch(room, moderators, Rules(words), position)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4:]))
