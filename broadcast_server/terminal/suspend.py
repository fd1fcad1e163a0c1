"""Suspending: Ctrl+Z and SIGTSTP stop the program with the terminal as the shell needs it.

A stopped program cannot restore the terminal, and one that was stopped by SIGSTOP could not do so
before. So the mode of the terminal is set, and the prompt drawn, whenever the program continues.
In the background, after `bg`, that stops it once more, until `fg`: it needs the keyboard.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from prompt_toolkit.application import Application

from .orphaned import is_orphaned


class Suspender:
    """Suspends and continues the program while the prompt of *app* is shown.

    On Windows, where a program cannot be suspended, it does nothing.
    """

    def __init__(self, app: Application[str]) -> None:
        self._app = app

    if sys.platform == "win32":

        @contextmanager
        def handle_signals(self) -> Iterator[None]:
            """Do nothing."""
            yield

        def suspend(self, *, job: bool) -> None:
            """Do nothing."""

    else:

        @contextmanager
        def handle_signals(self) -> Iterator[None]:
            """Suspend on SIGTSTP, and draw the prompt again on SIGCONT, within the context."""
            import termios

            # Before prompt_toolkit changes it. Its `cooked_mode` would not restore all of it.
            self._shell_mode = termios.tcgetattr(self._app.input.fileno())
            loop = asyncio.get_running_loop()
            previous = {
                number: signal.getsignal(number) for number in (signal.SIGTSTP, signal.SIGCONT)
            }
            self._watch(loop)
            try:
                yield
            finally:
                self._unwatch(loop)
                for number, handler in previous.items():
                    signal.signal(number, handler or signal.SIG_DFL)

        def suspend(self, *, job: bool) -> None:
            """Stop the program until it is continued, with *job* all processes of its job.

            A process that nobody could continue, as in a window of its own, is not stopped.
            """
            import termios

            if is_orphaned():  # for a moment the terminal would not be ours, and lose keys
                return
            loop, app = asyncio.get_running_loop(), self._app
            app.renderer.erase()
            termios.tcsetattr(app.input.fileno(), termios.TCSADRAIN, self._shell_mode)
            self._unwatch(loop)  # SIGCONT is not to draw as well
            try:
                if job:
                    signal.signal(signal.SIGTSTP, signal.SIG_IGN)
                    os.kill(0, signal.SIGTSTP)
                signal.signal(signal.SIGTSTP, signal.SIG_DFL)
                # To this thread: any other could stop the program a little later.
                signal.raise_signal(signal.SIGTSTP)
            finally:
                self._watch(loop)
            self._show()

        def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
            loop.add_signal_handler(signal.SIGTSTP, lambda: self.suspend(job=False))
            loop.add_signal_handler(signal.SIGCONT, self._continued)

        @staticmethod
        def _unwatch(loop: asyncio.AbstractEventLoop) -> None:
            loop.remove_signal_handler(signal.SIGTSTP)
            loop.remove_signal_handler(signal.SIGCONT)

        def _continued(self) -> None:
            """Draw the prompt where the cursor is: nobody knows what the terminal shows now."""
            output = self._app.output
            output.write_raw("\r")
            output.erase_down()
            self._show()

        def _show(self) -> None:
            app = self._app
            if not app.is_running:  # not yet, or not any more
                return
            app.input.raw_mode().__enter__()  # the first one restores the mode at the end
            app.renderer.reset()
            app.renderer.render(app, app.layout)
