"""Resuming: after which message a client that joins continues."""

from __future__ import annotations

from broadcast_server.protocol.join import JoinRequest

from .message_log import LogExtent


def resume_position(log: LogExtent, join: JoinRequest) -> tuple[int, bool, int | None]:
    """Return the resume position, and `recovered` and `missed` of the welcome.

    `missed` counts the messages between the cursor and the position, None if the cursor is unknown
    in this log.
    """
    since = join.since
    if since is None:
        # A client without a cursor misses nothing, however little history it asks for.
        return max(log.first - 1, log.head - join.history), True, 0
    if since.epoch != log.epoch or since.seq > log.head:
        return log.first - 1, False, None
    missed = max(0, log.first - 1 - since.seq)
    return since.seq + missed, missed == 0, missed
