"""Signals: how a running loop hears that it is to end, on every system."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def on_signals(
    call: Callable[[], None], reload: Callable[[], None] | None = None
) -> Iterator[None]:
    """Have the running loop *call* on Ctrl+C, SIGTERM and SIGHUP, while this lasts.

    With *reload* SIGHUP does that instead, unless it says that the terminal is gone.
    """
    loop = asyncio.get_running_loop()
    numbers = [signal.SIGINT, signal.SIGTERM]
    # The terminal went away; under nohup that is to be nothing to us.
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None and (reload or signal.getsignal(hangup) is not signal.SIG_IGN):
        numbers.append(hangup)

    def hung_up() -> None:
        (call if reload is None or _terminal_is_gone() else reload)()

    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        try:
            loop.add_signal_handler(number, hung_up if number == hangup else call)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(call))
    try:
        yield
    finally:
        for number in numbers:
            with suppress(NotImplementedError):
                loop.remove_signal_handler(number)
            signal.signal(number, before[number] or signal.SIG_DFL)


def _terminal_is_gone() -> bool:
    """Tell whether standard error is a terminal that was closed."""
    try:
        os.tcgetpgrp(2)
    except OSError as error:
        return error.errno == errno.EIO
    return False
