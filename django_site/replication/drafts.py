"""Drafts: messages of members and of clients that only publish, as the outbox takes them."""

from __future__ import annotations

from collections.abc import Callable

from broadcast_server.protocol.publish import PublishRequest
from broadcast_server.rooms.actions import Publish
from django_site.accounts.models import Account
from django_site.store.message_log import PendingMessage
from django_site.store.origins import origin_of
from django_site.store.presence import JoinAttempt
from django_site.store.publish import PendingPost


def draft_of_member(
    action: Publish, attempt: JoinAttempt, source: str, client_id: str
) -> PendingMessage:
    """Return the message of a member, which has joined by *attempt*."""
    return PendingMessage(
        name=action.author.name,
        text=action.text,
        source=source,
        client_id=client_id,
        account=None if attempt.account is None else attempt.account.pk,
        connection_id=attempt.connection_id,
        origin=origin_of(attempt.address) or None,
    )


def draft_of_post(
    request: PublishRequest,
    account: Account | None,
    address: str | None,
    source: str,
    client_id: str,
    find_account: Callable[[], Account | None],
) -> PendingPost:
    """Return the message of a client at *address* that does not join."""
    return PendingPost(
        name=request.join.name,
        text=request.text,
        source=source,
        client_id=client_id,
        account=None if account is None else account.pk,
        origin=origin_of(address) or None,
        post=request,
        owner=account,
        address=address,
        find_account=find_account,
    )
