"""Hiding: what an operator takes out of the log of a room, in memory. Pure.

Every client that speaks JSON gets the same events as in the Django deployment, where a moderator
can still read what was hidden. Here the text is forgotten.
"""

from __future__ import annotations

from broadcast_server.protocol.messages import Error, Message, MessageHidden
from broadcast_server.protocol.names import name_key, validate_name
from broadcast_server.protocol.operators import OperatorRequest, event_of

from .actions import Action, NoteAct, Send
from .message_log import MessageLog
from .participant import Participant

RECENT_MESSAGES = 1000
"""Among how many of the last messages of a room those of an author are looked for."""


def hide(
    log: MessageLog, operator: Participant, request: OperatorRequest
) -> tuple[list[Action], list[tuple[Message, str]]]:
    """Hide what *request* of *operator* asks for: one message of *log*, or the last ones of a name.

    Returns the actions that tell everyone, and what is left of the messages, with their id scopes.
    """
    try:
        found = _find(log, request)
    except ValueError as error:
        return [Send(operator, Error("bad_name", str(error), request.id))], []
    if not found:
        return [Send(operator, nothing_found(request))], []
    texts = [each for each in found if each.text]
    event = event_of(request._replace(name=found[0].name, messages=len(texts)), operator.name)
    if not texts:
        return [Send(operator, event)], []
    hidden = [log.hide(each.seq) for each in texts]
    told = [Send(None, MessageHidden(each.seq, each.id)) for each, _ in hidden]
    return [Send(None, event), NoteAct(event), *told], hidden


def nothing_found(request: OperatorRequest) -> Error:
    """Return the answer to a *request* about messages that are not there."""
    text = f"{request.name} has published nothing here lately"
    if request.seq:
        text = f"message {request.seq} is not in the log"
    return Error("not_here", text, request.id)


def _find(log: MessageLog, request: OperatorRequest) -> list[Message]:
    """Return the messages that are meant, the oldest first. Raises ValueError for a bad name.

    Of an author these are only messages that are not hidden.
    """
    if request.seq:
        message = log.find(request.seq)
        return [] if message is None else [message]
    key = name_key(validate_name(request.name))
    keys = dict[str, str]()  # by name: there are few
    found = list[Message]()
    for seq in range(max(log.first, log.head - RECENT_MESSAGES + 1), log.head + 1):
        message = log.find(seq)
        if message is None or not message.text:
            continue
        if message.name not in keys:
            keys[message.name] = name_key(message.name)
        if keys[message.name] == key:
            found.append(message)
    return found
