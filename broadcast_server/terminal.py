"""The terminal: a prompt that incoming lines never break, for one who sits there.

On prompt_toolkit, which costs a third of a second and is imported by nobody else.
What comes in is printed above the prompt in one go, without leaving raw mode: its
own `run_in_terminal` would, and a key pressed in that moment would be echoed
into the talk.
"""

from __future__ import annotations

import asyncio
import os
import select
import sys
from collections.abc import Iterable
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.input import Input, create_input
from prompt_toolkit.output import ColorDepth, Output, create_output
from prompt_toolkit.renderer import print_formatted_text
from prompt_toolkit.styles import Style

from .client import Client, Failed
from .conversation import left_early
from .names import MAX_NAME
from .protocol import Event, Joined, Left, Members, Message, Welcome, Who
from .safe import safe_text
from .screen import STYLE, Line, lines, quiet
from .signals import on_signals
from .streams import note

COMMANDS = {
    "/who": "who is here",
    "/help": "this list",
    "/quit": "leave",
    "/exit": "leave",
}

KNOWN = 1000
"""So many names can be completed."""

PARTING = 1.0
"""Seconds that what was said last has to come back, when the user leaves."""


class Names(Completer):
    """Completes commands, and the names of those who are here or were heard."""

    def __init__(self) -> None:
        self._known: dict[str, None] = {}  # the last that was heard of comes last

    def add(self, name: str) -> None:
        """Note that *name* is here."""
        name = safe_text(name)
        self._known.pop(name, None)
        self._known[name] = None
        if len(self._known) > KNOWN:
            del self._known[next(iter(self._known))]

    def remove(self, name: str) -> None:
        """Note that *name* is here no more."""
        self._known.pop(safe_text(name), None)

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        """List what the words before the cursor may become."""
        text = document.text_before_cursor
        if text.startswith("/"):
            for command, what in COMMANDS.items():
                if command.startswith(text):
                    yield Completion(command, -len(text), display_meta=what)
            return
        # A name may hold spaces, so that it may have begun some words ago.
        found: dict[str, int] = {}
        for place, char in enumerate(text[-MAX_NAME:], start=max(0, len(text) - MAX_NAME)):
            if not char.isspace() and (place == 0 or text[place - 1].isspace()):
                begun = text[place:].casefold()
                for name in reversed(self._known):
                    if name.casefold().startswith(begun):
                        found.setdefault(name, place)
        for name, place in found.items():
            yield Completion(name, place - len(text))


class Terminal:
    """A client's door that is a screen and a keyboard."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._names = Names()
        self._style = Style.from_dict(STYLE)
        self._output = _output()
        self._session: PromptSession[str] = PromptSession(
            "> ",
            completer=self._names,
            complete_while_typing=False,
            erase_when_done=True,
            style=self._style,
            input=_input(),
            output=self._output,
        )
        self._session.default_buffer.accept_handler = self._entered
        self._interrupted = False
        self._welcomed = False
        self._wants_who = False

    # -- the door --

    def show(self, events: list[Event]) -> None:
        """Print events above the prompt."""
        found: list[Line] = []
        for event in events:
            self._follow(event)
            found += lines(event, self._client.conversation.name, again=self._welcomed)
            self._welcomed = self._welcomed or isinstance(event, Welcome)
        self._print(found)
        self._ask_who()

    def note(self, text: str) -> None:
        """Print a line about the connection."""
        waiting = len(self._client.conversation)
        kept = f"; {waiting} to be sent then" if waiting else ""
        self._print([quiet(f"-- {safe_text(text)}{kept} --")])

    async def drain(self) -> None:
        """Let keys be heard between two prints."""
        await asyncio.sleep(0)

    # -- the run --

    async def run(self) -> int:
        """Take part until the user leaves, and return the exit code."""
        client = self._client
        asyncio.get_running_loop().set_exception_handler(self._complained)
        asking = asyncio.ensure_future(self._ask())
        failure = ""
        with on_signals(self._interrupt):
            try:
                self._print([quiet("-- connecting --")])
                await client.run(self)
            except Failed as failed:
                failure = str(failed)
            except OSError:  # the terminal went away
                pass
            asking.cancel()
            await asyncio.wait({asking})
        if not failure and len(client.conversation):
            failure = left_early(len(client.conversation))
        if failure:
            note(failure)
        return 1 if failure or (self._interrupted and not self._welcomed) else 0

    async def _ask(self) -> None:
        """Prompt until the user has enough, or the terminal goes away."""
        try:
            await self._session.prompt_async(set_exception_handler=False, handle_sigint=False)
        except KeyboardInterrupt:
            self._interrupted = True
        except (EOFError, OSError):
            pass
        if self._client.conversation.live and not self._interrupted:
            heard = asyncio.ensure_future(self._client.all_heard())
            await asyncio.wait({heard}, timeout=PARTING)
            heard.cancel()
        self._client.leave()

    def _interrupt(self) -> None:
        self._interrupted = True
        self._client.leave()

    def _complained(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Leave if prompt_toolkit could not draw, because the terminal went away."""
        if isinstance(context.get("exception"), OSError):
            self._client.leave()
        else:
            loop.default_exception_handler(context)

    # -- what is typed --

    def _entered(self, buffer: Buffer) -> bool:
        # Bytes that are no UTF-8 arrive from the keyboard as halves of characters.
        text = buffer.text.rstrip().encode(errors="surrogateescape").decode(errors="replace")
        match text.strip():
            case "":
                pass
            case "/quit" | "/exit":
                self._session.app.exit(result="")
            case "/who":
                self._wants_who = True
                self._ask_who()
            case "/help":
                self._help()
            case command if command.startswith("/") and not command.startswith("//"):
                word = command.split()[0]
                self._print([quiet(f"-- {word} is no command; /help lists them --")])
            case _:
                self._say(text.removeprefix("/") if text.startswith("//") else text)
        return False  # do not keep the text

    def _ask_who(self) -> None:
        """Ask who is here, as soon as that can be asked."""
        if self._wants_who and self._client.conversation.live:
            self._wants_who = False
            self._client.ask(Who())

    def _say(self, text: str) -> None:
        if self._client.conversation.full:
            waiting = len(self._client.conversation)
            self._print([quiet(f"-- not kept: {waiting} messages wait to be sent already --")])
            return
        self._client.say(text)
        if not self._client.conversation.live:
            self._print([quiet("-- not connected: kept, and sent when we are --")])

    def _help(self) -> None:
        width = max(map(len, COMMANDS))
        texts = [f"{command:{width}}  {what}" for command, what in COMMANDS.items()]
        texts.append(f"{'//text':{width}}  say /text")
        self._print([quiet(f"   {text}") for text in texts])

    # -- what is shown --

    def _follow(self, event: Event) -> None:
        """Keep the names of those who are here, for completion."""
        match event:
            case Welcome(members=members) | Members(members=members):
                for name in members:
                    self._names.add(name)
            case Joined(name=name) | Message(name=name):
                self._names.add(name)
            case Left(name=name):
                self._names.remove(name)

    def _print(self, found: list[Line]) -> None:
        """Print whole lines above the prompt, and the prompt anew below them."""
        if not found:
            return
        app = self._session.app
        if app.is_running:
            app.renderer.erase()
        fragments = [fragment for line in found for fragment in [*line, ("", "\n")]]
        print_formatted_text(self._output, FormattedText(fragments), self._style)
        if app.is_running:
            app.renderer.reset()
            app.renderer.render(app, app.layout)


def _output() -> Output:
    if sys.platform == "win32":
        return create_output()
    from prompt_toolkit.output.vt100 import Vt100_Output

    # Without cursor position requests: their answers come in by the keyboard,
    # and each print would wait for one.
    term, depth = os.environ.get("TERM"), ColorDepth.from_env()  # which knows NO_COLOR
    output = Vt100_Output.from_pty(sys.stdout, term, default_color_depth=depth)
    output.enable_cpr = False
    return output


def _input() -> Input:
    if sys.platform == "win32":
        return create_input()
    from prompt_toolkit.input.vt100 import Vt100Input

    class Keyboard(Vt100Input):
        """A keyboard that can be unplugged: prompt_toolkit would try to read on, for ever."""

        @property
        def closed(self) -> bool:
            terminal = select.poll()
            terminal.register(self.fileno(), 0)
            hung_up = any(event & select.POLLHUP for _, event in terminal.poll(0))
            return hung_up or super().closed

    return Keyboard(sys.stdin)
