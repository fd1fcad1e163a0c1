"""A receiver on which every write takes time, to make a room busy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

WRITE_S = 0.05
"""Seconds that each write takes."""


Frame = TypeVar("Frame")


class SlowReceiver(Generic[Frame]):
    """A receiver on which every write takes `WRITE_S`.

    *written* gets when each write began, its frames, and when it ended.
    """

    paused = False

    def __init__(self, encode: Callable[[bytes], Frame]) -> None:
        self.encode = encode
        self.written: asyncio.Queue[tuple[float, list[Frame], float]] = asyncio.Queue()

    def write(self, frames: Iterable[Frame]) -> None:
        begin = time.monotonic()
        frames = list(frames)
        if frames:
            time.sleep(WRITE_S)  # blocks the event loop, as a large write does
            self.written.put_nowait((begin, frames, time.monotonic()))

    def close(self, code: int, reason: str) -> None:
        raise AssertionError
