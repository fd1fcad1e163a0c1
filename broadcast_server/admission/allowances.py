"""The allowances: how much each client may send, however often it reconnects.

A client spends *tokens*: one for each message or other request, and at least one for each
`BYTES_PER_TOKEN` of its text. A *bucket* gains tokens over time, see `TokenBucket`.

- Each client has one bucket. All connections with one session from one address share it, in
  whatever rooms they are, and so do messages that are published without joining.
- A bucket outlives its connections: it *rests* at its address until it is full again. A client
  that comes back with its session gets its own bucket. Any other new client of the address gets
  the emptiest bucket that rests there, and a new one only if none does. So a client that
  reconnects without a session, or with another one, gains nothing by it.
- A new client also shares the bucket of a connection of its address that waits for a token: the
  server cannot tell whether that connection is still there. It takes turns there as a client of its
  own. Other clients that are connected at the same time have a bucket each.
- An address has a bucket in addition, `ADDRESS_FACTOR` times as large, for all of its clients
  together. The local machine has none: see `client_key`.
- Connections that wait for a token of a bucket have *turns* there, each at most one. They come in
  the order of fair queueing: the turn of a client ends, in a time that is counted in tokens, when
  it has spent what it waits to send, and the turn that ends first comes first. So who asks for
  little waits for little, however many others flood, and all of a client's connections have one
  place. A connection waits for the bucket of its address when its client's has a token for it.
- A join costs its client a token, and its address none: `--max-joins` limits the joins of an
  address.

The buckets of one session at two addresses are different ones: who knows the session of someone
else cannot spend the tokens of its owner.

This module is pure: callers pass the time in seconds.
"""

from __future__ import annotations

from bisect import bisect_left, insort

from .message_cost import BYTES_PER_TOKEN
from .rate_limit import MAX_KEYS, TokenBucket

MESSAGE_BURST_S = 20
"""How many seconds' worth of tokens a client can have saved up, to send them at once."""

ADDRESS_FACTOR = 4
"""How many times as much as one client all clients of an address may send. A class behind one
address can chat, and many tabs are no way around the rate."""

TURN_TOKENS = 8
TURN_BYTES = TURN_TOKENS * BYTES_PER_TOKEN
"""How much a client that has tokens of its own may send in its turn at the bucket of its address.
A message that costs more takes a turn of its own."""

SWEEP_INTERVAL = 1024
"""After how many buckets that began to rest those that are full again are dropped."""


Turn = tuple[float, int]
"""Where it ends, counted in tokens, and its number."""


class _Bucket(TokenBucket):
    """A bucket, and the turns of the connections that wait for it: a token is kept for each."""

    __slots__ = ("reached", "turns")

    def __init__(self, rate: float, capacity: float, now: float) -> None:
        super().__init__(rate, capacity, now)
        self.turns: list[Turn] = []  # the first one first
        self.reached = 0.0  # where the last turn that was taken began, counted in tokens


class _Client:
    """Those connections that have one place among the turns."""

    __slots__ = ("ends", "holders")

    def __init__(self) -> None:
        self.ends = [0.0, 0.0]  # of its last turns, at its bucket and at that of its address
        self.holders = 0  # open allowances


class _ClientBucket(_Bucket):
    """The bucket of one client, and of those that came while a connection waited for it."""

    __slots__ = ("client", "full_at", "holders", "session", "sharing")

    def __init__(self, rate: float, capacity: float, now: float) -> None:
        super().__init__(rate, capacity, now)
        self.session: str | None = None
        self.holders = 0  # open allowances
        self.full_at = now  # when it will be full, while it rests
        self.client = _Client()
        self.sharing: dict[str, _Client] = {}  # by session, while they are connected

    def client_of(self, session: str | None) -> _Client:
        """Return the client of a new connection: another one if others use the bucket."""
        if not self.holders or (session and session == self.session):
            return self.client
        return self.sharing.setdefault(session, _Client()) if session else _Client()

    def leave(self, client: _Client, session: str | None) -> None:
        """Forget a client that shares the bucket when its last connection is closed."""
        client.holders -= 1
        if session and not client.holders and self.sharing.get(session) is client:
            del self.sharing[session]


class _Address:
    """The buckets of one address: those of its clients, and its own if it has a limit."""

    __slots__ = (
        "by_session",
        "exhausted",
        "held",
        "last_turn",
        "posts",
        "resting",
        "total",
    )

    def __init__(self, total: _Bucket | None, posts: TokenBucket | None) -> None:
        self.total = total
        self.posts = posts  # how much posts may spend while others wait for the total
        self.exhausted: _ClientBucket | None = None  # the last one that a connection waited for
        self.by_session: dict[str, _ClientBucket] = {}  # held and resting ones
        self.resting: list[_ClientBucket] = []  # the emptiest last
        self.held = 0  # open allowances
        self.last_turn = 0  # the number of the last turn that was given out

    def take(self, session: str | None, now: float, *, momentary: bool) -> _ClientBucket | None:
        """Return the bucket that a new client with *session* gets, None if it gets a new one."""
        bucket = self.by_session.get(session) if session else None
        if bucket is not None:
            if not bucket.holders:
                self.resting.remove(bucket)
            return bucket
        if not momentary and self.exhausted is not None and self.exhausted.turns:
            return self.exhausted
        if not self.resting or self.resting[-1].full_at <= now:
            return None
        bucket = self.resting.pop()
        self._forget_session(bucket)
        return bucket

    def assign(self, bucket: _ClientBucket, session: str | None) -> None:
        """Let later connections with *session* find *bucket*, unless it is that of another one."""
        if session and not bucket.holders and bucket.session is None:
            bucket.session = session
            self.by_session[session] = bucket

    def drop_fuller(self, than: float) -> None:
        """Forget the resting buckets that are full at the time *than* or before."""
        keep = [bucket for bucket in self.resting if bucket.full_at > than]
        for bucket in self.resting[: len(self.resting) - len(keep)]:
            self._forget_session(bucket)
        self.resting = keep

    def _forget_session(self, bucket: _ClientBucket) -> None:
        if bucket.session is not None:
            del self.by_session[bucket.session]
            bucket.session = None


class Allowance:
    """What one connection may send. `Allowances.open` returns it."""

    __slots__ = (
        "_buckets",
        "_turn_cost",
        "_turns",
        "address",
        "bucket",
        "client",
        "closed",
        "session",
    )

    def __init__(
        self, address: _Address, bucket: _ClientBucket, client: _Client, session: str | None
    ) -> None:
        total = address.total
        self.address = address
        self.bucket = bucket
        self.client = client
        self.session = session
        self._buckets: tuple[_Bucket, ...] = (bucket,) if total is None else (bucket, total)
        self._turns: list[Turn | None] = [None, None]  # at each bucket
        self._turn_cost = 0.0  # what they are expected to cost
        self.closed = False

    def available(self, now: float) -> float:
        """Return how many tokens the connection may spend now, negative if it is in debt."""
        return min([self._usable(place, now) for place in range(len(self._buckets))])

    def _usable(self, place: int, now: float) -> float:
        bucket = self._buckets[place]
        free = bucket.refill(now) - len(bucket.turns)
        if self._turns[place] is None:
            return free
        in_turn = bucket.available - self._count_before(place)
        if in_turn < 1:
            return in_turn
        return max(free + 1, TURN_TOKENS if place else 1.0)

    def limit(
        self, max_messages: int, max_bytes: int, now: float, turn_bytes: int = 0
    ) -> tuple[int, int]:
        """Return how many messages and bytes of the given ones the connection may send now.

        If it has a turn, and would take more *turn_bytes* than was known before (see `reserve`),
        it may have to wait again.
        """
        self._expect(turn_bytes)
        available = self.available(now)
        return min(max_messages, int(available)), min(max_bytes, int(available * BYTES_PER_TOKEN))

    def spend(self, messages: int, size: int) -> None:
        """Spend the tokens for *messages* with *size* bytes in all, see `chargeable_size`.

        The last message may cost more than is available: the client is in debt then.
        """
        if messages:
            cost = max(messages, size / BYTES_PER_TOKEN)
            for place, bucket in enumerate(self._buckets):
                if (turn := self._turns[place]) is not None:
                    bucket.reached = max(bucket.reached, turn[0] - self._turn_cost)
                    self.client.ends[place] += cost
                bucket.spend(cost)
            self.give_back()

    def delay(self, now: float) -> float:
        """Return the number of seconds until a token is available, 0 if one is."""
        if self.available(now) >= 1:
            return 0.0
        return max(
            [
                (1 + self._count_before(place) - bucket.available) / bucket.rate
                for place, bucket in enumerate(self._buckets)
            ]
        )

    def _count_before(self, place: int) -> int:
        """Return how many connections get a token of the bucket before this one does."""
        turns, turn = self._buckets[place].turns, self._turns[place]
        return len(turns) if turn is None else bisect_left(turns, turn)

    @property
    def has_turn(self) -> bool:
        """Whether the connection waits in turn with others."""
        return self._turns != [None, None]

    def reserve(self, now: float, turn_bytes: int = 0) -> float:
        """Return the same, and begin to wait: the connection has a turn until it spends something.

        If those before it spend more than a token, as for a long message, or others come who ask
        for less, it has to wait longer, but keeps its turn. *turn_bytes* is how much its turn would
        take of what it has sent: the next message, or short ones of `TURN_BYTES`.
        """
        self._expect(turn_bytes)
        delay = self.delay(now)
        if not delay or self.closed:
            return delay
        for place in range(len(self._buckets)):
            if self._usable(place, now) < 1:
                if self._turns[place] is None:
                    self._take_turn(place)
                if self._usable(place, now) < 1:
                    break
        return self.delay(now)

    def _expect(self, turn_bytes: int) -> None:
        """Let the turns cost what *turn_bytes* do: less only if there are none yet."""
        cost = max(1.0, turn_bytes / BYTES_PER_TOKEN)
        if cost <= self._turn_cost and self.has_turn:
            return
        places = [place for place, turn in enumerate(self._turns) if turn is not None]
        self.give_back()
        self._turn_cost = cost
        for place in places:
            self._take_turn(place)

    def _take_turn(self, place: int) -> None:
        bucket, ends = self._buckets[place], self.client.ends
        if not place:
            self.address.exhausted = self.bucket
        self.address.last_turn += 1
        ends[place] = max(ends[place], bucket.reached) + self._turn_cost
        turn = self._turns[place] = ends[place], self.address.last_turn
        insort(bucket.turns, turn)

    def join(self, now: float) -> float:
        """Spend the client's token for a join, and return the seconds that it has to wait."""
        bucket, ends = self.bucket, self.client.ends
        missing = 1 - bucket.refill(now)
        if bucket.turns:
            ends[0] = max(ends[0], bucket.reached) + 1
            missing += bisect_left(bucket.turns, (ends[0] + 1e-9, 0))
        bucket.spend(1)
        return max(0.0, missing / bucket.rate)

    def post(self, size: int, now: float) -> float:
        """Spend the tokens for one message of *size* bytes, and return 0, if that is allowed now.

        Else return the number of seconds until it may be. A post cannot wait for its turn. So
        while others wait for the bucket of the address, posts have the share of one client of it.
        """
        delay, posts = self.delay(now), self.address.posts
        if delay and posts is not None and self._usable(0, now) >= 1:
            posts.refill(now)
            delay = min(delay, posts.delay())
            if not delay:
                posts.spend(max(1, size / BYTES_PER_TOKEN))
        if not delay:
            self.spend(1, size)
        return delay

    def give_back(self) -> None:
        """Give back the turns of the connection, if it has any."""
        for place, turn in enumerate(self._turns):
            if turn is not None:
                turns = self._buckets[place].turns
                del turns[bisect_left(turns, turn)]
                self.client.ends[place] -= self._turn_cost
                self._turns[place] = None


class Allowances:
    """The allowances of all connections of a server, each *rate* tokens a second."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._addresses: dict[str, _Address] = {}
        self._closed = 0  # since the last sweep

    def __len__(self) -> int:
        """Return how many addresses and how many resting buckets are remembered."""
        return sum(1 + len(each.resting) for each in self._addresses.values())

    def open(
        self, key: str | None, session: str | None, now: float, *, momentary: bool = False
    ) -> Allowance:
        """Return the allowance of a new connection with *session*, until `close`.

        *key* is that of its address, None for the local machine (see `client_key`). *momentary*
        is whether it is closed at once: it does not wait for a token in turn with others.
        """
        key = key or ""
        address = self._addresses.get(key)
        if address is None:
            total = self._new_bucket(ADDRESS_FACTOR, now) if key else None
            posts = TokenBucket(self._rate, self._rate, now) if key else None
            address = self._addresses[key] = _Address(total, posts)
        bucket = address.take(session, now, momentary=momentary)
        if bucket is None:
            bucket = _ClientBucket(self._rate, self._rate * MESSAGE_BURST_S, now)
        client = bucket.client_of(session)
        address.assign(bucket, session)
        bucket.holders += 1
        client.holders += 1
        address.held += 1
        return Allowance(address, bucket, client, session)

    def close(self, allowance: Allowance, now: float) -> None:
        """End an allowance: its connection is closed. The bucket rests until it is full again."""
        allowance.give_back()
        allowance.closed = True
        address, bucket = allowance.address, allowance.bucket
        bucket.leave(allowance.client, allowance.session)
        address.held -= 1
        bucket.holders -= 1
        if not bucket.holders:
            bucket.full_at = now + (bucket.capacity - bucket.refill(now)) / bucket.rate
            insort(address.resting, bucket, key=_full_at)
        self._closed += 1
        if self._closed >= SWEEP_INTERVAL:
            self._sweep(now)

    def _sweep(self, now: float) -> None:
        """Drop what is full, and what is nearly full if too much is left."""
        self._closed = 0
        resting = sorted(
            bucket.full_at for each in self._addresses.values() for bucket in each.resting
        )
        # The fullest go: who has spent least gains least by being forgotten.
        limit = max(now, resting[-MAX_KEYS] if len(resting) > MAX_KEYS else now)
        for each in self._addresses.values():
            each.drop_fuller(limit)
        idle = [key for key, each in self._addresses.items() if not each.held and not each.resting]
        idle.sort(key=lambda key: _missing(self._addresses[key].total, now))
        for place, key in enumerate(idle):
            if not _missing(self._addresses[key].total, now) or len(idle) - place > MAX_KEYS:
                del self._addresses[key]

    def _new_bucket(self, factor: int, now: float) -> _Bucket:
        rate = self._rate * factor
        return _Bucket(rate, rate * MESSAGE_BURST_S, now)


def _full_at(bucket: _ClientBucket) -> float:
    return bucket.full_at


def _missing(bucket: TokenBucket | None, now: float) -> float:
    """Return how many tokens *bucket* has spent and not gained back yet."""
    return 0.0 if bucket is None else bucket.capacity - bucket.refill(now)
