"""Signals: a running loop handles them, and none of them changes how a program ends."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import socket
import time

import pytest
from programs import PATIENCE, Running, running, until

from broadcast_server.console.signals import handle_signals
from broadcast_server.console.time_limit import run_within
from broadcast_server.protocol.messages import CloseCode

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2l4dGVlbiBieXRlcyBvaw==\r\n\r\n"
)
CLOSE_CODE = CloseCode.STOPPING.to_bytes(2, "big")
CLOSE_REPLY = b"\x88\x82\0\0\0\0" + CLOSE_CODE


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_calls_the_handler(number: signal.Signals) -> None:
    """SIGINT, SIGTERM and SIGHUP call the handler, and afterwards have no effect."""
    before = {each: signal.getsignal(each) for each in STOP_SIGNALS}

    async def scenario() -> None:
        stopped = asyncio.Event()
        with handle_signals(stopped.set):
            os.kill(os.getpid(), number)
            await run_within(stopped.wait(), 5)
        for each in STOP_SIGNALS:
            os.kill(os.getpid(), each)

    try:
        asyncio.run(scenario())
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def test_without_a_signal_the_handlers_are_restored() -> None:
    """If no signal came, the program goes on, and has its previous handlers back."""
    before = [signal.getsignal(each) for each in STOP_SIGNALS]

    async def scenario() -> None:
        with handle_signals(lambda: None, lambda: None):
            pass

    asyncio.run(scenario())
    assert [signal.getsignal(each) for each in STOP_SIGNALS] == before


def test_a_program_that_does_not_end_can_be_ended(program: list[str]) -> None:
    """What still runs a while after it was told to stop is ended by the next signal."""
    code = """if True:
        import asyncio, os, signal
        from broadcast_server.console import signals
        signals.ENDING_S = 0
        async def scenario():
            stopped = asyncio.Event()
            with signals.handle_signals(stopped.set):
                os.kill(os.getpid(), signal.SIGTERM)
                await stopped.wait()
        asyncio.run(scenario())
        while True:
            os.kill(os.getpid(), signal.SIGTERM)"""
    with running(program[0], "-c", code) as child:
        assert child.wait() == -signal.SIGTERM


def end_by_many_signals(child: Running) -> int:
    """Send signals until the program has ended, and return its exit code."""
    numbers = itertools.cycle((signal.SIGTERM, signal.SIGINT, signal.SIGTERM))
    while child.process.poll() is None:
        child.process.send_signal(next(numbers))
        time.sleep(0.003)
    return child.wait()


TRAPPED = "trap 'exit 0' INT TERM; echo up; while :; do sleep 0.02; done"


@pytest.mark.parametrize("command", ["start", "connect", "run"])
def test_many_signals(program: list[str], server: Running, command: str) -> None:
    """At whatever moment more signals arrive, the exit code is that of the first one."""
    arguments = {
        "start": ("start", "--port", "0"),
        "connect": ("connect", server.url, "--room", "many", "--listen", "--json"),
        "run": ("run", server.url, "--only-failures", "--", "sh", "-c", TRAPPED),
    }[command]
    with running(*program, *arguments) as child:
        until(lambda: child.output or "listening" in child.errors, "a program that runs")
        assert end_by_many_signals(child) == 0


def test_only_a_later_signal_cuts_connections(program: list[str]) -> None:
    """A copy of the signal does not end the grace period, and one that comes later does."""
    command = (*program, "start", "--port", "0", "--grace", "60")
    for repeat in (False, True):
        with (
            running(*command) as server,
            socket.create_connection(("127.0.0.1", int(server.port)), PATIENCE) as client,
        ):
            client.sendall(HANDSHAKE)
            until(lambda: "joined" in server.errors, "a member")
            server.process.send_signal(signal.SIGTERM)
            server.process.send_signal(signal.SIGINT)
            received = b""
            while CLOSE_CODE not in received:
                data = client.recv(4096)
                assert data, "a connection that is cut"
                received += data
            if repeat:
                assert end_by_many_signals(server) == 0
            else:
                client.sendall(CLOSE_REPLY)
                client.close()
                assert server.wait() == 0


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
