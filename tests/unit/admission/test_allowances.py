"""The allowances: a client gains nothing by reconnecting, in whatever way it does."""

from __future__ import annotations

import random
from collections.abc import Callable
from heapq import heapify, heappop, heappush

import pytest

from broadcast_server.admission.admission import AdmissionLimits
from broadcast_server.admission.allowances import (
    ADDRESS_FACTOR,
    MESSAGE_BURST_S,
    SWEEP_INTERVAL,
    TURN_BYTES,
    TURN_TOKENS,
    Allowance,
    Allowances,
)
from broadcast_server.admission.message_cost import (
    BYTES_PER_TOKEN,
    chargeable_size,
    end_of_affordable_lines,
)
from broadcast_server.admission.rate_limit import MAX_KEYS
from broadcast_server.protocol.bounds import MAX_MESSAGE_BYTES
from broadcast_server.rooms.message_log import DEFAULT_MAX_BYTES, DEFAULT_MAX_MESSAGES

RATE = AdmissionLimits().rate
BURST = RATE * MESSAGE_BURST_S
KEYS = [None, "192.0.2.1"]
"""The local machine, and an address with a limit of its own."""


def take_all(allowance: Allowance, now: float, size: int = 1) -> int:
    """Publish messages of *size* bytes as long as that is allowed, and return how many."""
    count = 0
    while allowance.available(now) >= 1:
        allowance.spend(1, size)
        count += 1
    return count


def flood(
    key: str | None, session: Callable[[int], str | None], size: int, per_connection: int
) -> int:
    """Return how many messages a client gets through in a minute that always has more.

    It connects with what *session* returns for the number of the connection, and closes that
    after *per_connection* messages at the latest.
    """
    allowances = Allowances(RATE)
    now, count, number = 0.0, 0, 0
    while now < 60:
        allowance = allowances.open(key, session(number), now)
        for _ in range(per_connection):
            now += allowance.reserve(now) + 1e-6
            if now >= 60:
                break
            allowance.spend(1, size)
            count += 1
        allowances.close(allowance, now)
        number += 1
    return count


SESSIONS: dict[str, Callable[[int], str | None]] = {
    "one session": lambda number: "s",
    "no session": lambda number: None,
    "new sessions": lambda number: f"s{number}",
    "two sessions": lambda number: f"s{number % 2}",
    "both": lambda number: "s" if number % 3 else None,
}
"""How a client can identify itself when it connects again."""


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("session", SESSIONS)
@pytest.mark.parametrize("per_connection", [1, 7, 10**9])
@pytest.mark.parametrize("size", [1, 100, 256, 4096, 2**17])
def test_the_share_of_one_client(
    key: str | None, session: str, per_connection: int, size: int
) -> None:
    """In a minute, one client replaces less than a tenth of a room's history at the defaults."""
    count = flood(key, SESSIONS[session], size, per_connection)
    most = BURST + 60 * RATE
    assert count <= most <= 0.081 * DEFAULT_MAX_MESSAGES
    assert count * size <= most * BYTES_PER_TOKEN + size <= 0.081 * DEFAULT_MAX_BYTES
    assert count * max(1, size / BYTES_PER_TOKEN) >= most - max(1, size / BYTES_PER_TOKEN)


def test_one_session_shares_a_bucket_wherever_it_is() -> None:
    """Connections of one session to different rooms, and its posts, are one client."""
    allowances = Allowances(RATE)
    first, second = (allowances.open(None, "s", 0.0) for _ in range(2))
    assert take_all(first, 0.0) == BURST
    assert take_all(second, 0.0) == 0
    allowances.close(first, 0.0)
    third = allowances.open(None, "s", 0.0)
    assert third.bucket is second.bucket
    assert take_all(third, 1.0) == RATE
    assert take_all(second, 1.0) == 0


def test_a_session_at_another_address_is_another_client() -> None:
    """Who knows the session of someone else cannot spend the tokens of its owner."""
    allowances = Allowances(RATE)
    owner = allowances.open("192.0.2.1", "s", 0.0)
    thief = allowances.open("192.0.2.2", "s", 0.0)
    assert take_all(thief, 0.0) == BURST
    assert owner.available(0.0) == BURST


def test_clients_that_are_connected_at_the_same_time_have_a_bucket_each() -> None:
    """A client that floods leaves the others of its address theirs."""
    allowances = Allowances(RATE)
    loud, quiet = allowances.open("192.0.2.1", None, 0.0), allowances.open("192.0.2.1", None, 0.0)
    assert take_all(loud, 0.0) == BURST
    assert quiet.available(0.0) == BURST


@pytest.mark.parametrize("key", KEYS)
def test_a_connection_that_may_be_gone_is_no_way_around(key: str | None) -> None:
    """While a connection waits, a new client of its address shares the bucket; a post does not.

    A server does not read from a connection that waits, and so does not see that it is cut. All of
    them together get what one client does.
    """
    allowances = Allowances(RATE)
    ghost = allowances.open(key, "s0", 0.0)
    assert take_all(ghost, 0.0) == BURST
    assert ghost.reserve(0.0) > 0
    for number in range(1, 50):
        new = allowances.open(key, f"s{number}", 0.0)
        assert take_all(new, 0.0) == 0
        assert new.reserve(0.0) == pytest.approx((number + 1) / RATE)
    post = allowances.open(key, None, 0.0, momentary=True)
    assert post.available(0.0) > 1
    owner = allowances.open(key, "s0", 0.0)
    assert owner.bucket is ghost.bucket


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(("flooders", "size"), [(40, 4000), (120, 4000), (120, 1)])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("sessions", [True, False])
def test_who_joins_during_a_flood_takes_turns_as_a_client_of_its_own(
    key: str | None, flooders: int, size: int, known: bool, sessions: bool
) -> None:
    """Its wait does not grow with the flood, and all who came get together what one client does.

    *known* is whether the server knew what the floods would send when they began to wait. The
    flood comes first, so the joining client would be the last of each round.
    """
    allowances = Allowances(RATE)
    clients = [allowances.open(key, "s0", 0.0)]
    take_all(clients[0], 0.0)
    turn = max(size, TURN_BYTES)
    due = [(clients[0].reserve(0.0, turn), 0)]
    for number in range(1, flooders):
        clients.append(allowances.open(key, f"s{number}" if sessions else None, 0.0))
        due.append((clients[-1].reserve(0.0, turn if known else 0), number))
    late = allowances.open(key, "new" if sessions else None, 0.0)
    clients.append(late)
    pause, asked = 1.2 * flooders / RATE, 1.25  # less than an equal share
    heappush(due, (asked, flooders))
    waits, spent = list[float](), 0.0
    while due[0][0] < 40:
        now, place = heappop(due)
        client, unread = clients[place], 9 if clients[place] is late else turn
        count = min(1, client.limit(1, 65536, now, unread)[0])
        if count > 0 and client is late:
            client.spend(1, 9)
            spent += 1
            waits.append(now - asked)
            asked = now + pause
            heappush(due, (asked, place))
            continue
        if count > 0:
            client.spend(1, size)
            spent += max(1, size / BYTES_PER_TOKEN)
        heappush(due, (now + client.reserve(now, unread) + 1e-6, place))
    one_turn = max(1, size / BYTES_PER_TOKEN)
    assert max(waits) <= (2 * one_turn + 3) / RATE
    assert len(waits) > 35 / (pause + 1)
    assert spent <= 40 * RATE + 2 * one_turn


def test_a_session_has_one_place_among_those_that_share_a_bucket() -> None:
    """Who opens many connections with one session during a flood gets the turns of one client."""
    allowances = Allowances(RATE)
    first = allowances.open(None, "s0", 0.0)
    take_all(first, 0.0)
    assert first.reserve(0.0) > 0
    many = [allowances.open(None, "many", 0.0) for _ in range(30)]
    for each in many:
        each.reserve(0.0)
    other = allowances.open(None, "other", 0.0)
    assert other.reserve(0.0) == pytest.approx(3 / RATE)
    assert len(first.bucket.sharing) == 2
    for each in [*many, other]:
        allowances.close(each, 0.0)
    assert not first.bucket.sharing


def test_an_address_has_a_limit_for_all_of_its_clients() -> None:
    """Any number of clients of one address gets what four clients get, except on this machine."""
    allowances = Allowances(RATE)
    tabs = [allowances.open("192.0.2.1", f"s{number}", 0.0) for number in range(20)]
    assert sum(take_all(tab, 0.0) for tab in tabs) == ADDRESS_FACTOR * BURST
    assert sum(take_all(tab, 1.0) for tab in tabs) == ADDRESS_FACTOR * RATE
    for tab in tabs:
        allowances.close(tab, 1.0)
    again = allowances.open("192.0.2.1", "s30", 1.0)
    assert again.available(1.0) < 1
    local = [allowances.open(None, None, 0.0) for _ in range(20)]
    assert sum(take_all(tab, 0.0) for tab in local) == 20 * BURST


def test_a_class_behind_one_address_can_chat() -> None:
    """Thirty clients of one address that write two messages a second each never wait."""
    allowances = Allowances(RATE)
    pupils = [allowances.open("192.0.2.1", f"s{number}", 0.0) for number in range(30)]
    for half_second in range(600):
        for pupil in pupils:
            assert pupil.reserve(half_second / 2) == 0
            pupil.spend(1, 300)


@pytest.mark.parametrize("key", KEYS)
def test_who_waits_gets_its_turn(key: str | None) -> None:
    """Of many connections that share a bucket, each gets as many tokens, without a race."""
    allowances = Allowances(RATE)
    members = [allowances.open(key, "s", 0.0) for _ in range(10)]
    assert take_all(members[0], 0.0) == BURST
    due = [(member.reserve(0.0), place) for place, member in enumerate(members)]
    sent = [0] * len(members)
    wakes = 0
    while min(due)[0] < 10:
        now, place = min(due)
        due.remove((now, place))
        wakes += 1
        if (again := members[place].reserve(now)) == 0:
            members[place].spend(1, 1)
            sent[place] += 1
            again = members[place].reserve(now)
        due.append((now + again + 1e-9, place))
    assert sum(sent) == pytest.approx(10 * RATE, abs=len(members))
    assert max(sent) - min(sent) <= 1
    assert wakes <= sum(sent) + len(members)


def test_a_long_message_makes_the_others_wait_for_it() -> None:
    """Tokens that were kept for many connections do not let each of them send a long message."""
    allowances = Allowances(RATE)
    members = [allowances.open("192.0.2.1", f"s{number}", 0.0) for number in range(500)]
    size = 64 * 2**10
    sent = 0
    due = [(0.0, place) for place in range(len(members))]
    while due[0][0] < 60:
        now, place = due.pop(0)
        if (again := members[place].reserve(now)) == 0:
            members[place].spend(1, size)
            sent += size
            again = members[place].reserve(now)
        due.append((now + again + 1e-6, place))
        due.sort()
    most = ADDRESS_FACTOR * (BURST + 60 * RATE) * BYTES_PER_TOKEN
    assert sent <= most + 2 * size


def test_a_token_that_was_kept_is_given_back() -> None:
    """A client that disconnects while it waits has lost nothing."""
    allowances = Allowances(RATE)
    first, second = (allowances.open(None, "s", 0.0) for _ in range(2))
    take_all(first, 0.0)
    assert second.reserve(0.0) == pytest.approx(1 / RATE)
    assert first.reserve(0.0) == pytest.approx(2 / RATE)
    allowances.close(second, 0.0)
    assert first.delay(0.0) == pytest.approx(1 / RATE)


def test_nothing_is_reserved_for_a_connection_that_is_gone() -> None:
    """A connection that is processed once more after it was lost takes no turn."""
    allowances = Allowances(RATE)
    first, second = (allowances.open(None, "s", 0.0) for _ in range(2))
    take_all(first, 0.0)
    allowances.close(second, 0.0)
    assert second.reserve(0.0) > 0
    assert first.reserve(0.0) == pytest.approx(1 / RATE)


def test_a_join_costs_a_token() -> None:
    """A client that joins again and again has to wait, and gets in after that."""
    allowances = Allowances(RATE)
    now, joins = 0.0, 0
    while now < 60:
        allowance = allowances.open(None, None, now)
        now += allowance.join(now) + 1e-6
        allowances.close(allowance, now)
        joins += 1
    assert joins == pytest.approx(BURST + 60 * RATE, abs=5)


def test_full_buckets_are_forgotten() -> None:
    """Whoever was away for long enough costs no memory."""
    allowances = Allowances(RATE)
    for number in range(SWEEP_INTERVAL - 1):
        allowance = allowances.open(f"192.0.2.{number % 250}", f"s{number}", 0.0)
        allowance.spend(3, 3)
        allowances.close(allowance, 0.0)
    assert len(allowances) > 250
    last = allowances.open(None, "last", 2 * MESSAGE_BURST_S)
    allowances.close(last, 2 * MESSAGE_BURST_S)
    assert len(allowances) == 0


def test_forgetting_is_bounded_and_no_way_around() -> None:
    """With more buckets than are kept, the emptiest stay: an attacker does not lose its own."""
    allowances = Allowances(RATE)
    attacker = allowances.open("192.0.2.1", "s", 0.0)
    take_all(attacker, 0.0)
    allowances.close(attacker, 0.0)
    others = [
        allowances.open(f"2001:db8:0:{number:x}::/64", f"s{number}", 0.0)
        for number in range(3 * MAX_KEYS)
    ]
    for each in others:
        each.spend(2, 2)
        allowances.close(each, 0.0)
    assert len(allowances) <= 3 * MAX_KEYS + 2 * SWEEP_INTERVAL
    again = allowances.open("192.0.2.1", "t", 0.0)
    assert again.available(0.0) < 1


def test_any_sequence_keeps_its_books() -> None:
    """Whatever is opened and closed in whatever order, a bucket is held or rests, never both."""
    choose = random.Random(5)
    allowances = Allowances(3)
    now, opened = 0.0, list[Allowance]()
    for _ in range(20_000):
        now += choose.random() / 20
        if opened and choose.random() < 0.5:
            allowances.close(opened.pop(choose.randrange(len(opened))), now)
        else:
            key = choose.choice([None, "192.0.2.1", "192.0.2.2"])
            session = choose.choice([None, *(f"s{number}" for number in range(5))])
            opened.append(allowances.open(key, session, now))
        if opened:
            each = choose.choice(opened)
            if each.reserve(now) == 0:
                each.spend(1, choose.randrange(600))
    held = {id(each.bucket) for each in opened}
    for address in allowances._addresses.values():
        resting = [id(bucket) for bucket in address.resting]
        assert len(set(resting)) == len(resting)
        assert held.isdisjoint(resting)
        assert address.resting == sorted(address.resting, key=lambda bucket: bucket.full_at)
        assert all(bucket.session == name for name, bucket in address.by_session.items())
    assert sum(each.held for each in allowances._addresses.values()) == len(opened)


@pytest.mark.parametrize(
    ("text", "available", "expected"),
    [
        ("a", 1, "a"),
        ("a\nb\nc", 3, "a\nb\nc"),
        ("a\nb\nc", 2.9, "a\nb\n"),
        ("a\nb\nc\n", 3, "a\nb\nc\n"),
        ("x" * 600 + "\nb", 2, "x" * 600 + "\n"),
        (("x" * 127 + "\n") * 9, 3, ("x" * 127 + "\n") * 3),
        (("x" * 255 + "\n") * 9, 3, ("x" * 255 + "\n") * 3),
        ("é" * 500 + "\n" + "é" * 20, 8, "é" * 500 + "\n"),
        ("\n\n\n", 1, "\n"),
    ],
)
def test_lines_that_are_affordable(text: str, available: float, expected: str) -> None:
    """A frame is cut between its lines, where the tokens for it end."""
    assert text[: end_of_affordable_lines(text, 0, available)] == expected
    offset = end_of_affordable_lines("12\n" + text, 3, available)
    assert ("12\n" + text)[3:offset] == expected


@pytest.mark.parametrize(
    ("text", "longest", "expected"),
    [
        (b"x" * 4096, 4096, 4096),
        (b"x" * 1_040_000, 4096, 4096),
        (b"ab\n" * 2000, 4096, 6000),
        (b"ab\n" + b"x" * 1_000_000 + b"\nab", 4096, 3 + 4097 + 2),
        (b"x" * 20_000, 2**15, 20_000),
        (b"x" * 2**15 + b"\n" + b"x" * 40_000, 2**15, 2**15 + 1 + 4096),
        (b"x" * 40_000, 512, 512),
    ],
)
def test_a_rejected_message_is_charged_as_a_short_one(
    text: bytes, longest: int, expected: int
) -> None:
    """A message that is rejected replaces no history, however long it is."""
    assert chargeable_size(text, longest) == expected


@pytest.mark.parametrize(("flooders", "size"), [(5, 4000), (5, 1), (30, 4096)])
def test_who_asks_for_little_waits_for_one_round(flooders: int, size: int) -> None:
    """A client with tokens of its own waits for one message of each that waits before it.

    The timers of the flooders are always earlier than its own, as they were on a server.
    """
    allowances, key = Allowances(RATE), "192.0.2.1"
    clients = [allowances.open(key, f"s{number}", 0.0) for number in range(flooders + 1)]
    quiet, late = flooders, 1e-3
    due = [(0.0, place) for place in range(flooders)] + [(3.25, quiet)]
    asked, waits = 3.25, list[float]()
    while due[0][0] < 60:
        now, place = due.pop(0)
        client = clients[place]
        if (again := client.reserve(now)) == 0:
            client.spend(1, size if place != quiet else 1)
            if place != quiet:
                again = client.reserve(now)
            else:
                waits.append(now - asked)
                asked = max(now, asked + 0.5)
                due.append((asked, place))
                due.sort()
                continue
        due.append((now + again + (late if place == quiet else 1e-6), place))
        due.sort()
    cost = max(TURN_TOKENS, size / BYTES_PER_TOKEN)
    assert max(waits) <= (flooders + 1) * cost / (ADDRESS_FACTOR * RATE) + 0.1
    assert len(waits) > (60 - 3.25) / max(0.5, *waits) - 2


@pytest.mark.parametrize(
    ("flooders", "size", "asks"),
    [(100, 4000, 1), (100, 1, 1), (400, 1, 1), (100, MAX_MESSAGE_BYTES, 6000)],
)
@pytest.mark.parametrize("connections", [1, 3])
def test_who_asks_for_little_goes_first(
    flooders: int, size: int, asks: int, connections: int
) -> None:
    """Its wait does not grow with what floods cost, and one client has one place in the round."""
    allowances, key = Allowances(RATE), "192.0.2.1"
    clients = [allowances.open(key, f"s{number // connections}", 0.0) for number in range(flooders)]
    clients.append(allowances.open(key, "quiet", 0.0))
    quiet, asked, waits = flooders, 10.25, list[float]()
    cost, turn = max(1, asks / BYTES_PER_TOKEN), max(size, TURN_BYTES)
    pause = 1.2 * flooders * cost / (ADDRESS_FACTOR * RATE)  # less than an equal share
    due = [(0.0, place) for place in range(flooders)] + [(asked, quiet)]
    heapify(due)
    while due[0][0] < 40 + 4 * pause:
        now, place = heappop(due)
        client = clients[place]
        again = client.reserve(now, asks if place == quiet else turn)
        if not again:
            if place == quiet:
                client.spend(1, asks)
                waits.append(now - asked)
                again = pause
                asked = now + again
            else:
                count, _ = client.limit(256, 65536, now)
                count = count if size == 1 else 1
                client.spend(count, count * size)
                again = client.reserve(now, turn)
        heappush(due, (now + again + 1e-6, place))
    one_turn = max(TURN_TOKENS, size / BYTES_PER_TOKEN)
    assert max(waits) <= (2 * one_turn + 2 * cost) / (ADDRESS_FACTOR * RATE)
    assert len(waits) > 25 / pause


def test_no_order_of_turns_starves_anyone() -> None:
    """Who sends long messages gets as much as each of those who send short ones."""
    allowances, key = Allowances(RATE), "192.0.2.1"
    clients = [allowances.open(key, f"s{number}", 0.0) for number in range(12)]
    spent = [0.0] * len(clients)
    due = [(0.0, place) for place in range(len(clients))]
    while due[0][0] < 120:
        now, place = heappop(due)
        again = clients[place].reserve(now)
        if not again:
            size = 1 if place else 4096
            clients[place].spend(1, size)
            spent[place] += max(1, size / BYTES_PER_TOKEN) if now > 30 else 0
            again = clients[place].reserve(now)
        heappush(due, (now + again + 1e-6, place))
    mean = sum(spent) / len(spent)
    assert mean == pytest.approx(90 * ADDRESS_FACTOR * RATE / len(clients), rel=0.05)
    assert all(each == pytest.approx(mean, rel=0.1) for each in spent)


def test_joins_cost_the_address_nothing() -> None:
    """Hundreds of joins do not make those wait who are there; their own limit is another one."""
    allowances, key = Allowances(RATE), "192.0.2.1"
    member = allowances.open(key, "member", 0.0)
    for each in range(ADDRESS_FACTOR):
        take_all(allowances.open(key, f"loud {each}", 0.0), 0.0)
    joining = [allowances.open(key, f"s{number}", 0.0) for number in range(500)]
    assert all(each.join(0.0) == 0 for each in joining)
    assert member.reserve(0.0) <= 1 / (ADDRESS_FACTOR * RATE) + 1e-9


def test_a_turn_is_worth_as_much_as_a_long_message() -> None:
    """A client in its turn may send a few lines at once, if it has tokens of its own for them."""
    allowances, key = Allowances(RATE), "192.0.2.1"
    loud = [allowances.open(key, f"s{number}", 0.0) for number in range(ADDRESS_FACTOR)]
    quiet, spent = (allowances.open(key, session, 0.0) for session in ("quiet", "spent"))
    spent.spend(BURST - 3, 0)
    for each in loud:
        take_all(each, 0.0)
    wait = quiet.reserve(0.0) + 1e-6
    assert wait > 0
    assert spent.reserve(0.0) > wait
    assert spent.limit(256, 65536, wait)[0] < 1
    assert quiet.limit(256, 65536, wait) == (TURN_TOKENS, TURN_TOKENS * BYTES_PER_TOKEN)
    quiet.spend(TURN_TOKENS, 0)
    wait += spent.reserve(wait) + 1e-6
    assert 3 <= spent.limit(256, 65536, wait)[0] < TURN_TOKENS


@pytest.mark.parametrize("size", [1, 4096])
def test_posts_have_a_share_of_their_address(size: int) -> None:
    """A post gets through while others wait for the address; all of them stay below its limit."""
    allowances, key = Allowances(RATE), "192.0.2.1"
    loud = [allowances.open(key, f"s{number}", 0.0) for number in range(2 * ADDRESS_FACTOR)]
    for each in loud:
        take_all(each, 0.0)
    posts = [allowances.open(key, f"p{number}", 0.0, momentary=True) for number in range(30)]
    cost, accepted, sent = max(1, size / BYTES_PER_TOKEN), list[int](), 0
    for tick in range(300):
        for each in loud:
            if each.reserve(tick / 10) == 0:
                sent += take_all(each, tick / 10)
                each.reserve(tick / 10)
        accepted.append(sum(post.post(size, tick / 10) == 0 for post in posts))
    assert accepted[0] >= 1
    spent_by_posts = sum(accepted) * cost
    assert RATE * 30 - cost <= spent_by_posts <= RATE * 31 + cost
    most = ADDRESS_FACTOR * RATE * 30
    assert sent >= (ADDRESS_FACTOR - 1) * RATE * 28
    assert sent + spent_by_posts <= most + RATE + cost
    spent = loud[0]
    spent.spend(10 * BURST, 0)
    assert spent.post(1, 40.0) > 1
