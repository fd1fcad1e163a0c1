"""The delegated actions: those of a room that a subclass of `LiveRoom` carries out."""

from __future__ import annotations

from broadcast_server.protocol.operators import OperatorEvent

from .actions import ClaimName, NoteAct, Operate, RoutePrivate, SendPrivate

Delegated = ClaimName | Operate | NoteAct | SendPrivate | RoutePrivate


class DelegatedActions:
    """What a subclass provides, if its room returns these actions."""

    def _delegate(self, action: Delegated) -> None:
        match action:
            case SendPrivate():
                self._send_private(action)
            case RoutePrivate():
                self._route_private(action)
            case ClaimName():
                self._claim_name(action)
            case Operate():
                self._operate(action)
            case NoteAct(event=event):
                self._note_act(event)

    def _send_private(self, action: SendPrivate) -> None:
        """Send a private message to a member of this process, and answer its author."""

    def _route_private(self, action: RoutePrivate) -> None:
        """Send a private message where the room itself does not know all members."""

    def _claim_name(self, action: ClaimName) -> None:
        """Rename a member where the room itself does not decide about names."""

    def _operate(self, action: Operate) -> None:
        """Carry out what an operator asks for, where the room itself does not."""

    def _note_act(self, event: OperatorEvent) -> None:
        """Log what an operator did, and keep the mode of the room if that has changed."""
