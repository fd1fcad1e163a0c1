"""The key mode: a terminal that passes on each key at once, and shows none of them itself.

Only then a program knows that something is half typed, and can wait with its output.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

if sys.platform == "win32":

    @contextmanager
    def key_mode(continued: Callable[[], None]) -> Iterator[int | None]:
        """Do nothing: the mode is not available."""
        yield None

else:
    import signal
    import struct
    import termios
    from fcntl import ioctl

    from .orphaned import is_orphaned

    @contextmanager
    def key_mode(continued: Callable[[], None]) -> Iterator[int | None]:
        """Have standard input in this mode within the context.

        Yields how many bytes were typed before, which the terminal has shown; None if the mode is
        not possible, because whatever shows the terminal edits lines itself. Keys such as Ctrl+C
        still send their signals. When the program is suspended, the terminal has the mode of the
        shell; when it continues, *continued* is called.
        """
        fd = 0
        try:
            shell_mode = termios.tcgetattr(fd)
        except termios.error:
            yield None
            return
        if not (shell_mode[3] & termios.ECHO and shell_mode[3] & termios.ICANON):
            yield None
            return
        own_mode = [*shell_mode]
        own_mode[3] &= ~(termios.ECHO | termios.ICANON)
        own_mode[6] = [*shell_mode[6]]
        own_mode[6][termios.VMIN], own_mode[6][termios.VTIME] = 1, 0
        loop = asyncio.get_running_loop()

        def begin() -> None:
            termios.tcsetattr(fd, termios.TCSADRAIN, own_mode)
            loop.add_signal_handler(signal.SIGTSTP, suspend)
            loop.add_signal_handler(signal.SIGCONT, go_on)

        def end() -> None:
            loop.remove_signal_handler(signal.SIGTSTP)
            loop.remove_signal_handler(signal.SIGCONT)
            termios.tcsetattr(fd, termios.TCSADRAIN, shell_mode)

        def suspend() -> None:
            if is_orphaned():  # nobody could continue it
                return
            end()
            try:
                signal.raise_signal(signal.SIGTSTP)
            finally:
                begin()
            continued()

        def go_on() -> None:  # after a SIGSTOP
            termios.tcsetattr(fd, termios.TCSADRAIN, own_mode)
            continued()

        begin()
        try:
            yield _readable(fd)
        finally:
            end()

    def _readable(fd: int) -> int:
        """Return how many bytes can be read at once."""
        (count,) = struct.unpack("i", ioctl(fd, termios.FIONREAD, struct.pack("i", 0)))
        return int(count)
