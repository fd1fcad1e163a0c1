"""The letters: what is posted over HTTP, decided under the room's lock and logged with the rest.

Under which name it is said, whether it may be, and whether enough are there to hear it are
looked at in the transaction that logs it. Every function here blocks, and is called in a thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from django.db import transaction

from broadcast_server.post import Post, Said, TooFew

from . import log, models, presence
from .accounts.models import Account
from .ends import Refused
from .log import Appended, Draft, Logged


@dataclass(frozen=True, slots=True)
class Letter(Draft):
    """What someone posted, whose account it is; it is given its name when it is logged."""

    post: Post = field(kw_only=True)
    owner: Account | None = field(kw_only=True)


Outcome = Logged | Said | TooFew | Refused
"""What became of a draft; of a letter that was taken it is what `Said` says."""


def append(room: int, drafts: Sequence[Draft], *, unsure: bool) -> tuple[Appended, list[Outcome]]:
    """Log *drafts* of which some are letters, and say what became of each."""
    with transaction.atomic():
        row = models.Room.objects.select_for_update().get(pk=room)
        here = presence.count(row)
        known = log.held(room, [each for each in drafts if isinstance(each, Letter)], unsure=unsure)
        found: list[Draft | TooFew | Refused] = [
            each if log.key_of(each) in known else _checked(row, each, here) for each in drafts
        ]
        appended = log.append(
            room, [each for each in found if isinstance(each, Draft)], unsure=unsure
        )
        logged = iter(appended.logged)
        outcomes: list[Outcome] = [
            _outcome(room, each, next(logged), here) if isinstance(each, Draft) else each
            for each in found
        ]
    return appended, outcomes


def _checked(room: models.Room, draft: Draft, here: int) -> Draft | TooFew | Refused:
    if not isinstance(draft, Letter):
        return draft
    if here < draft.post.require:
        return TooFew(here)
    try:
        return replace(draft, name=presence.name_of(room, draft.post.entry, draft.owner))
    except Refused as refused:
        return refused


def _outcome(room: int, draft: Draft, logged: Logged, here: int) -> Outcome:
    if not isinstance(draft, Letter):
        return logged
    if not logged.before:
        return Said(logged.seq, draft.name, here)
    repeated = not draft.source.startswith(log.UNNAMED)  # else its commit's answer was lost
    return Said(logged.seq, log.name_at(room, logged.seq), here, repeated)
