"""Turns: rounds over addresses, and then over what waits at each."""

from __future__ import annotations

import random

from broadcast_server.rooms.turns import Turns


def test_an_address_has_one_turn_in_a_round() -> None:
    """Whoever waits at an address alone has every other turn beside a hundred of another one."""
    turns = Turns[str]()
    for number in range(100):
        turns.add("many", f"m{number}")
    turns.add("one", "alone")
    taken = []
    for _ in range(20):
        item = turns.take()
        taken.append(item)
        turns.add("one" if item == "alone" else "many", item)
    assert taken[1::2] == ["alone"] * 10
    assert taken[::2] == [f"m{number}" for number in range(10)]


def test_any_sequence_is_fair() -> None:
    """Each address that waits has its turn before any other one has two, and nothing is lost."""
    choose = random.Random(7)
    turns, waiting = Turns[tuple[int, int]](), set[tuple[int, int]]()
    since = dict[int, set[int]]()  # of each address that waits: who had a turn since then
    for _ in range(20_000):
        if choose.random() < 0.5:
            item = choose.randrange(8), choose.randrange(20)
            turns.add(str(item[0]), item)
            waiting.add(item)
            since.setdefault(item[0], set())
        elif waiting:
            item = turns.take()
            waiting.remove(item)
            del since[item[0]]
            assert all(item[0] not in others for others in since.values())
            for others in since.values():
                others.add(item[0])
            if any(address == item[0] for address, _ in waiting):
                since[item[0]] = set()
        assert len(turns) == len(waiting)
