"""The replica: one room in one process, kept in step with the other processes by the log.

The log in the database is the source of truth, and the channel layer is only a wake-up call.
What members publish waits in the outbox. One transaction logs a batch of it, and then the other
replicas are notified. Each of them can tell from the numbers what it has not read, and reads that
from the log: this is the only way in which a message reaches anyone. Notifications may be dropped,
delayed or repeated; a poll once a second finds what they missed. Who is present is read in the
same way, by the version of the room's roster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from channels.db import database_sync_to_async
from django.core.exceptions import ObjectDoesNotExist

from broadcast_server.admission.trusted_proxies import client_key
from broadcast_server.console.time_limit import run_within
from broadcast_server.http.stream import StreamRequest
from broadcast_server.protocol.join import JoinRequest
from broadcast_server.protocol.messages import Cursor, Event, Members
from broadcast_server.protocol.publish import NotEnoughReceivers, Published, PublishRequest
from broadcast_server.protocol.rejection import STOPPING, UNREADABLE, Rejection
from broadcast_server.rooms.actions import (
    Action,
    ClaimName,
    Close,
    Operate,
    Publish,
    RoutePrivate,
    Send,
)
from broadcast_server.rooms.kept_names import KEEPING_CODES
from broadcast_server.rooms.metrics import Metrics
from broadcast_server.rooms.participant import Participant
from broadcast_server.rooms.receiver import Receiver, StreamReceiver
from django_site import models
from django_site.accounts.models import Account
from django_site.store import message_log, presence, rejections
from django_site.store.message_log import NO_ID_PREFIX, Logged, RoomState
from django_site.store.presence import JoinAttempt, Leaving
from django_site.store.publish import AuthorGone
from django_site.store.rejections import Rejected
from django_site.store.silence import Silenced
from django_site.store.sync import SyncResult

from .admission_batch import AdmissionBatch
from .catch_up import CatchUp
from .drafts import draft_of_member, draft_of_post
from .logged_room import LoggedRoom
from .notifications import Notifications
from .outbox import Batch, Outbox
from .pending_posts import PendingPosts
from .private_messages import PrivateMessages
from .replicated_control import ReplicatedControl
from .replicated_roster import ReadPosition, ReplicatedRoster
from .synchronizer import Synchronizer

CLOSE_TIMEOUT_S = 0.5
"""Seconds to wait for the replica's tasks when it is closed: a channel layer may hold one up."""


class RoomReplica(LoggedRoom):
    """One room in one process."""

    def __init__(
        self,
        row: models.Room,
        process: str,
        max_message_bytes: int,
        metrics: Metrics,
        catching_up: CatchUp,
        private_messages: PrivateMessages,
    ) -> None:
        self._position = ReadPosition(row.epoch, row.head, row.first)
        self._roster = ReplicatedRoster(row.name, self._position, max_message_bytes)
        super().__init__(self._roster.room, row.pk, metrics, catching_up)
        self.member = self._roster.member
        self._control = ReplicatedControl(self._roster.room.control, row)
        self.deleted = False
        """Whether the room was deleted."""
        self._process = process
        self._roster_version = -1  # nothing was read yet
        self._edits = row.edits
        self._attempts: dict[Participant, JoinAttempt] = {}  # with which each has joined
        self._outbox = Outbox(process)
        self._posts = PendingPosts(metrics)
        self._closing: set[Participant] = set()
        self._joining_count = 0
        self._synchronizer = Synchronizer(self, process, row.epoch, self._outbox)
        self._private_messages = private_messages
        self._admission = AdmissionBatch(
            before=self._synchronizer.finish_leaving,
            join=self._join_roster,
            joined=self._joined_roster,
            sync=self._sync_joined,
        )
        self._notifications = Notifications(
            self.key, lambda: self.known, self._synchronizer.notified
        )

    @property
    def is_idle(self) -> bool:
        """Whether nobody of this process is here or joining, and nothing is left to be done."""
        busy = (
            self._receivers
            or self._joining_count
            or self._outbox
            or self._posts
            or self._synchronizer.is_busy
        )
        return self.deleted or not busy

    # -- joining and leaving --

    async def admit(
        self,
        join: JoinRequest,
        account: Account | None,
        connection_id: str,
        receiver: Receiver,
        address: str | None = None,
    ) -> Participant:
        """Make a connection a member. Raises `Rejected`, or a database's error.

        *connection_id* names the connection on the roster, and *address* is that of its client,
        None if it is unknown. Call `leave_roster` in the end.
        """
        attempt = JoinAttempt(join, connection_id, account, address)
        return await self._admit(attempt, lambda member: self.join(member, receiver))

    async def admit_subscriber(
        self,
        request: StreamRequest,
        account: Account | None,
        connection_id: str,
        receiver: StreamReceiver,
        address: str | None = None,
    ) -> Participant:
        """Make a connection a subscriber, like `admit`."""
        attempt = JoinAttempt(request.join, connection_id, account, address)
        return await self._admit(
            attempt,
            lambda subscriber: self.subscribe(subscriber, receiver, poll=request.poll),
        )

    async def _admit(
        self, attempt: JoinAttempt, enter: Callable[[Participant], None]
    ) -> Participant:
        self._joining_count += 1
        try:
            participant = await self._admission.admit(attempt)
            # Its cursor must not be ahead of what this process has read.
            while not (self._synchronizer.up_to_date or self._has_read(attempt.join.since)):
                await self._synchronizer.sync()
            self._roster.check(participant, attempt.connection_id)
            enter(participant)
        except ObjectDoesNotExist:
            self.close_deleted()
            raise Rejected(rejections.NO_ROOM) from None
        except BaseException:  # if it is cancelled, it may be on the roster already
            self._drop_connection(attempt.connection_id)
            raise
        finally:
            self._joining_count -= 1
        return participant

    async def _join_roster(self, attempts: Sequence[JoinAttempt]) -> list[str | Rejected]:
        return await database_sync_to_async(presence.join)(self.key, self._process, attempts)

    def _joined_roster(self, attempt: JoinAttempt, name: str) -> Participant:
        scope = attempt.join.session or f"#{attempt.connection_id}"
        key = client_key(attempt.address) or ""
        participant = Participant(attempt.join, scope, name, address=key)
        self._roster.participants[attempt.connection_id] = participant
        self._attempts[participant] = attempt
        return participant

    async def _sync_joined(self) -> None:
        """Read the roster with those who have just joined, and notify the other replicas."""
        await self._synchronizer.sync()
        self._notifications.send()  # only now do we know what to tell them

    def _has_read(self, since: Cursor | None) -> bool:
        """Tell whether this process has read everything up to *since*, if it is of this log."""
        if since is None or since.epoch != self._position.epoch:
            return True
        return since.seq <= self._position.head

    def leave_roster(self, participant: Participant, connection_id: str, code: int = 0) -> None:
        """Take a participant, whose connection is lost with *code*, out of room and roster."""
        self.leave(participant)
        self._drop_connection(connection_id, code)

    def _drop_connection(self, connection_id: str, code: int = 0) -> None:
        participant = self._roster.participants.pop(connection_id, None)
        if participant is not None:
            self._attempts.pop(participant, None)
            self._catching_up.forget(participant)
        self._synchronizer.leave(Leaving(connection_id, code in KEEPING_CODES))

    def wake(self, state: RoomState) -> None:
        """Synchronise soon, if *state* shows that there is something new."""
        if state != self.known:
            self._synchronizer.request_read()

    @property
    def known(self) -> RoomState:
        """What this process knows of the room."""
        position, acts = self._position, self._control.number
        return RoomState(position.head, self._roster_version, self._edits, position.first, acts)

    async def close(self) -> None:
        """End the replica's tasks, and reject what waits for a response."""
        tasks = [self._synchronizer.task, *self._notifications.tasks]
        if self._admission.task is not None:
            tasks.append(self._admission.task)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=CLOSE_TIMEOUT_S)
        self._posts.reject_all(STOPPING)
        self._synchronizer.space.set()

    def close_deleted(self) -> None:
        """Close everyone: the room was deleted. Clients that come back get a new one."""
        self._end(rejections.NO_ROOM)
        self.stop()

    def close_unreadable(self) -> None:
        """Close everyone: a row of the room is damaged."""
        self._end(UNREADABLE)
        for participant in tuple(self._receivers):
            self.kick(participant, UNREADABLE)

    def _end(self, rejection: Rejection) -> None:
        self.deleted = True
        self._outbox.clear()
        self._posts.reject_all(rejection)
        self._synchronizer.space.set()

    # -- publishing --

    @property
    def is_full(self) -> bool:
        """Whether so much waits to be logged that no more should be taken from members."""
        return self._outbox.is_full and not self.deleted

    async def wait_for_space(self) -> None:
        """Wait until the outbox takes more. Only clients that publish have to wait."""
        while self.is_full:
            self._synchronizer.space.clear()
            await self._synchronizer.space.wait()

    async def publish(
        self,
        request: PublishRequest,
        account: Account | None,
        connection_id: str,
        timeout: float,
        find_account: Callable[[], Account | None] = lambda: None,
        address: str | None = None,
    ) -> Published | NotEnoughReceivers:
        """Publish a message of a client that does not join, and wait until it was delivered.

        *account* is that of the client. *find_account* blocks and finds it once more, by the same
        means, when the message is logged.

        Raises `Rejected`, and TimeoutError after *timeout* seconds, or twice that if others have
        to be logged before; the message may be published even so.
        """
        source, client_id = self._outbox.log_key(
            request.join.session or f"#{connection_id}", request.id
        )
        if len(message_log.escape_nul(client_id)) > models.MAX_ID_CHARS:
            raise Rejected(rejections.BAD_ID)
        # Nothing may be awaited before it is in the outbox: an idle replica may be closed.
        if self.is_full:
            await run_within(self.wait_for_space(), timeout)
        if self.deleted:
            raise Rejected(rejections.NO_ROOM)
        author = Participant(request.join, source, request.join.name)
        message = draft_of_post(request, account, address, source, client_id, find_account)
        self._outbox.add_post(author, message)
        self._synchronizer.request()
        try:
            return await run_within(self._posts.add(author), timeout)
        finally:
            self._posts.discard(author)

    def _publish(self, action: Publish) -> None:
        author = action.author
        source, client_id = self._outbox.log_key(author.id_scope, action.id)
        if len(message_log.escape_nul(client_id)) > models.MAX_ID_CHARS:
            self._send_to(author, rejections.BAD_ID.error)
            return
        message = draft_of_member(action, self._attempts[author], source, client_id)
        self._outbox.add_message(author, message)
        self._synchronizer.request()

    def _claim_name(self, action: ClaimName) -> None:
        self._outbox.add_claim(action)
        self._synchronizer.request()

    def _operate(self, action: Operate) -> None:
        self._outbox.add_operation(action)
        self._synchronizer.request()

    def _route_private(self, action: RoutePrivate) -> None:
        self._private_messages.send(self, self._attempts[action.author].connection_id, action)

    def _execute(self, actions: list[Action], *, announces: bool = False) -> None:
        # A participant that is closed is told the reason at once, and waits for no echo.
        closing = {action.participant for action in actions if isinstance(action, Close)}
        self._closing |= closing
        super()._execute(actions, announces=announces)
        self._closing -= closing

    def _send_to(self, participant: Participant, event: Event) -> None:
        if participant not in self._closing and self._outbox.defer(participant, event):
            return
        if participant in self._receivers:
            self._fanout.send_to(participant, event)

    # -- synchronising --

    def connection_id_of(self, participant: Participant) -> str:
        """Return the connection of a participant of this process, empty if it is gone."""
        attempt = self._attempts.get(participant)
        return "" if attempt is None else attempt.connection_id

    @property
    def is_open(self) -> bool:
        """Whether this process knows of nothing that keeps a member from publishing."""
        return self._control.is_open and not self._roster.has_muted

    def author_names(self, batch: Batch) -> dict[str, str]:
        """Return the names of the authors in *batch* that are members, by their connections."""
        return self._roster.names_of(each.connection_id for each in batch.messages())

    def notify(self) -> None:
        """Tell the other processes that the room has changed."""
        self._notifications.send()

    def apply(self, result: SyncResult, batch: Batch) -> None:
        """Deliver who joined, what was published, and who left, in this order.

        Connections of this process that are not on the roster any more are closed before that.
        """
        if result.present is not None:
            self._execute(self._roster.apply_arrivals(result.present, result.removed))
        self._settle(batch, result)
        head_before = self._position.head
        self._position.first = result.state.first
        self._control.add(result.acts)
        self._announce_acts(result)
        self._send_answers(head_before)
        for message in result.messages:
            self._position.head = message.seq
            self.deliver(message)
            if self._control.has_waiting:
                self._announce_acts(result)
            self._send_answers(message.seq)
        for hidden in result.hidden:
            if hidden.seq <= head_before:  # else it was read as hidden
                self.deliver(hidden)
        self._edits = max(self._edits, result.state.edits)
        self._posts.delivered(self._position.head)
        if result.present is not None:
            if not self._control.has_waiting:  # else what they do is not in effect here
                self._execute(self._roster.close_kicked(result.removed))
                self._roster_version = result.state.roster
            self._execute(self._roster.apply_departures(result.present))

    def _announce_acts(self, result: SyncResult) -> None:
        """Tell everyone of the acts of operators that come next, and close who was kicked."""
        for event in self._control.take(self._position.head):
            self._execute([Send(None, event)])
            if event.act == "kick":
                self._execute(self._roster.close_kicked(result.removed, event.name))

    def _settle(self, batch: Batch, result: SyncResult) -> None:
        """Take note of what the database did with *batch*."""
        self._metrics.acts += result.operated.count(None)
        settled = self._outbox.sort_answers(batch, result.outcomes, result.renamed, result.operated)
        for author, message, outcome in settled:
            if isinstance(outcome, AuthorGone | Silenced):
                continue
            if not isinstance(outcome, Logged):
                self._posts.settle(author, outcome)
                continue
            self._metrics.messages += not outcome.repeated
            if outcome.repeated and not message.source.startswith(NO_ID_PREFIX):
                self._acknowledge_duplicate(author, message.client_id, outcome.seq)

    def _acknowledge_duplicate(self, author: Participant, id: str, seq: int) -> None:
        for action in self._roster.acknowledge_duplicate(author, id, seq):
            if isinstance(action, Send):
                self._outbox.answer_after(seq, author, action.event)

    def _send_answers(self, head: int) -> None:
        """Send the answers that follow what was delivered up to number *head*."""
        for participant, event in self._outbox.take_answers(head):
            if participant in self._receivers:
                # A list of members must not contradict joins, leaves and renames sent before it.
                current = self._roster.list_members() if isinstance(event, Members) else event
                self._fanout.send_to(participant, current)
                self._timer.schedule()
