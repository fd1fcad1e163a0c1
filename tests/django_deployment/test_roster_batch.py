"""The roster batch: many joins in one transaction have the result of joins one by one."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import django_client  # noqa: F401  # it sets Django up
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils.timezone import now

from broadcast_server.protocol.join import JoinRequest
from broadcast_server.protocol.messages import Renamed
from broadcast_server.protocol.rejection import REPLACED
from django_site import models
from django_site.accounts.models import Account
from django_site.accounts.name_key import stored_key
from django_site.store import kept_names, liveness, message_log, presence, rejections
from django_site.store.presence import JoinAttempt, Leaving, RenameAttempt

SESSION = "s" * 16


def join(room: int, *joining: JoinAttempt) -> list[str]:
    """Join in one transaction. Returns the name of each, or the text of its rejection."""
    found = presence.join(room, "process", joining)
    return [each if isinstance(each, str) else each.rejection.text for each in found]


def guest(name: str, connection_id: str, session: str | None = None) -> JoinAttempt:
    """Return the attempt of a client without an account."""
    return JoinAttempt(JoinRequest(name=name, session=session), connection_id)


def signed_in(account: Account, connection_id: str, session: str | None = None) -> JoinAttempt:
    """Return the attempt of a client with an account."""
    return JoinAttempt(JoinRequest(name="whoever", session=session), connection_id, account)


def present(room: int) -> list[tuple[str, str]]:
    """List the names in a room with the ids of their connections."""
    return [(each.name, each.connection_id) for each in presence.read_present(room)]


def test_many_joins_with_one_name_get_the_next_suffixes() -> None:
    """Clients that ask for one name at once are numbered in order, past suffixes that are taken."""
    room = message_log.open_room("crowd").pk
    assert join(room, guest("bob-3", "0")) == ["bob-3"]
    joining = [guest(name, str(number)) for number, name in enumerate(("bob", "BOB", "bob", "bob"))]
    assert join(room, *joining) == ["bob", "BOB-2", "bob-4", "bob-5"]
    assert [name for name, _ in present(room)] == ["bob-3", "bob", "BOB-2", "bob-4", "bob-5"]


def test_a_session_that_joins_twice_at_once_is_one_member() -> None:
    """Of two connections of one session in one transaction, the second takes over."""
    room = message_log.open_room("twice").pk
    assert join(room, guest("bob", "a", SESSION), guest("bob", "b", SESSION)) == ["bob", "bob"]
    assert present(room) == [("bob", "b")]
    assert join(room, guest("bob", "c", SESSION), guest("bob", "d", SESSION)) == ["bob", "bob"]
    assert present(room) == [("bob", "d")]


def test_an_account_takes_its_name_from_a_guest() -> None:
    """An account removes the guest that has its name, whose session can join again."""
    room = message_log.open_room("owned").pk
    assert join(room, guest("olga", "a", SESSION)) == ["olga"]
    # bulk_create sends no signal, so the guest is not removed: as if it joined in between.
    (olga,) = Account.objects.bulk_create([Account(username="olga", key=stored_key("olga"))])
    joining = guest("olga", "b"), signed_in(olga, "c"), guest("Olga", "d"), guest("o", "e", SESSION)
    assert join(room, *joining) == ["olga-2", "olga", "Olga-3", "o"]
    assert present(room) == [("olga-2", "b"), ("olga", "c"), ("Olga-3", "d"), ("o", "e")]
    assert presence.read_removed(room, "process") == {"a": rejections.NAME_OWNED}
    assert join(room, signed_in(olga, "f")) == ["olga-4"]


def test_a_session_that_signs_in_leaves_its_place() -> None:
    """A guest that signs in does not take over its own place, even within one transaction."""
    room = message_log.open_room("signs-in").pk
    ines = Account.objects.create_user("ines")
    assert join(room, guest("bob", "a", SESSION), signed_in(ines, "b", SESSION)) == ["bob", "ines"]
    assert present(room) == [("ines", "b")]
    assert presence.read_removed(room, "process") == {"a": REPLACED}


def test_banned_clients_are_rejected_and_others_join() -> None:
    """Banned clients of a batch are rejected by any of their names, with the longest ban."""
    room = message_log.open_room("banned")
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
    found = join(
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
    """A rename may change the spelling only, and frees the old name."""
    room = message_log.open_room("renamed").pk
    join(room, guest("bob", "a"), guest("bob", "b"), guest("carol", "c"))
    attempts = [
        RenameAttempt("b", "bob", None),
        RenameAttempt("a", "BOB", None),
        RenameAttempt("c", "carl", None),
    ]
    found = [getattr(each, "to", each) for each in presence.rename(room, attempts)]
    assert found == ["bob-2", "BOB", "carl"]
    assert join(room, guest("carol", "d")) == ["carol"]


def test_many_joins_take_no_more_queries_than_a_few() -> None:
    """The number of queries does not grow with the number of joins."""
    room = message_log.open_room("questions").pk

    def questions(*joining: JoinAttempt) -> int:
        with CaptureQueriesContext(connection) as asked:
            join(room, *joining)
        return len(asked)

    few = questions(*(guest("u", f"a{each}", f"{SESSION}a{each}") for each in range(2)))
    many = questions(*(guest("u", f"b{each}", f"{SESSION}b{each}") for each in range(50)))
    again = questions(*(guest("u", f"c{each}", f"{SESSION}b{each}") for each in range(50)))
    assert many <= few + 4  # looks ahead for names
    assert again <= few


# -- kept names ---------------------------------------------------------------


def leave(room: int, *connection_ids: str, keeps_name: bool = True) -> None:
    """Take connections off the roster, which broke unless not *keeps_name*."""
    presence.leave(room, [Leaving(each, keeps_name) for each in connection_ids])


def expire() -> None:
    """Let the time of all names that are kept be over."""
    models.KeptName.objects.update(until=now())


def test_a_session_finds_its_name_again() -> None:
    """Until its session comes back, nobody else gets the name: by joining, renaming, posting."""
    room = message_log.open_room("kept")
    assert join(room.pk, guest("Bob", "a", SESSION)) == ["Bob"]
    leave(room.pk, "a")
    assert join(room.pk, guest("bob", "b"), guest("BOB", "c")) == ["bob-2", "BOB-3"]
    (renamed,) = presence.rename(room.pk, [RenameAttempt("b", "bob", None)])
    assert isinstance(renamed, Renamed) and renamed.to == "bob-2"
    assert presence.author_name(room, JoinRequest(name="bob"), None) == "bob-4"
    assert presence.author_name(room, JoinRequest(name="x", session=SESSION), None) == "Bob"
    assert join(room.pk, guest("bob", "d"), guest("x", "e", SESSION)) == ["bob-4", "Bob"]
    assert not models.KeptName.objects.filter(room=room).exists()


def test_who_leaves_keeps_no_name() -> None:
    """A client that closed its connection keeps no name, and neither does one without session."""
    room = message_log.open_room("not-kept").pk
    join(room, guest("ann", "a", SESSION), guest("bob", "b"))
    leave(room, "a", keeps_name=False)
    leave(room, "b")
    assert join(room, guest("ann", "c"), guest("bob", "d")) == ["ann", "bob"]


def test_a_kept_name_is_free_when_its_time_is_over() -> None:
    """Then its session is like any other, and the row is deleted with the next sign of life."""
    room = message_log.open_room("expired").pk
    join(room, guest("bob", "a", SESSION), guest("eve", "b", SESSION + "b"))
    leave(room, "a", "b")
    expire()
    assert join(room, guest("bob", "c"), guest("x", "d", SESSION)) == ["bob", "x"]
    leave(room, "d")
    assert join(room, guest("x", "e"), guest("y", "f", SESSION)) == ["x-2", "x"]
    expire()
    kept_names.trim()
    assert not models.KeptName.objects.exists()


def test_a_kept_name_that_was_banned_or_given_to_an_account_is_not_given_back() -> None:
    """Its session gets the name that it asks for."""
    room = message_log.open_room("kept-banned")
    join(room.pk, guest("zoe", "a", SESSION), guest("uma", "b", SESSION + "b"))
    leave(room.pk, "a", "b")
    until = now() + timedelta(hours=1)
    models.Ban.objects.create(room=room, name="zoe", key=stored_key("zoe"), until=until)
    uma = Account.objects.create_user("uma")
    assert join(room.pk, guest("one", "c", SESSION), guest("two", "d", SESSION + "b")) == [
        "one",
        "two",
    ]
    assert join(room.pk, signed_in(uma, "e")) == ["uma"]


def test_a_process_that_stops_keeps_names_and_a_dead_one_has_kept_them() -> None:
    """The names of a process that stops are kept in all rooms, and those of accounts are not."""
    one, two = (message_log.open_room(name).pk for name in ("stops-1", "stops-2"))
    olaf = Account.objects.create_user("olaf")
    join(one, guest("bob", "a", SESSION), signed_in(olaf, "b", SESSION + "b"))
    join(two, guest("bob", "c", SESSION))
    liveness.remove_process("process")
    kept = models.KeptName.objects.filter(room__in=(one, two)).values_list("room", "name")
    assert sorted(kept) == [(one, "bob"), (two, "bob")]
    assert join(one, guest("bob", "d"), guest("bob", "e", SESSION)) == ["bob-2", "bob"]


def test_the_kept_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound the oldest are deleted with the next sign of life."""
    monkeypatch.setattr(kept_names, "MAX_KEPT_NAMES", 3)
    models.KeptName.objects.all().delete()
    room = message_log.open_room("bounded").pk
    for number in range(5):
        join(room, guest(f"n{number}", f"{number}", f"{SESSION}{number}"))
        leave(room, f"{number}")
    kept_names.trim()
    assert sorted(models.KeptName.objects.values_list("name", flat=True)) == ["n2", "n3", "n4"]


@pytest.mark.parametrize("at_once", [False, True])
def test_one_address_pushes_out_its_own_names(
    monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    """However many names are kept for an address, others keep theirs, up to an equal share."""
    monkeypatch.setattr(kept_names, "MAX_KEPT_NAMES", 7)
    models.KeptName.objects.all().delete()
    models.Member.objects.all().delete()
    room = message_log.open_room(f"share-{at_once}").pk
    addresses = ["192.0.2.1"] * 2 + ["192.0.2.2"] * 9 + ["192.0.2.3"] + ["192.0.2.2"] * 3
    addresses += ["192.0.2.4"] * 5
    joining = [
        replace(guest(f"n{number}", f"{number}", f"{SESSION}{number}"), address=address)
        for number, address in enumerate(addresses)
    ]
    join(room, *joining)
    if at_once:
        liveness.remove_process("process")
    else:
        for each in joining:
            leave(room, each.connection_id)
        kept_names.trim()
    rows = models.KeptName.objects.order_by("pk")
    kept = sorted(int(name.removeprefix("n")) for name in rows.values_list("name", flat=True))
    assert kept == [0, 1, 11, 13, 14, 18, 19]
    assert not set(addresses) & set(rows.values_list("address", flat=True)), "only digests"


def test_many_clients_that_return_take_no_more_queries_than_a_few() -> None:
    """The number of queries does not grow with the number of names that are taken back."""
    room = message_log.open_room("returning").pk

    def questions(count: int) -> int:
        joining = [guest("u", f"{count} {each}", f"{SESSION}{each}") for each in range(count)]
        names = join(room, *joining)
        leave(room, *(each.connection_id for each in joining))
        with CaptureQueriesContext(connection) as asked:
            assert join(room, *joining) == names
        leave(room, *(each.connection_id for each in joining), keeps_name=False)
        return len(asked)

    assert questions(50) <= questions(2)
