"""An observed room: a local room whose events a program in the same process gets as well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from broadcast_server.protocol.join import JoinRequest
from broadcast_server.protocol.messages import Error, Event, Message
from broadcast_server.protocol.operators import HIDE, OperatorRequest

from .actions import Send
from .local_room import LocalRoom
from .operator_acts import operate
from .participant import Participant


class ObservedRoom(LocalRoom):
    """A local room that calls *observe* with each event for everyone, when it happens.

    It comes before the event is in the log file: use `call_after_batch` to wait for that.
    """

    def __init__(
        self, observe: Callable[[ObservedRoom, Event], None], *args: Any, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self._observe = observe

    def act(self, request: OperatorRequest, by: str) -> Error | None:
        """Carry out *request* of the program, as an operator *by*. Return why not, if it is not."""
        author = Participant(JoinRequest(by, self.room.name, operator=True), "", by)
        is_hiding = request.act == HIDE
        actions = self._hide(author, request) if is_hiding else operate(self.room, author, request)
        answers = [each.event for each in actions if isinstance(each, Send) and each.to is author]
        self._execute([each for each in actions if not isinstance(each, Send) or each.to is None])
        return next((each for each in answers if isinstance(each, Error)), None)

    def _broadcast(self, event: Event) -> None:
        super()._broadcast(event)
        self._observe(self, event)

    def _broadcast_lines(self, messages: list[Message]) -> None:
        super()._broadcast_lines(messages)
        for message in messages:
            self._observe(self, message)
