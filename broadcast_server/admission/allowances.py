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

The buckets of one session at two addresses are different ones: who knows the session of someone
else cannot spend the tokens of its owner.

This module is pure: callers pass the time in seconds.
"""

from __future__ import annotations

from bisect import insort

from .rate_limit import MAX_KEYS, TokenBucket

BYTES_PER_TOKEN = 256
"""A message costs one token, and a longer one costs a token for each so many bytes. At the default
rate, a client needs as long to replace a share of a room's 50,000 messages as of its 16 MiB."""

MESSAGE_BURST_S = 20
"""How many seconds' worth of tokens a client can have saved up, to send them at once."""

ADDRESS_FACTOR = 4
"""How many times as much as one client all clients of an address may send. A class behind one
address can chat, and many tabs are no way around the rate."""

SWEEP_INTERVAL = 1024
"""After how many buckets that began to rest those that are full again are dropped."""


class _Bucket(TokenBucket):
    """A bucket, and how many of its tokens are reserved for connections that wait."""

    __slots__ = ("reserved",)

    def __init__(self, rate: float, capacity: float, now: float) -> None:
        super().__init__(rate, capacity, now)
        self.reserved = 0


class _ClientBucket(_Bucket):
    """The bucket of one client: of all connections that share it."""

    __slots__ = ("full_at", "holders", "session")

    def __init__(self, rate: float, capacity: float, now: float) -> None:
        super().__init__(rate, capacity, now)
        self.session: str | None = None
        self.holders = 0  # open allowances
        self.full_at = now  # when it will be full, while it rests


class _Address:
    """The buckets of one address: those of its clients, and its own if it has a limit."""

    __slots__ = ("by_session", "exhausted", "held", "resting", "total")

    def __init__(self, total: _Bucket | None) -> None:
        self.total = total
        self.exhausted: _ClientBucket | None = None  # the last one that a connection waited for
        self.by_session: dict[str, _ClientBucket] = {}  # held and resting ones
        self.resting: list[_ClientBucket] = []  # the emptiest last
        self.held = 0  # open allowances

    def take(self, session: str | None, now: float, *, momentary: bool) -> _ClientBucket | None:
        """Return the bucket that a new client with *session* gets, None if it gets a new one."""
        bucket = self.by_session.get(session) if session else None
        if bucket is not None:
            if not bucket.holders:
                self.resting.remove(bucket)
            return bucket
        if not momentary and self.exhausted is not None and self.exhausted.reserved:
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

    __slots__ = ("_buckets", "_reserved", "address", "bucket", "closed")

    def __init__(self, address: _Address, bucket: _ClientBucket) -> None:
        total = address.total
        self.address = address
        self.bucket = bucket
        self._buckets: tuple[_Bucket, ...] = (bucket,) if total is None else (bucket, total)
        self._reserved = False
        self.closed = False

    def available(self, now: float) -> float:
        """Return how many tokens the connection may spend now, negative if it is in debt."""
        return min([self._usable(bucket, now) for bucket in self._buckets])

    def _usable(self, bucket: _Bucket, now: float) -> float:
        free = bucket.refill(now) - bucket.reserved
        # Who has reserved a token gets it before those who reserve one later.
        return max(free + 1, min(1.0, bucket.available)) if self._reserved else free

    def limit(self, max_messages: int, max_bytes: int, now: float) -> tuple[int, int]:
        """Return how many messages and bytes of the given ones the connection may send now."""
        available = self.available(now)
        return min(max_messages, int(available)), min(max_bytes, int(available * BYTES_PER_TOKEN))

    def spend(self, messages: int, size: int) -> None:
        """Spend the tokens for *messages* with *size* bytes in all.

        The last message may cost more than is available: the client is in debt then.
        """
        if messages:
            self.give_back()
            for bucket in self._buckets:
                bucket.spend(max(messages, size / BYTES_PER_TOKEN))

    def delay(self, now: float) -> float:
        """Return the number of seconds until a token is available, 0 if one is."""
        if self.available(now) >= 1:
            return 0.0
        return max(
            [
                (1 + (0 if self._reserved else bucket.reserved) - bucket.available) / bucket.rate
                for bucket in self._buckets
            ]
        )

    def reserve(self, now: float) -> float:
        """Return the same, and reserve that token for this connection.

        So each waiting connection gets its token in turn, however many share a bucket. If others
        have spent more than one in the meantime, as for a long message, it has to wait again.
        """
        delay = self.delay(now)
        if delay and not self._reserved and not self.closed:
            self._reserved = True
            if self.bucket.available - self.bucket.reserved < 1:
                self.address.exhausted = self.bucket
            for bucket in self._buckets:
                bucket.reserved += 1
        return delay

    def join(self, now: float) -> float:
        """Spend the token for a join, and return the number of seconds that it has to wait."""
        delay = self.reserve(now)
        self.spend(1, 0)
        return delay

    def give_back(self) -> None:
        """Give back the token that was reserved, if one was."""
        if self._reserved:
            self._reserved = False
            for bucket in self._buckets:
                bucket.reserved -= 1


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
            address = self._addresses[key] = _Address(total)
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
