"""Signals: a running loop hears of them, and afterwards all is as before."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from broadcast_server.signals import on_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_loop_hears_of_a_signal(number: signal.Signals) -> None:
    """Ctrl+C, SIGTERM and SIGHUP make one call each, and get their old handlers back."""
    before = signal.getsignal(number)

    async def part() -> None:
        heard = asyncio.Event()
        with on_signals(heard.set):
            os.kill(os.getpid(), number)
            await asyncio.wait_for(heard.wait(), 5)

    asyncio.run(part())
    assert signal.getsignal(number) is before


def test_nohup_is_respected() -> None:
    """SIGHUP that was ignored, as nohup has it, stays ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    heard: list[str] = []

    async def part() -> None:
        some = asyncio.Event()

        def hear() -> None:
            heard.append("a signal")
            some.set()

        with on_signals(hear):
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(some.wait(), 5)

    try:
        asyncio.run(part())
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert heard == ["a signal"]
