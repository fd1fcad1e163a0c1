"""A node: one room in one process, kept in step with the others by the log.

**The log is the truth, the channel layer is the doorbell.** What members say waits
in the node's outbox; a turn's worth is logged in one transaction, then the bell is
rung once. Every node of the room hears it, sees by the numbers what it has not
read, and reads that from the log: the only way by which a message reaches anyone.
The layer may drop, delay or die; a slow poll finds what the bell did not ring for.

Who is here is read in the same way, by the version of the room's roster.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django.core.exceptions import ObjectDoesNotExist
from django.db import Error as DatabaseError

from broadcast_server.entry import Entry
from broadcast_server.eventstream import Listen
from broadcast_server.metrics import Metrics
from broadcast_server.openroom import CHUNK, Line, OpenRoom, Stream
from broadcast_server.post import Post, Said, TooFew
from broadcast_server.protocol import (
    CloseCode,
    Cursor,
    Error,
    Event,
    Hidden,
    Members,
    Numbered,
    Renamed,
)
from broadcast_server.room import Action, Claim, Close, Peer, Publish, Send

from . import bell, ends, letters, log, models, outage, presence
from .accounts.models import Account
from .ends import End, Refused
from .letters import Letter, Outcome
from .log import UNNAMED, Appended, Draft, Logged, State
from .presence import Newcomer, Present, Wish
from .sharedroom import Reach, SharedRoom

logger = logging.getLogger(__name__)

BATCH = 1000
"""So many messages are logged in one transaction."""

CROWD = 64
"""So many are let in in one transaction, which others wait for."""

OUTBOX = 1000
"""With so many messages that wait to be logged, the node takes no further frame."""

PAGE = 2 * BATCH
"""So many messages are read at once for those who are behind, and take what they get: more
than come meanwhile."""

REST = 0.5
"""The next look at the database is not sooner than after this share of the time that the last
one took, with its turn."""

PATIENCE = 0.5
"""Seconds between two attempts at what does not answer."""

MAX_STORED_ID = 80
"""So many characters of an id fit into its column."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look at the database found."""

    outcomes: Sequence[Outcome]
    renamed: list[Renamed | Error]
    state: State
    messages: list[Numbered]
    hidden: list[Hidden]
    present: tuple[Present, ...] | None  # None if that is known already
    removed: dict[str, End]


class Node(OpenRoom):
    """One room in one process."""

    def __init__(
        self, row: models.Room, process: str, max_message_bytes: int, metrics: Metrics
    ) -> None:
        self._reach = Reach(row.epoch, row.head)
        self._shared = SharedRoom(row.name, self._reach, max_message_bytes)
        super().__init__(self._shared, self._forget, metrics)
        self.key = row.pk
        self.gone = False
        """Whether the room was deleted."""
        self._process = process
        self._version = -1  # of the roster
        self._edits = row.edits
        self._accounts: dict[Peer, int] = {}  # of those who are one's
        self._appetite: dict[Peer, int] = {}  # how many messages each was read at once
        # What members said, and between it what they alone are to get after its echo.
        self._outbox: list[tuple[Peer, Draft | Claim | Event]] = []
        self._pending: Counter[Peer] = Counter()  # drafts and claims in it
        self._answers: dict[int, list[tuple[Peer, Event]]] = {}  # by the number they follow
        self._closing: set[Peer] = set()
        self._letters: dict[
            Peer, asyncio.Future[Said | TooFew]
        ] = {}  # who waits for what they posted
        self._echoes: list[tuple[Said, asyncio.Future[Said | TooFew]]] = []  # what is logged of it
        self._space = asyncio.Event()
        # Tokens of members that left. Each waits until so many entries of the outbox, counted
        # from the start, were processed: those that were in it when the member left.
        self._leaving: list[tuple[str, int]] = []
        self._processed = 0  # entries of the outbox, counted from the start
        self._numbers = itertools.count()
        self._read_all = False  # as of the last look
        self._unsure = False  # whether the outbox may have been logged already
        self._coming = 0
        self._newcomers: list[tuple[Newcomer, asyncio.Future[Peer]]] = []
        self._admitting: asyncio.Task[None] | None = None
        self._look = asyncio.Lock()
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()  # we changed what others want to see
        self._feeding: asyncio.Task[None] | None = None
        jobs = self._work(), self._ring(), self._listen()
        self._tasks = [asyncio.ensure_future(job) for job in jobs]

    @property
    def idle(self) -> bool:
        """Whether nobody of this process is here or coming, and nothing is left to be done."""
        busy = self._lines or self._coming or self._outbox or self._leaving or self._letters
        return self.gone or not (busy or self._look.locked())

    # -- members --

    async def come(self, entry: Entry, account: Account | None, token: str, line: Line) -> Peer:
        """Let someone in. Raises `Refused`, or a database's error."""
        return await self._come(
            Newcomer(entry, token, account), lambda peer: self.enter(peer, line)
        )

    async def hear(self, what: Listen, account: Account | None, token: str, line: Stream) -> Peer:
        """Let someone listen. Raises `Refused`, or a database's error."""
        newcomer = Newcomer(what.entry, token, account)
        return await self._come(newcomer, lambda peer: self.listen(peer, line, poll=what.poll))

    async def _come(self, newcomer: Newcomer, enter: Callable[[Peer], None]) -> Peer:
        token = newcomer.token
        self._coming += 1
        try:
            peer = await self._admitted(newcomer)
            # So that its cursor is not ahead of us.
            while not (self._read_all or self._reached(newcomer.entry.since)):
                await self._once()
            self._shared.check(peer, token)
            enter(peer)
        except ObjectDoesNotExist:
            self._vanish()
            raise Refused(ends.NO_ROOM) from None
        except BaseException:  # cancelled, too: it may be on the roster already
            self._gone(token)
            raise
        finally:
            self._coming -= 1
        return peer

    async def _admitted(self, newcomer: Newcomer) -> Peer:
        """Have the roster take *newcomer*, in one transaction with all who come just now."""
        waiting: asyncio.Future[Peer] = asyncio.get_running_loop().create_future()
        self._newcomers.append((newcomer, waiting))
        if self._admitting is None or self._admitting.done():
            self._admitting = asyncio.ensure_future(self._admit_all())
        return await waiting

    async def _admit_all(self) -> None:
        try:
            while self._newcomers:
                batch = self._newcomers[:CROWD]
                del self._newcomers[:CROWD]
                try:
                    await self._admit(batch)
                except Exception as error:
                    for _, waiting in batch:
                        if not waiting.done():
                            waiting.set_exception(error)
        finally:  # at the end of the node
            for _, waiting in self._newcomers:
                waiting.cancel()

    async def _admit(self, batch: list[tuple[Newcomer, asyncio.Future[Peer]]]) -> None:
        # Members that have left this process are taken off the roster first. `_work` may be
        # resting, and a client that closed and connects again would find its own name taken.
        left = set(self._leaving)
        while not left.isdisjoint(self._leaving):
            await self._once()
        batch = [each for each in batch if not each[1].done()]  # some may have given up meanwhile
        newcomers = [newcomer for newcomer, _ in batch]
        enter = database_sync_to_async(presence.enter)
        found = await enter(self.key, self._process, newcomers)
        peers: list[tuple[asyncio.Future[Peer], Peer]] = []
        for (newcomer, waiting), name in zip(batch, found, strict=True):
            if waiting.done():  # it is gone, and on its way off the roster
                continue
            if isinstance(name, Refused):
                waiting.set_exception(name)
                continue
            entry, account = newcomer.entry, newcomer.account
            peer = Peer(entry, entry.session or f"#{newcomer.token}", name)
            self._shared.tokens[newcomer.token] = peer
            if account is not None:
                self._accounts[peer] = account.pk
            peers.append((waiting, peer))
        await self._once()  # so that the roster has them
        self._changed.set()  # not before we know what to ring
        for waiting, peer in peers:
            if not waiting.done():
                waiting.set_result(peer)

    def _reached(self, since: Cursor | None) -> bool:
        here = since is not None and since.epoch == self._reach.epoch
        return not here or (since is not None and since.seq <= self._reach.head)

    def go(self, peer: Peer, token: str) -> None:
        """Take someone out, whose connection is gone."""
        self.leave(peer)
        self._gone(token)

    def _gone(self, token: str) -> None:
        peer = self._shared.tokens.pop(token, None)
        if peer is not None:
            self._accounts.pop(peer, None)
            self._appetite.pop(peer, None)
        self._leaving.append((token, self._processed + len(self._outbox)))
        self._wake.set()

    def wake(self, state: State) -> None:
        """Look at the log, if *state* shows that there is something to see."""
        if state != self._state:
            self._wake.set()

    @property
    def _state(self) -> State:
        return State(self._reach.head, self._version, self._edits)

    async def end(self) -> None:
        """Stop the node's tasks."""
        tasks = [*self._tasks, *filter(None, (self._feeding, self._admitting))]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=PATIENCE)  # a layer that is away may hold one up
        self._return(ends.STOPPING)
        self._space.set()

    def _vanish(self) -> None:
        """Close everyone: the room was deleted. Who comes back finds a new one."""
        self.gone = True
        self._outbox.clear()
        self._return(ends.NO_ROOM)
        self._space.set()
        self.stop()

    def _forget(self, line: Line, code: CloseCode) -> None:
        """Do nothing: a connection that is closed comes to `go` by itself."""

    # -- what is said --

    @property
    def full(self) -> bool:
        """Whether so much waits to be logged that no more is to be said."""
        return len(self._outbox) >= OUTBOX and not self.gone

    async def room_to_say(self) -> None:
        """Wait until the outbox takes more: whoever says much waits, and nobody else."""
        while self.full:
            self._space.clear()
            await self._space.wait()

    async def say(
        self, post: Post, account: Account | None, token: str, patience: float
    ) -> Said | TooFew:
        """Say what someone posts who does not come in, and return what it was said as.

        When everyone here was told. Raises `Refused`, and TimeoutError after so many seconds, or
        twice that if others have to be logged before; it may be said all the same.
        """
        source, client_id = self._key(post.entry.session or f"#{token}", post.id)
        if len(log.stored(client_id)) > MAX_STORED_ID:
            raise Refused(ends.BAD_ID)
        # Nothing is waited for before it is in the outbox, or the node might be idle, and ended.
        if self.full:
            await asyncio.wait_for(self.room_to_say(), patience)
        if self.gone:
            raise Refused(ends.NO_ROOM)
        peer = Peer(post.entry, source, post.entry.name)
        waiting: asyncio.Future[Said | TooFew] = asyncio.get_running_loop().create_future()
        self._letters[peer] = waiting
        pk = None if account is None else account.pk
        letter = Letter(post.entry.name, post.text, source, client_id, pk, post=post, owner=account)
        self._outbox.append((peer, letter))
        self._wake.set()
        try:
            return await asyncio.wait_for(waiting, patience)
        finally:
            self._letters.pop(peer, None)

    def _return(self, end: End) -> None:
        """Give up what was posted and has no answer yet."""
        for waiting in self._letters.values():
            if not waiting.done():
                waiting.set_exception(Refused(end))

    def _key(self, source: str, id: str | None) -> tuple[str, str]:
        """Return source and id by which the log knows a message."""
        if id is not None:
            return source, id
        # So that it is logged once, even if a commit's answer is lost.
        return UNNAMED + source, f"{self._process}{next(self._numbers)}"

    def _publish(self, what: Publish) -> None:
        source, client_id = self._key(what.peer.source, what.id)
        if len(log.stored(client_id)) > MAX_STORED_ID:
            self._answer(what.peer, Error("bad_id", "id holds too many control characters"))
            return
        account = self._accounts.get(what.peer)
        draft = Draft(what.peer.name, what.text, source, client_id, account)
        self._outbox.append((what.peer, draft))
        self._pending[what.peer] += 1
        self._wake.set()

    def _claim(self, what: Claim) -> None:
        self._outbox.append((what.peer, what))
        self._pending[what.peer] += 1
        self._wake.set()

    def _do(self, actions: list[Action]) -> None:
        # Who is closed gets the reason at once, and waits for no echo.
        closing = {action.peer for action in actions if isinstance(action, Close)}
        self._closing |= closing
        super()._do(actions)
        self._closing -= closing

    def _answer(self, peer: Peer, event: Event) -> None:
        if self._pending[peer] and peer not in self._closing:
            self._outbox.append((peer, event))
        elif peer in self._lines:
            self._fanout.only(peer, event)

    async def _written(self) -> None:
        """Wait until everyone was sent what the last look brought, who takes it."""
        turn = asyncio.Event()
        self.next_turn(turn.set)
        await turn.wait()

    async def _work(self) -> None:
        """Look at the database whenever there is a reason, until the end.

        Not before the last look has been told to everyone, and then a while longer: what is
        said meanwhile is logged at once and told in one frame. Under load it is 2 to 4 times the
        deliveries of a second of CPU on Daphne, 1.3 to 2.2 times on uvicorn (100 members).
        """
        loop = asyncio.get_running_loop()
        rested = 0.0  # when the next look may begin: a quiet room has rested
        while True:
            await self._wake.wait()
            await asyncio.sleep(max(0.0, rested - loop.time()))
            self._wake.clear()
            begin = loop.time()
            try:
                await self._once()
                await self._written()
                rested = loop.time() + (loop.time() - begin) * REST
                continue
            except DatabaseError as error:
                outage.database.met(error)
            except ObjectDoesNotExist:
                self._vanish()
                return
            except Exception:  # a fault of ours: this task is what the room lives by
                logger.exception("room %s could not look at its log", self.room.name)
            await asyncio.sleep(PATIENCE)
            self._wake.set()

    async def _once(self) -> None:
        """Log what waits, read what is new, and tell the members."""
        async with self._look:
            batch = self._batch()
            # A member leaves after what it said itself, and does not wait for what others say.
            done = self._processed + len(batch)
            leaving = [token for token, place in self._leaving if place <= done]
            # Under the name that each has now: it may have been renamed since it spoke.
            drafts = [
                replace(each, name=peer.name) for peer, each in batch if isinstance(each, Draft)
            ]
            wishes = self._wishes(batch)
            try:
                seen = await database_sync_to_async(self._see)(drafts, wishes, leaving)
            except BaseException:  # also if we are cancelled, while the thread goes on
                self._unsure = self._unsure or bool(drafts)
                raise
            if drafts:
                self._unsure = False
            outage.database.over()
            del self._outbox[: len(batch)]
            self._processed = done
            del self._leaving[: len(leaving)]
            self._space.set()
            self._take(seen, batch)
        self._read_all = self._reach.head >= seen.state.head
        if self._outbox or self._leaving or not self._read_all:
            self._wake.set()
        if drafts or wishes or leaving:
            self._changed.set()

    def _batch(self) -> list[tuple[Peer, Draft | Claim | Event]]:
        """Return what is next: what was said, or who wants another name, which others wait for."""
        batch: list[tuple[Peer, Draft | Claim | Event]] = []
        asked: set[Peer] = set()  # each is to hear of each of its names
        for peer, each in self._outbox[:BATCH]:
            claim = isinstance(each, Claim)
            if peer in asked or (batch and claim != bool(asked)):
                break
            if claim:
                asked.add(peer)
            batch.append((peer, each))
        return batch

    def _wishes(self, batch: list[tuple[Peer, Draft | Claim | Event]]) -> list[Wish]:
        claims = [each for _, each in batch if isinstance(each, Claim)]
        tokens = {peer: token for token, peer in self._shared.tokens.items()} if claims else {}
        return [Wish(tokens.get(each.peer, ""), each.name, each.id) for each in claims]

    def _see(self, drafts: list[Draft], wishes: list[Wish], leaving: list[str]) -> Seen:
        """Do all that blocks, in a thread."""
        renamed = presence.rename(self.key, wishes) if wishes else []
        appended: Appended | None = None
        outcomes: Sequence[Outcome] = ()
        if any(isinstance(each, Letter) for each in drafts):
            appended, outcomes = letters.append(self.key, drafts, unsure=self._unsure)
        elif drafts:
            appended = log.append(self.key, drafts, unsure=self._unsure)
            outcomes = appended.logged
        if leaving:
            presence.leave(self.key, leaving)
        state = log.state_of(self.key) if leaving or appended is None else appended.state
        messages: list[Numbered] = []
        if appended and appended.messages and appended.messages[0].seq == self._reach.head + 1:
            messages += appended.messages  # nobody else said anything: no need to read it back
        elif state.head > self._reach.head:
            messages = log.read(self.key, self._reach.head, BATCH)
        hidden: list[Hidden] = []
        if state.edits > self._edits:
            hidden = log.hidden(self.key, self._edits, state.edits)
        present, removed = None, {}
        if state.roster != self._version:
            present = presence.present(self.key)
            removed = presence.removed(self.key, self._process)
        return Seen(outcomes, renamed, state, messages, hidden, present, removed)

    def _take(self, seen: Seen, batch: list[tuple[Peer, Draft | Claim | Event]]) -> None:
        """Tell the members: who came, what was said, and who left, in this order."""
        if seen.present is not None:
            self._do(self._shared.arrive(seen.present, seen.removed))
        self._file(batch, seen)
        before = self._reach.head
        self._give_answers(before)
        for message in seen.messages:
            self._reach.head = message.seq
            self.deliver(message)
            self._give_answers(message.seq)
        for hidden in seen.hidden:
            if hidden.seq <= before:  # else we read it as hidden
                self.deliver(hidden)
        self._edits = max(self._edits, seen.state.edits)
        self._echo()
        if seen.present is not None:
            self._do(self._shared.depart(seen.present, seen.removed))
            self._version = seen.state.roster

    def _echo(self) -> None:
        """Answer those who posted what everyone here was told by now."""
        head = self._reach.head
        for said, waiting in self._echoes:
            if said.seq <= head and not waiting.done():
                waiting.set_result(said)
        self._echoes = [each for each in self._echoes if each[0].seq > head]

    def _answer_letter(self, peer: Peer, outcome: Outcome) -> None:
        """Note what became of what someone posted, who may wait no longer."""
        if isinstance(outcome, Said):
            self._metrics.messages += not outcome.repeated
            self._metrics.posts += not outcome.repeated
        waiting = self._letters.get(peer)
        if waiting is None or waiting.done():
            return
        match outcome:
            case Said():
                self._echoes.append((outcome, waiting))
            case TooFew():
                waiting.set_result(outcome)
            case Refused():
                waiting.set_exception(outcome)

    def _file(self, batch: list[tuple[Peer, Draft | Claim | Event]], seen: Seen) -> None:
        """Put answers to the numbers that they follow."""
        numbers, renamed = iter(seen.outcomes), iter(seen.renamed)
        last: dict[Peer, int] = {}
        for peer, each in batch:
            if isinstance(each, Claim):
                self._pending[peer] -= 1
                answer = next(renamed)
                if isinstance(answer, Error) or answer.name == answer.to:
                    self._answers.setdefault(0, []).append((peer, answer))
                continue
            if not isinstance(each, Draft):
                self._answers.setdefault(last.get(peer, 0), []).append((peer, each))
                continue
            number = next(numbers)
            if not isinstance(number, Logged):
                self._answer_letter(peer, number)
                continue
            self._pending[peer] -= 1
            last[peer] = number.seq
            self._metrics.messages += not number.before
            if number.before and not each.source.startswith(UNNAMED):
                for action in self.room.repeated(peer, each.client_id, number.seq):
                    if isinstance(action, Send):
                        self._answers.setdefault(number.seq, []).append((peer, action.event))
        self._pending = +self._pending  # without those who have none

    def _give_answers(self, head: int) -> None:
        """Send the answers whose turn has come, now that everything up to *head* was said."""
        for number in sorted(number for number in self._answers if number <= head):
            for peer, event in self._answers.pop(number):
                if peer in self._lines:
                    # Who came, left or was renamed meanwhile has been told already.
                    current = self._shared.who() if isinstance(event, Members) else event
                    self._fanout.only(peer, current)
                    self._schedule()

    # -- those who are behind --

    def _feed(self) -> list[Peer]:
        if self._fanout.hungry() and (self._feeding is None or self._feeding.done()):
            self._feeding = asyncio.ensure_future(self._feed_all())
        return []

    async def _feed_all(self) -> None:
        while hungry := self._fanout.hungry():
            for after in sorted({seq for _, seq in hungry}):
                if all(seq != after for _, seq in self._fanout.hungry()):
                    continue  # they were fed on the way
                most = max(self._appetite.get(peer, CHUNK) for peer, seq in hungry if seq == after)
                try:
                    page = await database_sync_to_async(log.read)(self.key, after, most)
                except DatabaseError as error:
                    outage.database.met(error)
                    await asyncio.sleep(PATIENCE)
                    continue
                self._end_turn()
                # What this node has not read yet comes to them as to everyone.
                page = [message for message in page if message.seq <= self._reach.head]
                numbers = [message.seq for message in page]
                for peer, seq in self._fanout.hungry():
                    # All whom the page helps on: so they come to stand at one place.
                    if seq == after or (numbers and after < seq < numbers[-1]):
                        self._serve(peer, page[bisect(numbers, seq) :])
                self._settle_flow()
                self._end_polls()

    def _serve(self, peer: Peer, page: list[Numbered]) -> None:
        """Give *peer* as much of *page* as it takes, and note how much to read for it next."""
        self._give(peer, self._fanout.feed(peer, page[:CHUNK]))
        for start in range(CHUNK, len(page), CHUNK):
            if self._lines[peer].paused:
                self._appetite[peer] = CHUNK  # a slow reader's page would be read for nothing
                return
            self._give(peer, self._fanout.feed(peer, page[start : start + CHUNK]))
        self._appetite[peer] = min(2 * self._appetite.get(peer, CHUNK), PAGE)

    # -- the bell --

    async def _ring(self) -> None:
        """Ring whenever something changed, in a task of its own: the log waits for no bell."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            await bell.ring(self.key, self._state)

    async def _listen(self) -> None:
        layer = get_channel_layer()
        channel = ""
        while layer is not None:
            try:
                # One channel for all attempts: the group would keep each.
                channel = channel or await layer.new_channel()
                await layer.group_add(bell.group(self.key), channel)
                while True:
                    self.wake(bell.rung(await layer.receive(channel)))
            except asyncio.CancelledError:
                with suppress(Exception):
                    await layer.group_discard(bell.group(self.key), channel)
                raise
            except Exception as error:  # the same
                outage.layer.met(error)
                await asyncio.sleep(PATIENCE)
