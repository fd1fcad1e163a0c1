"""The roster batch: what one transaction needs of a room's roster, read in bulk.

The room is locked while clients join. Asking the database for each of many clients whether it is
banned, who has its session and whether its name is free would take ten queries a client, and
everyone would wait for them. So a batch asks once for all of them, keeps who joins, and `write`
inserts them together. Names that were not foreseen are looked up when they are needed.

It is valid as long as the room's lock is held. It does not decide who may join: `presence` does.
All methods may block.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from django.db.models import Q, QuerySet

from broadcast_server.admission.trusted_proxies import client_key
from broadcast_server.protocol.names import with_suffix, without_number
from django_site import models
from django_site.accounts.models import Account
from django_site.accounts.name_key import family_keys, stored_key

from . import bans
from .kept_names import address_digest, kept_in
from .origins import is_in, origin_of

SUFFIXES_LOOKED_UP = 64
"""How many suffixes are looked up at once: many clients that ask for one name need as many."""


class RosterBatch:
    """The roster of *room*, which is locked, and its bans, as far as they concern a batch.

    *names*, *sessions*, *accounts* and *addresses* are those of the clients in the batch.
    """

    def __init__(
        self,
        room: models.Room,
        names: Iterable[str],
        sessions: Iterable[str | None] = (),
        accounts: Iterable[int] = (),
        addresses: Iterable[str | None] = (),
    ) -> None:
        self.room = room
        self._members = models.Member.objects.filter(room=room)
        # All by the keys of names.
        self._looked_up: set[str] = set()
        self._taken: set[str] = set()
        self._freed: set[str] = set()  # by this transaction, whatever the table says
        self._owners: dict[str, int] = {}
        self._bans: dict[str, models.Ban] = {}
        self._kept: set[str] = set()  # for sessions that are not here
        self._returned: dict[str, int] = {}  # kept no longer, with their rows
        self._all_taken_known = False  # whether every name on the roster was read
        self._numbers: dict[str, int] = {}  # where the next search for a suffix starts
        self._new: list[models.Member] = []
        self._moved: dict[int, models.Member] = {}
        self._bans_looked_up: set[str] = set()  # names, as they are spelled
        wanted = {each for each in sessions if each is not None}
        kept = list(kept_in(room).filter(session__in=wanted)) if wanted else []
        self._kept_for = {each.session: each for each in kept}
        wanted_names = {*names, *(each.name for each in kept)}
        self._look_up(map(stored_key, wanted_names))
        clients = {bans.session_key(each) for each in wanted}
        clients |= {bans.origin_key(origin) for each in addresses if (origin := origin_of(each))}
        self._look_up_bans(wanted_names, clients)
        previous = self._members.filter(session__in=wanted) if wanted else ()
        self._sessions = {member.session: member for member in previous}
        signed_in = set(accounts)
        found = bans.bans_in(room).filter(account__in=signed_in) if signed_in else None
        # The last and longest wins.
        self._banned = {ban.account_id: ban for ban in found.order_by("until")} if found else {}

    # -- queries --

    def ban(self, name: str, account: Account | None) -> models.Ban | None:
        """Return the longest ban of *account* or, for a guest, of *name*."""
        if account is not None:
            return self._banned.get(account.pk)
        if not name:  # it subscribes
            return None
        self._look_up_bans([name])
        keys, beginnings = family_keys(name)
        found = [
            ban
            for key, ban in self._bans.items()
            if key in keys or any(map(key.startswith, beginnings))
        ]
        return max(found, key=lambda ban: ban.until, default=None)

    def ban_of_client(self, session: str | None, address: str | None) -> models.Ban | None:
        """Return a ban of the session or the address of a guest."""
        found = self._bans.get(bans.session_key(session)) if session is not None else None
        if found is not None or address is None:
            return found
        found = self._bans.get(bans.origin_key(origin_of(address)))
        networks = (ban for ban in self._bans.values() if ban.network)
        return found or next((ban for ban in networks if is_in(ban.network, address)), None)

    def member_of_session(self, session: str | None) -> models.Member | None:
        """Return the member that has *session*, None if there is none."""
        return self._sessions.get(session) if session is not None else None

    def is_known(self, session: str | None) -> bool:
        """Tell whether *session* has a member here, or a name that is kept."""
        return session is not None and (session in self._sessions or session in self._kept_for)

    def take_kept(self, session: str | None) -> str | None:
        """Return the name that is kept for *session*, and keep it no longer.

        None if there is none, or if it is banned or the name of an account by now.
        """
        kept = self._kept_for.pop(session or "", None)
        if kept is None:
            return None
        self._returned[kept.key] = kept.pk
        self._kept.discard(kept.key)
        if self.ban(kept.name, None) is not None or self.is_owned(kept.name):
            return None
        return kept.name

    def is_taken(self, name: str) -> bool:
        """Tell whether a member has *name*, in any spelling."""
        key = stored_key(name)
        self._look_up([key])
        return key in self._taken

    def is_owned(self, name: str) -> bool:
        """Tell whether *name* is the name of an account, in any spelling."""
        key = stored_key(name)
        self._look_up([key])
        return key in self._owners

    def free_name(self, name: str, account: Account | None) -> str:
        """Return *name* if it is free, else its base with the next free suffix.

        A name is free if no member and no other account has it, and for a guest if it is not kept
        and not banned either: otherwise a client banned as bob-2 could ask for bob, and be bob-2
        again.
        """
        key = stored_key(name)
        self._look_up([key])
        if self._is_free(key, account):
            return name
        name = without_number(name)
        base = stored_key(name)
        if not self._all_taken_known:
            self._add_taken(self._members)
            self._all_taken_known = True
        number = self._numbers.get(base, 2)
        while not self._is_free_ahead(name, number, account):
            number += 1
        self._numbers[base] = number + 1
        return with_suffix(name, number)

    def _is_free_ahead(self, name: str, number: int, account: Account | None) -> bool:
        key = stored_key(with_suffix(name, number))
        if key in self._taken:
            return False
        if key not in self._looked_up:
            ahead = range(number, number + SUFFIXES_LOOKED_UP)
            self._look_up(stored_key(with_suffix(name, each)) for each in ahead)
        return self._is_free(key, account)

    def _is_free(self, key: str, account: Account | None) -> bool:
        owner = self._owners.get(key)
        if key in self._taken or (owner is not None and (account is None or owner != account.pk)):
            return False
        return account is not None or not (key in self._bans or key in self._kept)

    def _look_up(self, keys: Iterable[str]) -> None:
        new = set(keys) - self._looked_up
        if not new:
            return
        self._looked_up |= new
        if not self._all_taken_known:
            self._add_taken(self._members.filter(key__in=new))
        kept = kept_in(self.room).filter(key__in=new).values_list("key", flat=True)
        self._kept |= set(kept) - self._returned.keys()
        owners = Account.objects.filter(key__in=new)
        self._owners.update(owners.values_list("key", "pk"))
        self._add_bans(Q(key__in=new))

    def _look_up_bans(self, names: Iterable[str], clients: Collection[str] = ()) -> None:
        """Look up the bans of *names*, and those of networks and of *clients*, by their keys."""
        new = set(names) - self._bans_looked_up
        if not (new or clients):
            return
        self._bans_looked_up |= new
        keys = set(clients)
        matching = Q(key__startswith=bans.NETWORK_KEY) if clients else Q()
        for name in new:
            exact, beginnings = family_keys(name)
            keys.update(exact)
            for each in beginnings:
                matching |= Q(key__startswith=each)
        self._add_bans(matching | Q(key__in=keys))

    def _add_bans(self, matching: Q) -> None:
        for ban in bans.bans_in(self.room).filter(matching).order_by("until"):
            self._bans[ban.key] = ban

    def _add_taken(self, members: QuerySet[models.Member]) -> None:
        self._taken |= set(members.values_list("key", flat=True)) - self._freed

    # -- changes --

    def add(self, member: models.Member) -> None:
        """Add *member*, which `write` inserts into the table."""
        self._new.append(member)
        self.take_key(member.key)
        if member.session is not None:
            self._sessions[member.session] = member

    def take_over(
        self, member: models.Member, process: str, connection_id: str, address: str | None
    ) -> None:
        """Give the place of *member* to *connection_id* in *process*, of the same session."""
        member.process_id, member.token = process, connection_id
        member.address, member.origin = address_digest(client_key(address)), origin_of(address)
        if member.pk is not None:
            self._moved[member.pk] = member

    def remove(self, member: models.Member) -> None:
        """Free the name and the session of *member*, which the caller removes from the table."""
        self.release_key(member.key)
        self._sessions.pop(member.session, None)

    def take_key(self, key: str) -> None:
        """Note that the name with this *key* is taken now."""
        self._taken.add(key)
        self._freed.discard(key)

    def release_key(self, key: str) -> None:
        """Note that the name with this *key* is free now."""
        self._taken.discard(key)
        self._freed.add(key)

    def write(self) -> None:
        """Write to the tables who was added, and whose place or kept name was taken over."""
        if self._returned:
            models.KeptName.objects.filter(pk__in=self._returned.values()).delete()
        models.Member.objects.bulk_create(self._new)
        models.Member.objects.bulk_update(
            self._moved.values(), ["process", "token", "address", "origin"]
        )
        self._new.clear()
        self._moved.clear()
