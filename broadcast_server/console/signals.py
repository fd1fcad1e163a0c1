"""Signals: how a running event loop is told to stop or to reload, on every platform.

Once the program ends, more of these signals change nothing: they would only turn the exit code of a
program that has done its work into that of a program that was killed.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType

ENDING_S = 5.0
"""Seconds that the program may take to end without being interrupted. After them, something hangs,
and the next signal ends it as it ends any program."""


@contextmanager
def handle_signals(
    stop: Callable[[], None], reload: Callable[[], None] | None = None
) -> Iterator[None]:
    """Call *stop* in the running loop on SIGINT (Ctrl+C), SIGTERM and SIGHUP, within the context.

    With *reload*, SIGHUP calls that instead, unless it was sent because the terminal was closed.
    If *stop* was called, the program ends after the context, and ignores these signals.
    """
    loop = asyncio.get_running_loop()
    stopped = False

    def on_stop() -> None:
        nonlocal stopped
        stopped = True
        stop()

    numbers = [signal.SIGINT, signal.SIGTERM]
    # Windows has no SIGHUP. nohup ignores it, and then closing the terminal must not stop us.
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None and (reload or signal.getsignal(hangup) is not signal.SIG_IGN):
        numbers.append(hangup)

    def on_hangup() -> None:
        (on_stop if reload is None or _terminal_is_closed() else reload)()

    def handle(number: int, _: FrameType | None) -> None:
        loop.call_soon_threadsafe(on_hangup if number == hangup else on_stop)

    # Not by `loop.add_signal_handler`: to remove its handler restores Python's own for a moment, in
    # which a signal would end the process.
    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        end = monotonic() + ENDING_S

        def on_end(number: int, _: FrameType | None) -> None:
            if monotonic() > end:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)

        for number in numbers:
            signal.signal(number, on_end if stopped else previous[number] or signal.SIG_DFL)


def _terminal_is_closed() -> bool:
    """Return whether standard error is a terminal that was closed."""
    try:
        os.tcgetpgrp(2)
    except OSError as error:
        return error.errno == errno.EIO
    return False
