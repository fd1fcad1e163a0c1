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
  server cannot tell whether that connection is still there. Other clients that are connected at
  the same time have a bucket each.
- An address has a bucket in addition, `ADDRESS_FACTOR` times as large, for all of its clients
  together. The local machine has none: see `client_key`.
- Connections that wait for a token of a bucket have *turns*, each at most one. At the bucket of a
  client they come in the order in which they began to wait. At that of an address they come in the
  order of fair queueing: the turn of a client ends, in a time that is counted in tokens, when it
  has spent what it waits to send, and the turn that ends first comes first. So who asks for
  little waits for little, however many others flood, and all of a client's connections have one
  place.
- A join costs its client a token, and its address none: `--max-joins` limits the joins of an
  address.

The buckets of one session at two addresses are different ones: who knows the session of someone
else cannot spend the tokens of its owner.

This module is pure: callers pass the time in seconds.
"""

from __future__ import annotations

from bisect import bisect_left, insort

from .rate_limit import MAX_KEYS, TokenBucket

BYTES_PER_TOKEN = 256
"""A message costs one token, and a longer one costs a token for each so many bytes. At the default
rate, a client needs as long to replace a share of a room's 50,000 messages as of its 16 MiB."""

MESSAGE_BURST_S = 20
"""How many seconds' worth of tokens a client can have saved up, to send them at once."""

ADDRESS_FACTOR = 4
"""How many times as much as one client all clients of an address may send. A class behind one
address can chat, and many tabs are no way around the rate."""

TURN_TOKENS = 8
"""How much a client that has tokens of its own may send in its turn at the bucket of its address.
The last message may cost more. So a few short lines need no more turns than a long message, and two
messages of the longest kind need two."""

MAX_EXPECTED_TOKENS = 2 * TURN_TOKENS
"""A turn is expected to cost no more than this. What it has cost counts for the next one."""

SWEEP_INTERVAL = 1024
"""After how many buckets that began to rest those that are full again are dropped."""


Turn = tuple[float, int]
"""Where it ends, counted in tokens (0 at the bucket of a client), and its number."""


class _Bucket(TokenBucket):
    """A bucket, and the turns of the connections that wait for it: a token is kept for each."""

    __slots__ = ("turns",)

    def __init__(self, rate: float, capacity: float, now: float) -> None:
        super().__init__(rate, capacity, now)
        self.turns: list[Turn] = []  # the first one first


class _ClientBucket(_Bucket):
    """The bucket of one client: of all connections that share it."""

    __slots__ = ("end", "full_at", "holders", "session")

    def __init__(self, rate: float, capacity: float, now: float) -> None:
        super().__init__(rate, capacity, now)
        self.session: str | None = None
        self.holders = 0  # open allowances
        self.full_at = now  # when it will be full, while it rests
        self.end = 0.0  # where its last turn at the bucket of its address ends


class _Address:
    """The buckets of one address: those of its clients, and its own if it has a limit."""

    __slots__ = (
        "by_session",
        "exhausted",
        "held",
        "last_turn",
        "posts",
        "reached",
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
        self.reached = 0.0  # where the last turn that was taken began, counted in tokens

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

    __slots__ = ("_buckets", "_turn", "_turn_cost", "address", "bucket", "closed")

    def __init__(self, address: _Address, bucket: _ClientBucket) -> None:
        total = address.total
        self.address = address
        self.bucket = bucket
        self._buckets: tuple[_Bucket, ...] = (bucket,) if total is None else (bucket, total)
        self._turn: Turn | None = None  # at the bucket of the address
        self._turn_cost = 0.0  # what it is expected to cost
        self.closed = False

    def available(self, now: float) -> float:
        """Return how many tokens the connection may spend now, negative if it is in debt."""
        return min([self._usable(bucket, now) for bucket in self._buckets])

    def _usable(self, bucket: _Bucket, now: float) -> float:
        free = bucket.refill(now) - len(bucket.turns)
        if self._turn is None:
            return free
        in_turn = bucket.available - self._count_before(bucket)
        if in_turn < 1:
            return in_turn
        return max(free + 1, 1.0 if bucket is self.bucket else TURN_TOKENS)

    def _turn_at(self, bucket: _Bucket, turn: Turn) -> Turn:
        return (0.0, turn[1]) if bucket is self.bucket else turn

    def limit(self, max_messages: int, max_bytes: int, now: float) -> tuple[int, int]:
        """Return how many messages and bytes of the given ones the connection may send now."""
        available = self.available(now)
        return min(max_messages, int(available)), min(max_bytes, int(available * BYTES_PER_TOKEN))

    def spend(self, messages: int, size: int) -> None:
        """Spend the tokens for *messages* with *size* bytes in all, see `chargeable_size`.

        The last message may cost more than is available: the client is in debt then.
        """
        if messages:
            cost = max(messages, size / BYTES_PER_TOKEN)
            if self._turn is not None:
                self.address.reached = max(self.address.reached, self._turn[0] - self._turn_cost)
                self.bucket.end += cost
                self.give_back()
            for bucket in self._buckets:
                bucket.spend(cost)

    def delay(self, now: float) -> float:
        """Return the number of seconds until a token is available, 0 if one is."""
        if self.available(now) >= 1:
            return 0.0
        return max(
            [
                (1 + self._count_before(bucket) - bucket.available) / bucket.rate
                for bucket in self._buckets
            ]
        )

    def _count_before(self, bucket: _Bucket) -> int:
        """Return how many connections get a token of *bucket* before this one does."""
        if self._turn is None:
            return len(bucket.turns)
        return bisect_left(bucket.turns, self._turn_at(bucket, self._turn))

    def reserve(self, now: float, unread: int = 0) -> float:
        """Return the same, and begin to wait: the connection has a turn until it spends something.

        If those before it spend more than a token, as for a long message, or others come who ask
        for less, it has to wait longer, but keeps its turn. *unread* is how many bytes it has sent
        that wait, as far as that is known.
        """
        delay = self.delay(now)
        if delay and self._turn is None and not self.closed:
            address, bucket = self.address, self.bucket
            if bucket.available - len(bucket.turns) < 1:
                address.exhausted = bucket
            address.last_turn += 1
            self._turn_cost = max(1.0, min(unread / BYTES_PER_TOKEN, MAX_EXPECTED_TOKENS))
            bucket.end = max(bucket.end, address.reached) + self._turn_cost
            self._turn = bucket.end, address.last_turn
            for each in self._buckets:
                insort(each.turns, self._turn_at(each, self._turn))
            delay = self.delay(now)
        return delay

    def join(self, now: float) -> float:
        """Spend the client's token for a join, and return the seconds that it has to wait."""
        bucket = self.bucket
        missing = 1 + len(bucket.turns) - bucket.refill(now)
        bucket.spend(1)
        return max(0.0, missing / bucket.rate)

    def post(self, size: int, now: float) -> float:
        """Spend the tokens for one message of *size* bytes, and return 0, if that is allowed now.

        Else return the number of seconds until it may be. A post cannot wait for its turn. So
        while others wait for the bucket of the address, posts have the share of one client of it.
        """
        delay, posts = self.delay(now), self.address.posts
        if delay and posts is not None and self._usable(self.bucket, now) >= 1:
            posts.refill(now)
            delay = min(delay, posts.delay())
            if not delay:
                posts.spend(max(1, size / BYTES_PER_TOKEN))
        if not delay:
            self.spend(1, size)
        return delay

    def give_back(self) -> None:
        """Give back the turn of the connection, if it has one."""
        if self._turn is not None:
            for bucket in self._buckets:
                del bucket.turns[bisect_left(bucket.turns, self._turn_at(bucket, self._turn))]
            self.bucket.end -= self._turn_cost
            self._turn = None


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
        address.assign(bucket, session)
        bucket.holders += 1
        address.held += 1
        return Allowance(address, bucket)

    def close(self, allowance: Allowance, now: float) -> None:
        """End an allowance: its connection is closed. The bucket rests until it is full again."""
        allowance.give_back()
        allowance.closed = True
        address, bucket = allowance.address, allowance.bucket
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


def chargeable_size(text: bytes, longest: int) -> int:
    """Return how many bytes of *text*, one message a line, are charged.

    A message that is longer than *longest*, the longest one allowed, is charged as that one: it is
    rejected, and replaces no history.
    """
    if len(text) <= longest:
        return len(text)
    lines = text.split(b"\n")
    return len(lines) - 1 + sum([min(len(line), longest) for line in lines])


def end_of_affordable_lines(text: str, begin: int, available: float) -> int:
    """Return where the lines of *text* from *begin* end that *available* tokens are enough for.

    There is at least one line, with its line feed, even if it costs more. Of text that is not ASCII
    the end may come earlier than it has to.
    """
    max_chars = int(available * BYTES_PER_TOKEN) // (1 if text.isascii() else 4)
    lines = text.count("\n", begin) + 1
    if lines <= available and len(text) - begin <= max_chars:
        return len(text)
    end = begin
    for _ in range(max(1, int(available))):
        next_end = text.find("\n", end) + 1 or len(text)
        if end > begin and next_end - begin > max_chars:
            break
        end = next_end
        if end == len(text):
            break
    return end


def _full_at(bucket: _ClientBucket) -> float:
    return bucket.full_at


def _missing(bucket: TokenBucket | None, now: float) -> float:
    """Return how many tokens *bucket* has spent and not gained back yet."""
    return 0.0 if bucket is None else bucket.capacity - bucket.refill(now)
