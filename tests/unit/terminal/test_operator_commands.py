"""What operators type in the terminal, and what everybody sees of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broadcast_server.protocol.messages import Joined, Left, Members, Message, Welcome
from broadcast_server.protocol.operators import OperatorEvent, OperatorRequest
from broadcast_server.terminal.commands import TypedCommand, parse_command
from broadcast_server.terminal.plain import event_text
from broadcast_server.terminal.room_view import RoomView, welcome_notices

WELCOME = Welcome("lobby", "alice", "e", 0, True, 0, 1, ("alice",))


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        ("/kick Bob B", OperatorRequest("kick", "Bob B")),
        ("/mute bob", OperatorRequest("mute", "bob")),
        ("/unmute bob", OperatorRequest("mute", "bob", on=False)),
        ("/lock", OperatorRequest("lock")),
        ("/unlock", OperatorRequest("lock", on=False)),
        ("/announce", OperatorRequest("announce")),
        ("/announce on", OperatorRequest("announce")),
        ("/announce off", OperatorRequest("announce", on=False)),
        ("/topic tea  at five", OperatorRequest("topic", text="tea  at five")),
        ("/topic -", OperatorRequest("topic")),
        ("/slow 30", OperatorRequest("slow", seconds=30)),
        ("/slow off", OperatorRequest("slow")),
        ("/hide bob", OperatorRequest("hide", "bob")),
        ("/ban bob so rude", OperatorRequest("ban", "bob", text="so rude")),
    ],
)
def test_a_command_of_an_operator(text: str, request_: OperatorRequest) -> None:
    """An operator's command is a request; anyone else is told how to become one."""
    command = parse_command(text)
    assert command is not None
    view = RoomView()
    again = f"not connected: type {text.split(maxsplit=1)[0]} again once connected"
    assert view.request(command, is_live=False) == again  # typed ahead of the welcome
    view.apply(replace(WELCOME, operator=True))
    assert view.request(command) == request_
    assert view.request(command, is_live=False) == again
    view.apply(WELCOME)  # after a reconnect without the key
    told = (
        "is for operators of the room: connect with --operator-file FILE, or with the --token-file"
        " of a moderator's account"
    )
    assert view.request(command) == f"{text.split(maxsplit=1)[0]} {told}"


@pytest.mark.parametrize("text", ["/kick", "/mute ", "/lock now", "/announce yes", "/slow"])
def test_an_argument_that_is_missing_or_unexpected(text: str) -> None:
    """The error says how to type the command."""
    with pytest.raises(ValueError, match=rf"{text.split(maxsplit=1)[0]} takes "):
        parse_command(text)


@pytest.mark.parametrize("text", ["1 min", "-1", "86401", "1" * 5000, "½"])
def test_seconds_that_slow_mode_does_not_take(text: str) -> None:
    """The error says what it takes."""
    with pytest.raises(ValueError, match=r"is not off or a number of seconds up to 86400"):
        parse_command(f"/slow {text}")


def test_what_is_hidden() -> None:
    """All that somebody has published lately, or the last message of it that was received."""
    view = RoomView()
    view.apply(replace(WELCOME, operator=True))
    for seq, name in ((1, "Bob"), (2, "bob"), (3, "Ann Lee"), (4, "eve")):
        view.apply(Message(seq, name, "x", ""))

    def asked(argument: str) -> OperatorRequest | str:
        return view.request(TypedCommand("hide", argument), names=("Ann", "Ann Lee"))

    assert asked("Ann Lee") == asked("ann lee:") == OperatorRequest("hide", "Ann Lee")
    assert asked("ann lee: last") == OperatorRequest("hide", seq=3)
    assert asked("BOB last") == OperatorRequest("hide", seq=2)
    assert asked("ann last") == "no message of Ann was shown here"
    assert str(asked("bob all")).startswith("/hide takes NAME or NAME last: ")
    view.apply(replace(WELCOME, operator=True))
    assert asked("eve last") == OperatorRequest("hide", seq=4)
    view.apply(replace(WELCOME, operator=True, epoch="other"))
    assert asked("eve last") == "no message of eve was shown here", "its number is another one's"


def test_everyone_can_report() -> None:
    """A report names a member, also one with spaces or one that has left, and perhaps a reason."""
    view, names = RoomView(), ("Ann", "Ann Lee")
    view.apply(WELCOME)
    for text, name, reason in (
        ("/report Ann Lee", "Ann Lee", ""),
        ("/report ann lee: so\nrude", "Ann Lee", "so\nrude"),
        (" /report Ann lies", "Ann", "lies"),
        ("/report bob", "bob", ""),
    ):
        command = parse_command(text)
        assert command is not None
        expected = OperatorRequest("report", name, text=reason)
        assert view.request(command, names=names) == expected
        told = "not connected: type /report again once connected"
        assert view.request(command, is_live=False) == told
    with pytest.raises(ValueError, match="/report takes NAME"):
        parse_command("/report")
    event = OperatorEvent("report", "alice", "bob", text="rude")
    assert event_text(event, again=False) == ["alice reported bob to the moderators alone, rude"]
    event = event._replace(text="")
    assert event_text(event, again=False) == ["alice reported bob to the moderators alone"]


def test_everyone_can_read_the_topic() -> None:
    """It is that of the welcome, until an operator sets another one."""
    view, ask = RoomView(), TypedCommand("topic")
    assert view.request(ask) == "this room has no topic"
    view.apply(replace(WELCOME, topic="tea\x1b[2J"))
    assert view.request(ask) == "the topic is tea"
    view.apply(OperatorEvent("topic", "alice", text="cake"))
    view.apply(OperatorEvent("lock", "alice"))
    assert (view.topic, view.request(ask)) == ("cake", "the topic is cake")
    view.apply(WELCOME)
    assert view.topic == ""


def test_the_mode_is_that_of_the_last_event() -> None:
    """It is in words, for the status line, and a new welcome says it anew."""
    view = RoomView()
    for event, mode in (
        (replace(WELCOME, locked=True), "locked"),
        (OperatorEvent("announce", "alice"), "locked, only operators write"),
        (OperatorEvent("lock", "alice", on=False), "only operators write"),
        (OperatorEvent("announce", "alice", on=False), ""),
        (replace(WELCOME, announce=True), "only operators write"),
        (replace(WELCOME, slow=30), "slow mode: one message in 30 s"),
        (OperatorEvent("lock", "alice"), "locked, slow mode: one message in 30 s"),
        (OperatorEvent("slow", "alice", seconds=9), "locked, slow mode: one message in 9 s"),
        (OperatorEvent("slow", "alice"), "locked"),
        (WELCOME, ""),
    ):
        view.apply(event)
        assert view.mode == mode


def test_members_are_counted() -> None:
    """The count is that of the last event that has one."""
    view = RoomView()
    for event, count in ((WELCOME, 1), (Joined("b", 2), 2), (Members(9, ()), 9), (Left("b", 8), 8)):
        view.apply(event)
        assert view.count == count


def test_a_newcomer_is_told_what_operators_have_set() -> None:
    """It is in notices after the welcome, without anything that a terminal would obey."""
    welcome = replace(
        WELCOME, operator=True, topic="tea\x1b[2J", locked=True, announce=True, muted=True
    )
    assert welcome_notices(welcome) == [
        "topic: tea",
        "you are an operator, the room is locked, only operators write, you are muted",
    ]
    assert welcome_notices(replace(WELCOME, slow=30)) == ["slow mode: one message in 30 s"]
    assert not welcome_notices(WELCOME)


def test_in_plain_words() -> None:
    """For a screen reader, an act is a sentence, and none has the colon of a message."""
    assert event_text(OperatorEvent("kick", "alice", "bob"), again=False) == ["alice kicked bob"]
    topic = OperatorEvent("topic", "alice", text="a: b")
    assert event_text(topic, again=False) == ["alice set the topic, a, b"]
