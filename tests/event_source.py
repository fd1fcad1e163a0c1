"""An EventSource as strict as any: what one browser or library does, another may not.

It follows the HTML standard, section 9.2, where that costs a client most:

- Any status but 200, or another type, ends it for good.
- Each connection begins without an id, so an event without one makes it forget its position.
- The id of a block without data is dropped, which is not the standard: Firefox and the library
  `eventsource` for Node do so.
- A block that is not ended is dropped, and so is its id.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from curl import Stream

CONNECTING, OPEN, CLOSED = 0, 1, 2


class EventSource:
    """An event source at *target*. `run` receives events into `events` until it is cancelled."""

    def __init__(self, target: str) -> None:
        self._target = target
        self.events: list[dict[str, Any]] = []
        self.ready_state = CONNECTING
        self.last_event_id = ""
        self.requested: list[str] = []
        """The Last-Event-ID of each request that was answered, empty for none."""
        self._retry_s = 0.05  # until the server says another time

    async def run(self, url: str) -> None:
        """Connect to *url* again and again, until a response ends it for good."""
        while self.ready_state != CLOSED:
            try:
                await self._receive(url)
            except (OSError, EOFError):
                pass  # the connection ended, in whatever way
            if self.ready_state != CLOSED:
                self.ready_state = CONNECTING
                await asyncio.sleep(self._retry_s)

    @property
    def texts(self) -> list[str]:
        """The messages that it received."""
        return [each["text"] for each in self.events if each["type"] == "message"]

    async def _receive(self, url: str) -> None:
        last = [f"Last-Event-ID: {self.last_event_id}"] if self.last_event_id else []
        stream = await Stream.open(url, self._target, "Accept: text/event-stream", *last)
        self.requested.append(self.last_event_id)
        try:
            if (stream.status, stream.headers["content-type"]) != (200, "text/event-stream"):
                self.ready_state = CLOSED
                return
            self.ready_state = OPEN
            id = ""
            while True:
                fields = await stream.server_sent_event()
                if "retry" in fields:
                    self._retry_s = int(fields["retry"]) / 1000
                if "data" in fields:
                    id = fields.get("id", id)
                    self.last_event_id = id
                    self.events.append(json.loads(fields["data"]))
        finally:
            stream.wire.cut()
