"""The room view: what a person in the terminal knows of a room, and may type in it. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from broadcast_server.protocol.messages import Event, Joined, Left, Members, Message, Welcome
from broadcast_server.protocol.names import name_key
from broadcast_server.protocol.operators import BAN, HIDE, REPORT, OperatorEvent, OperatorRequest
from broadcast_server.protocol.sanitize import strip_control

from .commands import COMMANDS, TypedCommand, split_recipient
from .known_names import MAX_NAMES

NO_TOPIC = "-"
"""What /topic takes to remove the topic."""

_REQUESTS = {
    "kick": OperatorRequest("kick"),
    "mute": OperatorRequest("mute"),
    "unmute": OperatorRequest("mute", on=False),
    "lock": OperatorRequest("lock"),
    "unlock": OperatorRequest("lock", on=False),
    "announce": OperatorRequest("announce"),
    "topic": OperatorRequest("topic"),
    "slow": OperatorRequest("slow"),
    "hide": OperatorRequest(HIDE),
}
"""The requests by the verbs of their commands."""


class RoomView:
    """What was received about one room."""

    def __init__(self) -> None:
        self.count = 0
        """Members of the room."""
        self.topic = ""
        self._is_operator: bool | None = None  # not known before the first welcome
        self._is_locked = self._is_announce = False
        self._slow = 0
        self._epoch = ""
        self._last_seqs: dict[str, int] = {}  # of their last messages, by authors

    @property
    def mode(self) -> str:
        """Who may join and write, and how often, in words, empty if nothing limits it."""
        facts = {
            "locked": self._is_locked,
            "only operators write": self._is_announce,
            _slow_text(self._slow): self._slow,
        }
        return ", ".join(fact for fact, holds in facts.items() if holds)

    def apply(self, event: Event) -> None:
        """Take note of *event*."""
        match event:
            case Message(name=name, seq=seq):
                self._last_seqs.pop(name, None)
                self._last_seqs[name] = seq
                if len(self._last_seqs) > MAX_NAMES:
                    del self._last_seqs[next(iter(self._last_seqs))]
            case Welcome(count=count, topic=topic, operator=operator):
                self.count, self.topic = count, strip_control(topic or "")
                if event.epoch != self._epoch:  # another log, with other numbers
                    self._epoch, self._last_seqs = event.epoch, {}
                self._is_operator = bool(operator)
                self._is_locked, self._is_announce = bool(event.locked), bool(event.announce)
                self._slow = event.slow or 0
            case Members(count=count) | Joined(count=count) | Left(count=count):
                self.count = count
            case OperatorEvent(act="topic", text=text):
                self.topic = strip_control(text)
            case OperatorEvent(act="lock", on=on):
                self._is_locked = on
            case OperatorEvent(act="announce", on=on):
                self._is_announce = on
            case OperatorEvent(act="slow", seconds=seconds):
                self._slow = seconds

    def request(
        self, command: TypedCommand, *, is_live: bool = True, names: Iterable[str] = ()
    ) -> OperatorRequest | str:
        """Return what *command* asks the server for, or the notice that is shown instead.

        *is_live* says whether there is a connection, and *names* are those that can be meant.
        """
        verb, argument = command.verb, command.argument
        if verb == "topic" and not argument:
            return f"the topic is {self.topic}" if self.topic else "this room has no topic"
        if verb != REPORT and self._is_operator is False:
            return (
                f"/{verb} is for operators of the room: connect with --operator-file FILE, or with"
                " the --token-file of a moderator's account"
            )
        if not is_live or (verb != REPORT and self._is_operator is None):
            return f"not connected: type /{verb} again once connected"
        if verb in (REPORT, BAN):
            name, reason = split_recipient(argument, names, needs_text=False)
            return OperatorRequest(verb, name, text=reason)
        request = _REQUESTS[verb]
        if verb == HIDE:
            return self._hide(argument, names)
        if verb == "announce":
            return request._replace(on=argument != "off")
        if verb == "slow":
            return request._replace(seconds=int(argument))
        if verb == "topic":
            return request._replace(text="" if argument == NO_TOPIC else argument)
        return request._replace(name=argument)

    def _hide(self, argument: str, names: Iterable[str]) -> OperatorRequest | str:
        name, rest = split_recipient(argument, names, needs_text=False)
        if not rest:
            return OperatorRequest(HIDE, name)
        if rest != "last":
            return f"/hide takes NAME or NAME last: {COMMANDS['/hide'][1]}"
        key = name_key(name)
        seqs = [seq for author, seq in self._last_seqs.items() if name_key(author) == key]
        if not seqs:
            return f"no message of {name} was shown here"
        return OperatorRequest(HIDE, seq=max(seqs))


def _slow_text(seconds: int) -> str:
    return f"slow mode: one message in {seconds} s"


def welcome_notices(welcome: Welcome, asked: str | None = None) -> list[str]:
    """Return what somebody who has just joined as *asked* should know, besides who is there.

    That is another name than the one asked for, and what operators have set in the room.
    """
    notices = [f"topic: {strip_control(welcome.topic)}"] if welcome.topic else []
    if asked is not None and welcome.name != asked:
        is_taken = welcome.name.startswith(f"{asked}-")
        taken = f"the name {asked} is taken (/name changes yours)"
        other = f"the name {asked} is not yours, you are {welcome.name}"
        notices.insert(0, strip_control(taken if is_taken else other))
    facts = {
        "you are an operator": welcome.operator,
        "the room is locked": welcome.locked,
        "only operators write": welcome.announce,
        _slow_text(welcome.slow or 0): welcome.slow,
        "you are muted": welcome.muted,
    }
    told = [fact for fact, holds in facts.items() if holds]
    return [*notices, *([", ".join(told)] if told else [])]
