"""The upload budget: how many bytes of request bodies a process holds at the same time.

Each body is small, but strangers can open many connections. When the budget is used up, the upload
that has waited longest is cut, and not the newest: a body takes a moment to arrive and to be used.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

MAX_UPLOADED_BYTES = 2**24
"""Bytes of all bodies that one process holds."""

Upload = TypeVar("Upload", bound=Hashable)


class UploadBudget(Generic[Upload]):
    """Counts the bytes of each upload, from its first byte until its response is sent."""

    def __init__(self, max_bytes: int = MAX_UPLOADED_BYTES) -> None:
        self._max_bytes = max_bytes
        self._held: dict[Upload, int] = {}  # the oldest first
        self._total = 0

    def add(self, upload: Upload, size: int) -> list[Upload]:
        """Count *size* more bytes of *upload*. Return the uploads to cut, which are forgotten."""
        self._held[upload] = self._held.get(upload, 0) + size
        self._total += size
        cut = []
        while self._total > self._max_bytes:
            oldest = next(iter(self._held))
            self.remove(oldest)
            cut.append(oldest)
        return cut

    def remove(self, upload: Upload) -> None:
        """Forget an upload, if it is known."""
        self._total -= self._held.pop(upload, 0)
