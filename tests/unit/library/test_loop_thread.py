"""The thread in which the library's event loop runs, for programs without asyncio."""

from __future__ import annotations

import asyncio
import signal
import threading
from concurrent.futures import Future

import pytest

from broadcast_server.library.loop_thread import LoopThread, ThreadEndedError, _wait


class Interrupted(BaseException):
    """What a signal handler raises in these tests, as Python's own raises KeyboardInterrupt."""


def test_a_call_can_end_when_the_thread_is_stopped() -> None:
    """What is under way gets its result: whoever closes a room does not cut off other threads."""
    thread = LoopThread()

    async def call() -> str:
        asyncio.get_running_loop().stop()  # as `stop` does, from this thread
        for _ in range(5):
            await asyncio.sleep(0)
        return "done"

    assert thread.run(call) == "done"
    thread._thread.join(10)  # it stops itself, and must not be stopped twice
    with pytest.raises(ThreadEndedError):
        thread.run(call)


def test_a_call_that_does_not_end_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopping takes a bounded time, whatever is under way, and whoever waits is told."""
    monkeypatch.setattr("broadcast_server.library.loop_thread.MAX_END_S", 0.01)
    thread = LoopThread()
    was_cancelled: list[bool] = []

    async def call() -> None:
        asyncio.get_running_loop().stop()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            was_cancelled.append(True)
            raise

    with pytest.raises(ThreadEndedError):
        thread.run(call)
    thread._thread.join(10)  # it stops itself, and must not be stopped twice
    assert was_cancelled == [True]


@pytest.mark.parametrize("interval", [None, 0.01])
def test_waiting_by_intervals(interval: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows a thread looks around: that neither ends a wait nor hides its own time limit."""
    monkeypatch.setattr("broadcast_server.library.loop_thread.POLL_INTERVAL_S", interval)
    thread = LoopThread()

    async def slow() -> str:
        await asyncio.sleep(0.05)
        return "done"

    async def late() -> None:
        await asyncio.sleep(0.05)
        raise TimeoutError("late")

    assert thread.run(slow) == "done"
    with pytest.raises(TimeoutError, match="late"):
        thread.run(late)
    thread.stop()


class EndsLate(Future[str]):
    """A future that gets its result just when somebody asks whether it has one."""

    def done(self) -> bool:
        if not super().done():
            self.set_result("done")
        return True


def test_a_result_that_comes_at_the_end_of_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the result of the call, and no TimeoutError."""
    monkeypatch.setattr("broadcast_server.library.loop_thread.POLL_INTERVAL_S", 0.01)
    assert _wait(EndsLate()) == "done"


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals to a thread")
def test_a_call_that_is_interrupted_is_cancelled() -> None:
    """Whoever presses Ctrl+C while a message is sent does not have it sent later."""
    thread = LoopThread()
    cancelled = threading.Event()

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted

    async def call() -> None:
        # By then the other thread waits. Nothing catches the exception on the way, as it is no
        # OSError, such as InterruptedError.
        asyncio.get_running_loop().call_later(0.2, send_signal)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def send_signal() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(Interrupted):
            thread.run(call)
        assert cancelled.wait(10)
    finally:
        signal.signal(signal.SIGUSR1, before)
        thread.stop()


def test_a_call_from_its_own_thread() -> None:
    """It would wait for itself for ever: that is an error, which says what to use."""
    thread = LoopThread()

    async def call() -> None:
        async def inner() -> None:
            pass

        thread.run(inner)

    with pytest.raises(RuntimeError, match=r"wait for its own thread \(use connect, with await\)"):
        thread.run(call)
    thread.stop()
