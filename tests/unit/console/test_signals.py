"""Signals: a running loop handles them, and their previous handlers are restored."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from broadcast_server.console.signals import handle_signals
from broadcast_server.console.time_limit import run_within


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_calls_the_handler(number: signal.Signals) -> None:
    """SIGINT, SIGTERM and SIGHUP call the handler, and get their previous handlers back."""
    before = signal.getsignal(number)

    async def scenario() -> None:
        stopped = asyncio.Event()
        with handle_signals(stopped.set):
            os.kill(os.getpid(), number)
            await run_within(stopped.wait(), 5)

    asyncio.run(scenario())
    assert signal.getsignal(number) is before


def test_nohup_is_respected() -> None:
    """If SIGHUP is ignored, as under nohup, it stays ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    calls: list[str] = []

    async def scenario() -> None:
        called = asyncio.Event()

        def stop() -> None:
            calls.append("stop")
            called.set()

        with handle_signals(stop):
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
            await run_within(called.wait(), 5)

    try:
        asyncio.run(scenario())
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert calls == ["stop"]
