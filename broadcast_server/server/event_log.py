"""The event log: the lines of the server's log about who joined, left and did what."""

from __future__ import annotations

import logging
from collections.abc import Callable

from broadcast_server.protocol.operators import ACTS, OperatorEvent
from broadcast_server.rooms.local_room import LocalRoom
from broadcast_server.rooms.participant import Participant

from .log_format import quote_word

logger = logging.getLogger("broadcast_server")

SUBSCRIBER_LABEL = "a subscriber"
"""What the log calls a participant that has no name."""


class EventLog:
    """The log of one server. *count_clients* returns how many clients it has."""

    def __init__(self, count_clients: Callable[[], int]) -> None:
        self._count_clients = count_clients

    def note(
        self, participant: Participant, action: str, room: LocalRoom, detail: str = ""
    ) -> None:
        """Log what *participant* did in *room*, or what happened to it."""
        members, participants = len(room.room), self._count_clients()
        clients = "1 client" if participants == 1 else f"{participants} clients"
        name = quote_word(participant.name) if participant.name else SUBSCRIBER_LABEL
        suffix = f", {detail}" if detail else ""
        fields = {
            "event": action.partition(" ")[0],
            "name": participant.name,
            "room": room.room.name,
            "how": detail,
            "here": members,
            "clients": participants,
        }
        logger.info(
            "%s %s %s%s (%d here, %s)",
            name,
            action,
            room.room.name,
            suffix,
            members,
            clients,
            extra={"fields": fields},
        )

    def note_act(self, room: str, event: OperatorEvent) -> None:
        """Log what an operator did in *room*."""
        kind = ACTS[event.act]
        values = {each: getattr(event, each) for each in kind.fields if each != "seq" or event.seq}
        detail = {True: "on", False: "off"}.get(event.on, "") if "on" in values else ""
        if "seconds" in values:
            detail = f"{event.seconds} s" if event.seconds else "off"
        if "messages" in values:
            count = "1 message" if event.messages == 1 else f"{event.messages} messages"
            detail = f"message {event.seq}" if event.seq else count
        words = [event.act, *(quote_word(str(each)) for each in (event.name, event.text) if each)]
        fields = {"event": kind.event, **values, "by": event.by, "room": room}
        logger.info(
            "%s used %s in %s",
            quote_word(event.by),
            " ".join([*words, detail]).rstrip(),
            room,
            extra={"fields": fields},
        )
