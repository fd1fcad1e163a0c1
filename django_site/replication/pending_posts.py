"""Pending posts: clients that published over HTTP, and wait to be told that it was delivered."""

from __future__ import annotations

import asyncio

from broadcast_server.protocol.publish import NotEnoughReceivers, Published
from broadcast_server.protocol.rejection import Rejection
from broadcast_server.rooms.metrics import Metrics
from broadcast_server.rooms.participant import Participant
from django_site.store.publish import Outcome
from django_site.store.rejections import Rejected

Result = Published | NotEnoughReceivers


class PendingPosts:
    """The posts of one room in one process that have no response yet."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._waiting: dict[Participant, asyncio.Future[Result]] = {}
        self._logged: list[tuple[Published, asyncio.Future[Result]]] = []  # not yet delivered

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, author: Participant) -> asyncio.Future[Result]:
        """Return the future result of what *author* posted. Call `discard` in the end."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting[author] = future
        return future

    def discard(self, author: Participant) -> None:
        """Forget a post: its client has its response, or waits no longer."""
        self._waiting.pop(author, None)

    def settle(self, author: Participant, outcome: Outcome) -> None:
        """Take note of what the database did with a post, whose client may wait no longer."""
        if isinstance(outcome, Published):
            self._metrics.messages += not outcome.repeated
            self._metrics.posts += not outcome.repeated
        future = self._waiting.get(author)
        if future is None or future.done():
            return
        match outcome:
            case Published():
                self._logged.append((outcome, future))
            case NotEnoughReceivers():
                future.set_result(outcome)
            case Rejected():
                future.set_exception(outcome)

    def delivered(self, head: int) -> None:
        """Answer the posts that were logged, now that everything up to *head* is delivered."""
        for published, future in self._logged:
            if published.seq <= head and not future.done():
                future.set_result(published)
        self._logged = [each for each in self._logged if each[0].seq > head]

    def reject_all(self, rejection: Rejection) -> None:
        """Reject every post that has no response yet."""
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(Rejected(rejection))
