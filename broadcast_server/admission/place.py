"""A place: what one admitted client takes of the limit on clients, and has to give back."""

from __future__ import annotations

from types import TracebackType
from typing import Generic, Protocol, TypeVar

Key_contra = TypeVar("Key_contra", contravariant=True)


class Counter(Protocol[Key_contra]):
    """Counts clients."""

    def remove(self, key: Key_contra) -> None:
        """Count one client less, of those with *key*."""


class Place(Generic[Key_contra]):
    """One client's place, which is given back once, on every way of not staying.

    Use it in a `with` block: the place is given back at the end of the block, also by an exception
    or a cancellation, unless `keep` was called. Whoever keeps it calls `release` in the end.

    Args:
        counter: Where the client was counted.
        key: What it was counted by.

    """

    __slots__ = ("_counter", "_is_held", "_is_kept", "_key")

    def __init__(self, counter: Counter[Key_contra], key: Key_contra) -> None:
        self._counter = counter
        self._key = key
        self._is_held = True
        self._is_kept = False

    def keep(self) -> None:
        """Do not give the place back at the end of the block."""
        self._is_kept = True

    def release(self) -> None:
        """Give the place back. Further calls do nothing."""
        if self._is_held:
            self._is_held = False
            self._counter.remove(self._key)

    def __enter__(self) -> Place[Key_contra]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None or not self._is_kept:
            self.release()
