"""The terminal: a prompt that incoming lines never break, for one who sits there.

On prompt_toolkit, which costs a third of a second and is imported by nobody else but
`completer`. What comes in is printed above the prompt in one go, without leaving raw
mode: its own `run_in_terminal` would, and a key pressed in that moment would be echoed
into the talk.
"""

from __future__ import annotations

import asyncio
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.filters import Condition, is_done
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.input import Input, create_input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import (
    ConditionalContainer,
    FormattedTextControl,
    HSplit,
    Layout,
    Window,
    to_container,
)
from prompt_toolkit.output import ColorDepth, Output, create_output
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.renderer import print_formatted_text
from prompt_toolkit.styles import Style
from prompt_toolkit.utils import get_cwidth

from .client import Client
from .completer import Names
from .protocol import Event, Joined, Left, Members, Message, Renamed, Welcome
from .screen import STYLE, Line, lines, quiet
from .status import fit
from .talk import Talk

ROWS = 5
"""In a lower window there is no line for the status."""


class Terminal(Talk):
    """A client's door that is a screen and a keyboard."""

    def __init__(self, client: Client, *, bell: bool = False) -> None:
        super().__init__(client, bell=bell)
        self._names = Names(lambda: self.rooms)
        self._style = Style.from_dict(STYLE)
        self._output = _output()
        self._session: PromptSession[str] = PromptSession(
            "> ",
            completer=self._names,
            complete_while_typing=False,
            erase_when_done=True,
            style=self._style,
            key_bindings=_keys(),
            input=_input(),
            output=self._output,
        )
        self._session.default_buffer.accept_handler = self._accept
        app = self._session.app
        app.layout = Layout(
            HSplit([to_container(app.layout.container), self._status_line()]),
            app.layout.current_window,
        )

    # -- what a talk wants --

    def _lines(self, event: Event, me: str, *, again: bool) -> list[Line]:
        return lines(event, me, again=again)

    def _greeting(self) -> list[Line]:
        return [quiet("-- /help for help --")]

    def tell(self, text: str) -> None:
        """Print a line of the program's own."""
        self._print([quiet(f"-- {text} --")])

    def _print(self, found: list[Line]) -> None:
        """Print whole lines above the prompt, and the prompt anew below them, in one write."""
        if not found:
            return
        app = self._session.app
        with _steady(self._output):
            if app.is_running:
                app.renderer.erase()
            fragments = [fragment for line in found for fragment in [*line, ("", "\n")]]
            print_formatted_text(self._output, FormattedText(fragments), self._style)
            if app.is_running:
                app.renderer.reset()
                app.render_counter += 1  # else the status would be the one of the last key
                app.renderer.render(app, app.layout)

    async def _ask(self) -> None:
        """Prompt until the user has enough, or the terminal goes away."""
        asyncio.get_running_loop().set_exception_handler(self._complained)
        try:
            await self._session.prompt_async(set_exception_handler=False, handle_sigint=False)
        except KeyboardInterrupt:
            self.interrupted = True
        except (EOFError, OSError):
            pass

    def _finish(self) -> None:
        self._session.app.exit(result="")

    def _clear(self) -> None:
        self._session.app.renderer.clear()

    def _ring(self) -> None:
        self._output.bell()
        self._output.flush()

    def _changed(self) -> None:
        self._session.app.invalidate()

    def _follow(self, event: Event) -> None:
        """Keep the names of those who are here, for completion."""
        super()._follow(event)
        match event:
            case Welcome(members=members):
                self._names.clear()
                for name in members:
                    self._names.add(name)
            case Members(members=members):
                for name in members:
                    self._names.add(name)
            case Joined(name=name) | Message(name=name):
                self._names.add(name)
            case Left(name=name):
                self._names.remove(name)
            case Renamed(name=name, to=to):
                self._names.remove(name)
                self._names.add(to)

    # -- ours --

    def _accept(self, buffer: Buffer) -> bool:
        # Bytes that are no UTF-8 arrive from the keyboard as halves of characters.
        text = buffer.text.rstrip().encode(errors="surrogateescape").decode(errors="replace")
        self.entered(text)
        return False  # do not keep the text

    def _complained(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Leave if prompt_toolkit could not draw, because the terminal went away."""
        if isinstance(context.get("exception"), OSError):
            self.leave()
        else:
            loop.default_exception_handler(context)

    def _status_line(self) -> ConditionalContainer:
        def text() -> FormattedText:
            status = self._status_text()
            # Only as long as it has to be: in a window that becomes narrower a full line
            # would wrap, and be left behind.
            return FormattedText([("class:status", f" {status} ")])

        window = Window(FormattedTextControl(text), height=1, dont_extend_height=True)
        return ConditionalContainer(window, ~is_done & Condition(lambda: bool(self._status_text())))

    def _status_text(self) -> str:
        size = self._output.get_size()
        if size.rows < ROWS:
            return ""
        return fit(self.status, size.columns - 3, get_cwidth)


class _Screen(Vt100_Output):
    """A screen that can be drawn in one write."""

    held = False
    """Whether what is drawn is kept until all of it is."""

    def flush(self) -> None:
        if not self.held:
            super().flush()


@contextmanager
def _steady(output: Output) -> Iterator[None]:
    """Draw in one write, where that is possible: what is half drawn would flicker."""
    if isinstance(output, _Screen):
        output.held = True
    try:
        yield
    finally:
        if isinstance(output, _Screen):
            output.held = False
        output.flush()


def _keys() -> KeyBindings:
    """Have Alt+Enter, which is Esc and then Enter, begin a new line."""
    keys = KeyBindings()

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys


def _output() -> Output:
    if sys.platform == "win32":
        return create_output()
    # Without cursor position requests: their answers come in by the keyboard,
    # and each print would wait for one.
    term, depth = os.environ.get("TERM"), ColorDepth.from_env()  # which knows NO_COLOR
    output = _Screen.from_pty(sys.stdout, term, default_color_depth=depth)
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
