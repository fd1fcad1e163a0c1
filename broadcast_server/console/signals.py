"""Signals: how a running event loop is told to stop or to reload, on every platform."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def handle_signals(
    stop: Callable[[], None], reload: Callable[[], None] | None = None
) -> Iterator[None]:
    """Call *stop* in the running loop on SIGINT (Ctrl+C), SIGTERM and SIGHUP, within the context.

    With *reload*, SIGHUP calls that instead, unless it was sent because the terminal was closed.
    """
    loop = asyncio.get_running_loop()
    numbers = [signal.SIGINT, signal.SIGTERM]
    # Windows has no SIGHUP. nohup ignores it, and then closing the terminal must not stop us.
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None and (reload or signal.getsignal(hangup) is not signal.SIG_IGN):
        numbers.append(hangup)

    def on_hangup() -> None:
        (stop if reload is None or _terminal_is_closed() else reload)()

    previous = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        try:
            loop.add_signal_handler(number, on_hangup if number == hangup else stop)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))
    try:
        yield
    finally:
        for number in numbers:
            with suppress(NotImplementedError):
                loop.remove_signal_handler(number)
            signal.signal(number, previous[number] or signal.SIG_DFL)


def _terminal_is_closed() -> bool:
    """Return whether standard error is a terminal that was closed."""
    try:
        os.tcgetpgrp(2)
    except OSError as error:
        return error.errno == errno.EIO
    return False
