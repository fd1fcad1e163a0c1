"""The plain door: a talk line by line, for screen readers and for terminals that can do little.

Nothing is drawn twice, coloured or moved; what happens is told in words, and without the
time, which would be read out with each line.
"""

from __future__ import annotations

import asyncio

from .client import Client
from .conversation import missed_words
from .flow import Output, read
from .pipe import Lines
from .protocol import Error, Event, Members, Message, Welcome, text_line
from .safe import safe_text
from .screen import Line
from .talk import Talk


class Plain(Talk):
    """A client's door that is lines, in and out."""

    def __init__(self, client: Client, *, bell: bool = False) -> None:
        super().__init__(client, bell=bell)
        self._output = Output()
        self._asking: asyncio.Future[bytes] | None = None
        self._finished = False

    async def run(self) -> int:
        """Take part until the user leaves, and return the exit code."""
        writing = asyncio.ensure_future(self._output.run())
        writing.add_done_callback(lambda _: self.leave())  # the terminal went away
        try:
            return await super().run()
        finally:
            await asyncio.wait({asyncio.ensure_future(self._output.idle())}, timeout=1.0)
            writing.cancel()
            await asyncio.wait({writing})

    async def drain(self) -> None:
        """Wait until what was told is on the screen."""
        await self._output.idle()

    def tell(self, text: str) -> None:
        """Write a line of the program's own."""
        self._write([f"{text[:1].upper()}{text[1:]}."])

    def _greeting(self) -> list[Line]:
        return [[("", "Each line is a message; /help for help, Ctrl+D leaves.")]]

    def _lines(self, event: Event, me: str, *, again: bool) -> list[Line]:
        return [[("", line)] for line in words(event, again=again)]

    def _print(self, found: list[Line]) -> None:
        self._write(["".join(text for _, text in line) for line in found])

    def _write(self, texts: list[str]) -> None:
        if texts:
            self._output.write("\n".join(texts) + "\n")

    async def _ask(self) -> None:
        lines = Lines()
        while not self._finished:
            try:
                data = await read()
            except OSError:  # the terminal went away
                return
            for text in lines.feed(data) if data else lines.end():
                if not self._finished:
                    self.entered(text)
            if not data:
                return

    def _finish(self) -> None:
        self._finished = True

    def _clear(self) -> None:
        self.tell("nothing to clear here")

    def _ring(self) -> None:
        self._output.write("\a")

    def _changed(self) -> None:
        pass


def words(event: Event, *, again: bool) -> list[str]:
    """Say in words what happened, without anything that a terminal would obey."""
    match event:
        case Message():
            return [safe_text(line) for line in (text_line(event) or "").split("\n")]
        case Error(text=text):
            return [f"Error: {safe_text(text)}."]
        case Welcome(room=room, name=name, count=count, members=members, verified=verified):
            here = text_line(Members(count, members, verified)) or ""
            found = f"{'Connected again' if again else 'Connected'}. You are {name} in {room}."
            if not again:
                found += f" {here.removeprefix('* ')}."
            missed = [] if event.recovered else [missed_words(event.missed).strip("- ") + "."]
            return [safe_text(found), *missed]
    line = text_line(event)
    return [] if line is None else [safe_text(line.removeprefix("* "))]
