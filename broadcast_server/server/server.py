"""The server: admits connections, routes what they send to their rooms, and stops cleanly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from broadcast_server.admission.admission import AdmissionControl, ClientPlace
from broadcast_server.admission.pending import PendingConnections
from broadcast_server.admission.trusted_proxies import client_key
from broadcast_server.http.prometheus import Gauges, exposition
from broadcast_server.http.upload_budget import UploadBudget
from broadcast_server.protocol.join import JoinRequest
from broadcast_server.protocol.messages import CloseCode
from broadcast_server.protocol.rejection import STOPPING, UNREADABLE, Rejection
from broadcast_server.protocol.session_key import SessionKey
from broadcast_server.rooms.local_room import LocalRoom
from broadcast_server.rooms.message_log import DamagedRoomError
from broadcast_server.rooms.metrics import Metrics
from broadcast_server.rooms.participant import Participant, new_id_scope
from broadcast_server.rooms.receiver import Receiver

from .api import Applicant, Connection, ParticipantConnection, SubscriberConnection, Upload
from .event_log import EventLog
from .first_request import FirstRequest
from .listen_socket import ConnectionTracker
from .listener import Listener
from .log_format import quote_word
from .own_names import allowed_hosts
from .room_registry import LOG_ENDED, NOT_RECORDING, RoomRegistry
from .settings import Settings

if TYPE_CHECKING:
    from broadcast_server.admission.token import Credentials
    from broadcast_server.http.stream import StreamRequest
    from broadcast_server.protocol.publish import NotEnoughReceivers, Published, PublishRequest
    from broadcast_server.rooms.sqlite_log import SQLiteLog

    from .tls import ReloadableCertificate

_Participation = tuple[LocalRoom, Participant, ClientPlace]  # of a participant's connection


class Server:
    """One server: it implements `ServerAPI` for all of its connections.

    *program* is the single file that it hands out, *log_file* where rooms are persisted, and
    *max_files* how many files the process may open, None for no limit.
    """

    def __init__(
        self,
        settings: Settings,
        program: bytes | None = None,
        log_file: SQLiteLog | None = None,
        certificate: ReloadableCertificate | None = None,
        max_files: int | None = None,
    ) -> None:
        self.settings = settings
        self.program = program
        self.share_url: str | None = None
        self.accepting = True
        self.timeouts = settings.timeouts
        self.origins = settings.origins
        self.trusted_proxies = settings.trusted_proxies
        self.max_message_bytes = settings.max_message_bytes
        self.session_key = SessionKey() if log_file is None else log_file.session_key
        self.uploads: UploadBudget[Upload] = UploadBudget()
        self._metrics = Metrics()
        self._log = EventLog(lambda: len(self._participants))
        self._rooms = RoomRegistry(
            settings, self._metrics, self._closed_by_room, log_file, self._log.note_act
        )
        self._admission = AdmissionControl(settings.token, settings.limits, settings.operator_key)
        self._waiting_for_admission: set[Applicant] = set()
        self._participants: dict[ParticipantConnection, _Participation] = {}
        self._connections: set[Connection] = set()
        limits = settings.limits
        pending = PendingConnections(limits.clients, limits.clients_per_address, max_files)
        self._tracker = ConnectionTracker(pending, settings.trusted_proxies)
        self.listener = Listener(
            settings.host,
            settings.port,
            settings.unix,
            certificate=certificate,
            tls_handshake_timeout=settings.timeouts.handshake,
            tracker=self._tracker,
        )
        self._heartbeat_timer: asyncio.TimerHandle | None = None
        self._all_closed = asyncio.Event()

    # -- listening and stopping --

    async def listen(self) -> None:
        """Start listening; `url` says where. Raises OSError, `ListenError`."""
        await self.listener.open(lambda: FirstRequest(self))
        self.hosts = allowed_hosts(self.settings, self.listener)
        self._start_heartbeat_timer()
        self._rooms.watch_log_file()

    @property
    def url(self) -> str:
        """The WebSocket's address, with the port that the server really has."""
        return self.listener.urls[0]

    def metrics_text(self) -> str:
        """Return the metrics in Prometheus' text format."""
        behind = sum(room.behind_count for room in self._rooms)
        streams = sum(room.subscriber_count for room in self._rooms)
        gauges = Gauges(len(self._participants), len(self._rooms), behind, streams)
        return exposition(self._metrics, gauges)

    async def stop(self) -> None:
        """Write the current batch, let participants that are behind catch up, and close everyone.

        All of it takes at most the grace period, half of it for catching up. Messages that
        arrive from now on are not accepted: their senders get no echo, and send them again to
        the next server.
        """
        self.accepting = False  # it still listens, to say so at /healthz
        if self._heartbeat_timer is not None:
            self._heartbeat_timer.cancel()
        deadline = asyncio.get_running_loop().time() + self.settings.grace
        await self._let_catch_up(self.settings.grace / 2)
        self._rooms.stop()
        for connection in tuple(self._connections):
            connection.shut_down()
        await self._wait_all_closed(deadline)
        await self._tracker.close_all(self.abort)
        self.listener.close()

    def abort(self) -> None:
        """Cut every connection that is left."""
        for connection in tuple(self._connections):
            connection.abort()

    async def _let_catch_up(self, timeout: float) -> None:
        for room in self._rooms:
            room.flush()
        waiting = [asyncio.ensure_future(room.wait_caught_up()) for room in self._rooms]
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=timeout)
            for each in late:
                each.cancel()

    async def _wait_all_closed(self, deadline: float) -> None:
        """Wait until every connection is closed, but not longer than *deadline*."""
        if self._connections:
            self._all_closed.clear()
            timer = asyncio.get_running_loop().call_at(deadline, self._all_closed.set)
            await self._all_closed.wait()
            timer.cancel()

    def _start_heartbeat_timer(self) -> None:
        loop, interval = asyncio.get_running_loop(), self.settings.heartbeat_interval
        self._heartbeat_timer = loop.call_later(interval, self._send_heartbeats)

    def _send_heartbeats(self) -> None:
        for room in self._rooms:
            room.heartbeat()
        self._start_heartbeat_timer()

    # -- connections --

    def connection_opened(self, connection: Connection) -> None:
        """Remember *connection* until `connection_closed`."""
        self._connections.add(connection)

    def connection_closed(self, connection: Connection) -> None:
        """Forget *connection*, end its allowance, and count its close code."""
        self._connections.discard(connection)
        if connection.allowance is not None:
            now = asyncio.get_running_loop().time()
            self._admission.close_allowance(connection.allowance, now)
        if connection.close_code is not None:
            self._metrics.count_close(connection.close_code)
        if not self._connections:
            self._all_closed.set()

    # -- admission --

    def admit(
        self,
        applicant: Applicant,
        join: JoinRequest,
        credentials: Credentials,
        on_admitted: Callable[[ClientPlace], None],
        *,
        joins: bool = True,
    ) -> None:
        """Call *on_admitted* or reject *applicant*, now or after a delay.

        The delay is what the admission control asks for. A client that *joins* also waits until
        its allowance has a token. The place is given back when *on_admitted* returns, unless the
        client was made a participant.
        """
        now = asyncio.get_running_loop().time()
        decision = self._admission.authenticate(applicant.client, credentials, now, join.session)
        delay = decision.wait
        if joins and decision.rejection is None:
            applicant.allowance = self._admission.open_allowance(
                applicant.client, join.session, now
            )
            if applicant.allowance is not None:
                delay = max(delay, applicant.allowance.join(now))

        def decide() -> None:
            self.cancel_wait(applicant)
            rejection = decision.rejection if self.accepting else STOPPING
            if rejection is None:
                rejection = self._try_admit(applicant, join, on_admitted, joins=joins)
            if rejection is not None:
                applicant.reject(rejection)

        if decision.wait:
            self._waiting_for_admission.add(applicant)
        if delay:
            applicant.wait(delay, decide)
        else:
            decide()

    def _try_admit(
        self,
        applicant: Applicant,
        join: JoinRequest,
        on_admitted: Callable[[ClientPlace], None],
        *,
        joins: bool,
    ) -> Rejection | None:
        """Call *on_admitted* with a place for *applicant*, or return the rejection."""
        room = self._rooms.get(join.room)
        is_subscriber = not join.name
        takes_over = room is not None and room.room.has_session(join.session) and not is_subscriber
        place = self._admission.admit(
            applicant.client, len(self._rooms), new_room=room is None, takes_over=takes_over
        )
        if isinstance(place, Rejection):
            return place
        with place:
            try:
                room = self._rooms.open(join.room)
            except DamagedRoomError:  # which the registry has logged
                return UNREADABLE
            try:
                address = client_key(applicant.client) or ""
                if joins and (rejection := room.room.check_join(join, address)) is not None:
                    return rejection
                on_admitted(place)
            finally:
                self._rooms.close_if_empty(room)
        return None

    def cancel_wait(self, applicant: Applicant) -> None:
        """Note that *applicant* no longer waits to be admitted, if it did."""
        if applicant in self._waiting_for_admission:
            self._waiting_for_admission.discard(applicant)
            self._admission.end_wait(applicant.client)

    # -- rooms --

    def join(
        self, connection: ParticipantConnection, join: JoinRequest, place: ClientPlace
    ) -> None:
        """Make *connection*, which has *place*, a member of the room that it asked for."""
        room, participant = self._new_participant(connection, join, place)
        room.join(participant, connection)
        self._joined(connection, participant, room)

    def subscribe(
        self, connection: SubscriberConnection, request: StreamRequest, place: ClientPlace
    ) -> None:
        """Make *connection*, which has *place*, a subscriber of the room that it asked for."""
        room, participant = self._new_participant(connection, request.join, place)
        room.subscribe(participant, connection, poll=request.poll)
        self._joined(connection, participant, room)

    def publish(
        self,
        applicant: Applicant,
        request: PublishRequest,
        done: Callable[[Published | NotEnoughReceivers], None],
    ) -> None:
        """Publish a message, and call *done* once it was delivered; or reject *applicant*."""
        size = len(request.text.encode())
        rejection = self._admission.check_publish_rate(
            applicant.client, request.join.session, size, asyncio.get_running_loop().time()
        )
        if rejection is not None:
            applicant.reject(rejection)
            return
        room = self._rooms.open(request.join.room)
        self._metrics.received += size
        address = client_key(applicant.client) or ""
        result = room.publish(request, request.join.session or new_id_scope(), address)

        def delivered() -> None:  # by now it is in the log file, too
            if isinstance(result, Rejection):
                applicant.reject(result)
            elif room.is_abandoned:
                applicant.reject(LOG_ENDED)
            else:
                done(result)

        room.call_after_batch(delivered)

    def receive(self, connection: ParticipantConnection, lines: str, size: int) -> None:
        """Take *lines* of text, *size* bytes in all, that *connection* received."""
        if connection in self._participants and self.accepting:
            room, member, _ = self._participants[connection]
            self._metrics.received += size
            name_before = member.name
            room.receive(member, lines)
            if member.name != name_before and connection in self._participants:
                self._log.note(member, "renamed in", room, f"was {quote_word(name_before)}")

    def call_after_batch(
        self, connection: ParticipantConnection, callback: Callable[[], None]
    ) -> None:
        """Call *callback* when the current batch of the connection's room is written."""
        if connection in self._participants:
            self._participants[connection][0].call_after_batch(callback)
        else:
            asyncio.get_running_loop().call_soon(callback)

    def flow_changed(self, connection: ParticipantConnection) -> None:
        """Note that *connection* was paused or resumed."""
        if connection in self._participants:
            room, participant, _ = self._participants[connection]
            room.flow_changed(participant)

    def kick(self, connection: ParticipantConnection, rejection: Rejection) -> None:
        """Close *connection* for a fault of its client."""
        if connection in self._participants:
            room, participant, _ = self._participants[connection]
            room.kick(participant, rejection)

    def leave(self, connection: ParticipantConnection) -> None:
        """Take *connection*, which is lost, out of its room, if it is in one."""
        if connection in self._participants:
            room, participant = self._forget(connection)
            room.leave(participant, connection.close_code)
            self._log.note(participant, "left", room)
            self._rooms.close_if_empty(room)

    def _closed_by_room(self, receiver: Receiver, code: CloseCode) -> None:
        """Note that a room closed the connection of a participant."""
        connection = cast(ParticipantConnection, receiver)
        room, participant = self._forget(connection)
        self._log.note(participant, "left", room, f"closed with {code.value} {code.name.lower()}")
        self._rooms.close_if_empty(room)

    def _new_participant(
        self, connection: ParticipantConnection, join: JoinRequest, place: ClientPlace
    ) -> tuple[LocalRoom, Participant]:
        room = self._rooms.open(join.room)
        id_scope, address = join.session or new_id_scope(), client_key(connection.client)
        participant = Participant(join, id_scope, address=address or "")
        self._participants[connection] = room, participant, place
        place.keep()
        self._tracker.joined(connection.file_number)
        self._metrics.joins += 1
        return room, participant

    def _joined(
        self, connection: ParticipantConnection, participant: Participant, room: LocalRoom
    ) -> None:
        if not self._rooms.is_recording:
            room.send(participant, NOT_RECORDING)
        self._log.note(participant, "joined", room, f"from {connection.address}")

    def _forget(self, connection: ParticipantConnection) -> tuple[LocalRoom, Participant]:
        room, participant, place = self._participants.pop(connection)
        place.release()
        return room, participant
