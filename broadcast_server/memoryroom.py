"""A memory room: an open room whose log is in memory, where numbers are given at once.

That it may be written to a file as well, and who comes in, is the server's matter.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from .history import Log
from .metrics import Metrics
from .openroom import CHUNK, PORTION, Line, OpenRoom
from .protocol import CloseCode
from .room import Peer, Publish, Room

if TYPE_CHECKING:
    from .logfile import LogFile
    from .post import Post, Said, TooFew


class MemoryRoom(OpenRoom):
    """An open room whose log is in memory: what is published is numbered and back at once.

    With a *file* it is written there as well, before anyone is told; *keep* writes.
    """

    def __init__(
        self,
        name: str,
        log: Log,
        max_message_bytes: int,
        closed: Callable[[Line, CloseCode], None],
        metrics: Metrics | None = None,
        file: LogFile | None = None,
        keep: Callable[[], None] | None = None,
    ) -> None:
        room = Room(name, log, max_message_bytes)
        super().__init__(room, closed, metrics or Metrics())
        self.log = log
        self._file = file
        self._keep_all = keep
        self._now = ""  # of this turn

    def _publish(self, what: Publish) -> None:
        seq = self.log.seq_of(what.peer.source, what.id)
        if seq is not None and what.id is not None:
            self._do(self.room.repeated(what.peer, what.id, seq))
        else:
            self._append(what.name, what.text, what.id, what.peer.source)

    def say(self, post: Post, source: str) -> Said | TooFew:
        """Say what someone posts who does not come in, if it was not said and enough are here."""
        from .post import Said, TooFew

        count = self.clients
        seq = self.log.seq_of(source, post.id)
        if seq is not None:
            (before,) = self.log.after(seq - 1, 1)
            return Said(seq, before.name, count, repeated=True)
        if count < post.require:
            return TooFew(count)
        name = self.room.name_of(post.entry)
        self._metrics.posts += 1
        return Said(self._append(name, post.text, post.id, source), name, count)

    def _append(self, name: str, text: str, id: str | None, source: str) -> int:
        if not self._now:
            now = datetime.now(timezone.utc)
            self._now = now.isoformat(timespec="milliseconds")[:-6] + "Z"
        self._metrics.messages += 1
        message = self.log.append(name, text, self._now, id, source)
        if self._file is not None:
            self._file.add(self.room.name, self.log, message, source)
        self.deliver(message)
        return message.seq

    def _keep(self) -> None:
        if self._keep_all is not None:
            self._keep_all()

    def _feed(self) -> list[Peer]:
        self._now = ""
        lost: list[Peer] = []
        for peer, _ in self._fanout.hungry():
            for _ in range(PORTION // CHUNK):
                seq = self._fanout.place(peer)
                if seq is None or self._lines[peer].paused:
                    break
                if seq + 1 < self.log.first:
                    lost.append(peer)
                    break
                self._give(peer, self._fanout.feed(peer, self.log.after(seq, CHUNK)))
        self._settle_flow()
        if self._fanout.hungry():
            self._schedule()
        return lost
