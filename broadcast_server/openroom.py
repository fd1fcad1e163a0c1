"""An open room: a room with its log, its fan-out, and the sockets of its members.

It carries out what the `Room` decides: it numbers what is published in the `Log`
and hands it back at once, with no task, queue or await in between, and it writes
what the `Fanout` owes once a turn of the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timezone

from .connection import Socket, frame_of
from .fanout import Fanout
from .history import Log
from .protocol import CloseCode, Format, Head
from .room import Action, Close, Enter, Peer, Publish, Room, Send

CHUNK = 512
"""So many messages a turn are read from the log for a member that is behind."""


class OpenRoom:
    """One room with its log, its fan-out, and the sockets of its members."""

    def __init__(
        self,
        name: str,
        log: Log,
        max_message_bytes: int,
        closed: Callable[[Socket, CloseCode], None],
    ) -> None:
        self._closed = closed
        self.log = log
        self.room = Room(name, log, max_message_bytes)
        self._fanout = Fanout(log.head)
        self._sockets: dict[Peer, Socket] = {}
        self._flowing: dict[Peer, Socket] = {}  # paused or resumed since the last turn
        self._due = False
        self._now = ""

    def enter(self, peer: Peer, socket: Socket) -> None:
        """Let *peer* in."""
        self._sockets[peer] = socket
        self._do(self.room.connect(peer))

    def receive(self, peer: Peer, frame: str) -> None:
        """Take what *peer* sent."""
        self._do(self.room.receive(peer, frame))

    def leave(self, peer: Peer) -> None:
        """Take *peer* out, whose connection is gone."""
        if self._sockets.pop(peer, None) is not None:
            self._fanout.leave(peer)
            self._do(self.room.disconnect(peer))

    def expel(self, peer: Peer, code: CloseCode, fault: str, text: str) -> None:
        """Close *peer*."""
        self._do(self.room.expel(peer, code, fault, text))

    def flow(self, peer: Peer) -> None:
        """Note that the socket of *peer* was paused or resumed."""
        if peer in self._sockets:
            self._flowing[peer] = self._sockets[peer]
            self._schedule()

    def head(self) -> None:
        """Show the JSON clients that the room is alive."""
        if self._sockets:
            self._do([Send(None, Head(self.log.head))])

    def stop(self) -> None:
        """Close everyone."""
        self.flush()  # the rest of the turn, encoded once for all
        self._do(self.room.stop())

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Publish(peer=peer, text=text, id=id):
                    seq = self.log.seq_of(peer.source, id)
                    if seq is not None and id is not None:
                        self._do(self.room.repeated(peer, id, seq))
                        continue
                    if not self._now:
                        now = datetime.now(timezone.utc)
                        self._now = now.isoformat(timespec="milliseconds")[:-6] + "Z"
                    message = self.log.append(peer.name, text, self._now, id, peer.source)
                    self._do(self.room.deliver(message))
                case Send(to=None, event=event):
                    self._fanout.everyone(event)
                    if self._fanout.full:
                        self.flush()
                case Send(to=Peer() as peer, event=event):
                    self._fanout.only(peer, event)
                case Enter(peer=peer, after=after, welcome=welcome):
                    self._fanout.enter(peer, after, welcome)
                case Close(peer=peer, code=code, reason=reason):
                    socket = self._sockets.pop(peer)
                    socket.write(map(frame_of, self._fanout.leave(peer)))
                    socket.close(code, reason)
                    self._closed(socket, code)
        if actions:
            self._schedule()

    def _schedule(self) -> None:
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """End the turn: write to everyone what it owes them."""
        self._due = False
        self._now = ""
        turn = self._fanout.turn()
        if turn:
            frames: dict[Format, list[bytes]] = {}
            for peer, socket in self._sockets.items():
                if peer in turn.own:
                    continue
                format = peer.entry.format
                if format not in frames:
                    frames[format] = [frame_of(payload) for payload in turn.common(format)]
                socket.write(frames[format])
        for peer, payloads in turn.own.items():
            self._sockets[peer].write(map(frame_of, payloads))
        self._settle_flow()
        slow = self._feed() + self._fanout.overdue()
        for peer in slow:
            self.expel(peer, CloseCode.TOO_SLOW, "too_slow", "you read too slowly")
        if self._fanout.hungry():
            self._schedule()

    def _settle_flow(self) -> None:
        """Tell the fan-out whose socket was paused or resumed."""
        while self._flowing:
            peer, socket = self._flowing.popitem()
            if peer in self._sockets:
                (self._fanout.stall if socket.paused else self._fanout.ready)(peer)

    def _feed(self) -> list[Peer]:
        """Let those read on in the log who are behind, and return whom it left behind."""
        lost: list[Peer] = []
        for peer, seq in self._fanout.hungry():
            if seq + 1 < self.log.first:
                lost.append(peer)
            else:
                payloads = self._fanout.feed(peer, self.log.after(seq, CHUNK))
                self._sockets[peer].write(map(frame_of, payloads))
        self._settle_flow()
        return lost
