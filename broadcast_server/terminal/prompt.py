"""The prompt: `connect` at a terminal, with an input line that stays in place.

It uses prompt_toolkit, whose import takes a third of a second; only this module, `completer`
and `suspend` import it. Incoming lines are printed above the prompt in a single write, without
leaving raw mode. prompt_toolkit's own `run_in_terminal` leaves raw mode, and a key pressed in
that moment would be echoed between the messages.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition, is_done
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.input import Input, create_input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.key_binding.key_processor import KeyPress
from prompt_toolkit.layout import (
    ConditionalContainer,
    FormattedTextControl,
    HSplit,
    Layout,
    Window,
    to_container,
)
from prompt_toolkit.layout.dimension import AnyDimension, Dimension, to_dimension
from prompt_toolkit.output import ColorDepth, Output, create_output
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.renderer import print_formatted_text
from prompt_toolkit.styles import Style
from prompt_toolkit.utils import get_cwidth

from broadcast_server.client.client import ReconnectingClient
from broadcast_server.protocol.messages import Event

from .chat import ChatUI
from .completer import NameCompleter
from .render import STYLE, Line, dim, render_event
from .status_line import fit_status
from .suspend import Suspender

MIN_STATUS_ROWS = 5
"""Height in rows below which the window has no status line."""


class PromptUI(ChatUI):
    """The interface of `connect` at a terminal: a prompt, and a status line below it."""

    def __init__(self, client: ReconnectingClient, *, bell: bool = False) -> None:
        super().__init__(client, bell=bell)
        completer = NameCompleter(self._names, lambda: self.rooms)
        self._style = Style.from_dict(STYLE)
        self._output = _output()
        self._session: PromptSession[str] = PromptSession(
            "> ",
            completer=completer,
            complete_while_typing=False,
            erase_when_done=True,
            style=self._style,
            key_bindings=self._keys(),
            input=_input(),
            output=self._output,
        )
        self._session.default_buffer.accept_handler = self._accept
        app = self._session.app
        self._suspender = Suspender(app)
        self._accepting = self._keeps_text = False  # while Enter is handled
        window = app.layout.current_window
        window.height = partial(self._input_height, given=window.height)
        app.layout = Layout(
            HSplit([to_container(app.layout.container), self._status_line()]),
            app.layout.current_window,
        )

    # -- ChatUI --

    def _render(self, event: Event, me: str, *, again: bool) -> list[Line]:
        return render_event(event, me, again=again)

    def _greeting(self) -> list[Line]:
        return [dim("-- /help for help --")]

    def _notice_line(self, text: str) -> Line:
        return dim(f"-- {text} --")

    def _print(self, lines: list[Line]) -> None:
        """Print whole lines above the prompt and redraw the prompt below them, in one write."""
        if not lines:
            return
        app = self._session.app
        with _single_write(self._output):
            if app.is_running:
                app.renderer.erase()
            fragments = [fragment for line in lines for fragment in [*line, ("", "\n")]]
            print_formatted_text(self._output, FormattedText(fragments), self._style)
            if app.is_running:
                app.renderer.reset()
                app.render_counter += 1  # otherwise the status line of the last key would be drawn
                app.renderer.render(app, app.layout)

    async def _read_input(self) -> None:
        """Prompt until the user leaves or the terminal goes away."""
        asyncio.get_running_loop().set_exception_handler(self._handle_exception)
        try:
            with self._suspender.handle_signals():
                await self._session.prompt_async(set_exception_handler=False, handle_sigint=False)
        except KeyboardInterrupt:
            self.interrupted = True
        except (EOFError, OSError):
            pass

    def _stop_reading(self) -> None:
        self._session.app.exit(result="")

    def _clear(self) -> None:
        self._session.app.renderer.clear()

    def _ring_bell(self) -> None:
        self._output.bell()
        self._output.flush()

    def _status_changed(self) -> None:
        self._session.app.invalidate()

    # -- internals --

    def _accept(self, buffer: Buffer) -> bool:
        # prompt_toolkit passes on typed bytes that are not UTF-8 as surrogates.
        text = buffer.text.rstrip().encode(errors="surrogateescape").decode(errors="replace")
        self._accepting, self._keeps_text = True, False
        self.handle_line(text)
        self._accepting = False
        return self._keeps_text  # false clears the input line

    def _put_back(self, line: str) -> None:
        buffer = self._session.default_buffer
        if self._accepting:
            self._keeps_text = True
        elif not buffer.text:  # else Up recalls it
            buffer.document = Document(line, len(line))
            self._session.app.invalidate()

    def _typed(self, text: str) -> bool:
        return self._session.default_buffer.text == text

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        @keys.add("escape", "enter")  # as Alt+Enter arrives
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        # So that it is seen to whom the answer goes, also if somebody else writes meanwhile.
        @keys.add(" ", filter=Condition(lambda: self.reply_to != "" and self._typed("/r")))
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.text = f"/msg {self.reply_to}: "
            event.current_buffer.cursor_position = len(event.current_buffer.text)

        @keys.add("c-z")  # which prompt_toolkit would insert
        def _(event: KeyPressEvent) -> None:
            self._suspender.suspend(job=True)

        return keys

    def _handle_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Leave if prompt_toolkit cannot draw because the terminal went away."""
        if isinstance(context.get("exception"), OSError):
            self.leave()
        else:
            loop.default_exception_handler(context)

    def _input_height(self, given: AnyDimension) -> Dimension:
        """Leave half of the screen to what is said, such as why a long text was not sent.

        The least height is that of *given*: room for the menu of completions.
        """
        least = to_dimension(given).min
        return Dimension(min=least, max=max(1, least, self._output.get_size().rows // 2))

    def _status_line(self) -> ConditionalContainer:
        def text() -> FormattedText:
            status = self._status_text()
            # Not padded to the full width: when the window becomes narrower, a full line would
            # wrap, and its second row would stay on the screen.
            return FormattedText([("class:status", f" {status} ")])

        window = Window(FormattedTextControl(text), height=1, dont_extend_height=True)
        return ConditionalContainer(window, ~is_done & Condition(lambda: bool(self._status_text())))

    def _status_text(self) -> str:
        size = self._output.get_size()
        if size.rows < MIN_STATUS_ROWS:
            return ""
        return fit_status(self.status, size.columns - 3, get_cwidth)


class _BufferedOutput(Vt100_Output):
    """An output whose flushes can be held back, to draw in one write."""

    held = False
    """Whether `flush` does nothing."""

    def flush(self) -> None:
        if not self.held:
            super().flush()


@contextmanager
def _single_write(output: Output) -> Iterator[None]:
    """Combine everything drawn inside into one write where possible, to avoid flicker."""
    if isinstance(output, _BufferedOutput):
        output.held = True
    try:
        yield
    finally:
        if isinstance(output, _BufferedOutput):
            output.held = False
        output.flush()


def _output() -> Output:
    if sys.platform == "win32":
        return create_output()
    # Cursor position requests are off: the terminal answers them through the keyboard input,
    # and each print would wait for an answer.
    term, depth = os.environ.get("TERM"), ColorDepth.from_env()  # honours NO_COLOR
    output = _BufferedOutput.from_pty(sys.stdout, term, default_color_depth=depth)
    output.enable_cpr = False
    return output


def _input() -> Input:
    if sys.platform == "win32":
        return create_input()
    from prompt_toolkit.input.vt100 import Vt100Input

    class Keyboard(Vt100Input):
        """Input that notices a hang-up; prompt_toolkit alone would try to read on for ever.

        In the background it reads nothing. What could be read there is for the shell: `read` would
        stop the program, and after `fg` wait for another key, and the event loop with it.
        """

        def read_keys(self) -> list[KeyPress]:
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTIN})
            try:
                keys = super().read_keys()  # nothing if SIGTTIN would stop it
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            if not keys and self._in_background():
                signal.raise_signal(signal.SIGTTIN)
            return keys

        def _in_background(self) -> bool:
            try:
                return os.tcgetpgrp(self.fileno()) != os.getpgrp()
            except OSError:  # it has hung up
                return False

        @property
        def closed(self) -> bool:
            terminal = select.poll()
            terminal.register(self.fileno(), 0)
            hung_up = any(event & select.POLLHUP for _, event in terminal.poll(0))
            return hung_up or super().closed

    return Keyboard(sys.stdin)
