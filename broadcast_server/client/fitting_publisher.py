"""The fitting publisher: publishes texts that may be over the server's limit.

A response over HTTP tells the limit only when it rejects a message. So the first text that is too
long is rejected, and then sent as it fits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from .message_limit import ANY_LIMIT
from .publish_result import Accepted
from .publisher import HTTPPublisher, PublishFailed


class FittingPublisher:
    """Publishes with *publisher*, and does with texts over the limit what *oversize* says.

    See `OVERSIZE`.
    """

    def __init__(self, publisher: HTTPPublisher, oversize: str) -> None:
        self._publisher = publisher
        self._oversize = oversize
        self._limit = ANY_LIMIT

    def publish(self, text: str) -> Iterator[Accepted]:
        """Publish *text*, and yield the result of each message. Raises PublishFailed."""
        pending, count = deque([text]), 0
        while pending:
            part = pending.popleft()
            if not self._limit.fits(part):
                pending.extendleft(reversed(self._limit.fit(part, self._oversize)))
                continue
            try:
                accepted = self._publisher.publish(part)
            except PublishFailed as error:
                limit = self._limit.lowered_by(error.why)
                if limit is None and count:
                    raise error.after(count) from None
                if limit is None:
                    raise
                self._limit = limit
                pending.appendleft(part)
            else:
                count += 1
                yield accepted
