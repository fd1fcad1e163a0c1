"""The roll: a crowd that comes in in one transaction, as if one came after the other."""

from __future__ import annotations

from datetime import timedelta

import hosted  # noqa: F401  # it sets Django up
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils.timezone import now

from broadcast_server.entry import Entry
from django_site import ends, log, models, presence
from django_site.accounts.models import Account
from django_site.keys import stored_key
from django_site.presence import Newcomer, Wish

SESSION = "s" * 16


def come(room: int, *newcomers: Newcomer) -> list[str]:
    """Let them in in one transaction; who is refused is what it is told."""
    found = presence.enter(room, "process", newcomers)
    return [each if isinstance(each, str) else each.end.text for each in found]


def guest(name: str, token: str, session: str | None = None) -> Newcomer:
    """Someone without an account."""
    return Newcomer(Entry(name=name, session=session), token)


def signed_in(account: Account, token: str, session: str | None = None) -> Newcomer:
    """Someone with one."""
    return Newcomer(Entry(name="whoever", session=session), token, account)


def here(room: int) -> list[tuple[str, str]]:
    """List who is in a room, with their connections."""
    return [(each.name, each.token) for each in presence.present(room)]


def test_a_crowd_of_one_name_gets_the_next_suffixes() -> None:
    """Those of one name who come at once are numbered in their order, past who has one already."""
    room = log.open_room("crowd").pk
    assert come(room, guest("bob-3", "0")) == ["bob-3"]
    crowd = [guest(name, str(number)) for number, name in enumerate(("bob", "BOB", "bob", "bob"))]
    assert come(room, *crowd) == ["bob", "BOB-2", "bob-4", "bob-5"]
    assert [name for name, _ in here(room)] == ["bob-3", "bob", "BOB-2", "bob-4", "bob-5"]


def test_a_session_that_comes_twice_at_once_is_one_member() -> None:
    """Of two connections of one session in one transaction the second has the place."""
    room = log.open_room("twice").pk
    assert come(room, guest("bob", "a", SESSION), guest("bob", "b", SESSION)) == ["bob", "bob"]
    assert here(room) == [("bob", "b")]
    assert come(room, guest("bob", "c", SESSION), guest("bob", "d", SESSION)) == ["bob", "bob"]
    assert here(room) == [("bob", "d")]


def test_an_account_takes_its_name_from_who_came_before_it() -> None:
    """An account displaces the guest that has its name, whose session begins anew."""
    room = log.open_room("owned").pk
    assert come(room, guest("olga", "a", SESSION)) == ["olga"]
    # Without the signal by which who has its name is sent away: the guest came meanwhile.
    (olga,) = Account.objects.bulk_create([Account(username="olga", key=stored_key("olga"))])
    crowd = guest("olga", "b"), signed_in(olga, "c"), guest("Olga", "d"), guest("o", "e", SESSION)
    assert come(room, *crowd) == ["olga-2", "olga", "Olga-3", "o"]
    assert here(room) == [("olga-2", "b"), ("olga", "c"), ("Olga-3", "d"), ("o", "e")]
    assert presence.removed(room, "process") == {"a": ends.NAME_OWNED}
    assert come(room, signed_in(olga, "f")) == ["olga-4"]


def test_a_session_that_signs_in_leaves_its_place() -> None:
    """Who comes back signed in does not replace itself as a guest, within a transaction too."""
    room = log.open_room("signs-in").pk
    ines = Account.objects.create_user("ines")
    assert come(room, guest("bob", "a", SESSION), signed_in(ines, "b", SESSION)) == ["bob", "ines"]
    assert here(room) == [("ines", "b")]
    assert presence.removed(room, "process") == {"a": ends.REPLACED}


def test_the_banned_are_told_and_others_come_in() -> None:
    """Of a crowd those are refused who are banned, by any of their names, for the longest time."""
    room = log.open_room("banned")
    nora = Account.objects.create_user("nora")
    for name, account, hours in (
        ("eve", None, 1),
        ("eve", None, 2),
        ("max-2", None, 1),
        ("", nora, 1),
    ):
        models.Ban.objects.create(
            room=room,
            name=name,
            key=stored_key(name) if name else "",
            account=account,
            until=now() + timedelta(hours=hours),
            reason=f"for {hours} h",
        )
    found = come(
        room.pk,
        guest("Eve", "a"),
        guest("eve-7", "b"),
        guest("max", "c"),
        guest("max", "d"),
        signed_in(nora, "e"),
        guest("adam", "f"),
    )
    assert [each.partition(": ")[2] or each for each in found] == [
        "for 2 h",
        "for 2 h",
        "max",
        "max-3",
        "for 1 h",
        "adam",
    ]


def test_a_new_name_is_free_of_the_old_one() -> None:
    """Who takes another name may have it in another spelling, and frees the one that it had."""
    room = log.open_room("renamed").pk
    come(room, guest("bob", "a"), guest("bob", "b"), guest("carol", "c"))
    wishes = [Wish("b", "bob", None), Wish("a", "BOB", None), Wish("c", "carl", None)]
    found = [getattr(each, "to", each) for each in presence.rename(room, wishes)]
    assert found == ["bob-2", "BOB", "carl"]
    assert come(room, guest("carol", "d")) == ["carol"]


def test_a_crowd_costs_no_more_questions_than_a_few() -> None:
    """However many come at once, the database is asked as often."""
    room = log.open_room("questions").pk

    def questions(*newcomers: Newcomer) -> int:
        with CaptureQueriesContext(connection) as asked:
            come(room, *newcomers)
        return len(asked)

    few = questions(*(guest("u", f"a{each}", f"{SESSION}a{each}") for each in range(2)))
    many = questions(*(guest("u", f"b{each}", f"{SESSION}b{each}") for each in range(50)))
    again = questions(*(guest("u", f"c{each}", f"{SESSION}b{each}") for each in range(50)))
    assert many <= few + 4  # looks ahead for names
    assert again <= few
