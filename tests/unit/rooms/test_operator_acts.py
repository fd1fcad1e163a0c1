"""What operators do in a room: whom it concerns, and who is told. More is in the transcripts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import pytest

from broadcast_server.protocol.join import JoinRequest
from broadcast_server.protocol.messages import (
    CloseCode,
    Error,
    Format,
    Left,
    Message,
    Renamed,
    RenameRequest,
)
from broadcast_server.protocol.operators import OperatorEvent, OperatorRequest
from broadcast_server.rooms.actions import (
    Action,
    Close,
    NoteAct,
    Operate,
    Publish,
    PublishLines,
    Send,
)
from broadcast_server.rooms.kept_names import KeptNames
from broadcast_server.rooms.message_log import MessageLog
from broadcast_server.rooms.participant import Participant
from broadcast_server.rooms.quota import MAX_ACTS_PER_HEARTBEAT
from broadcast_server.rooms.restrictions import KICK_S, Restrictions
from broadcast_server.rooms.room import Room
from broadcast_server.rooms.room_control import RoomControl
from broadcast_server.rooms.room_mode import MAX_ROOM_MODES, RoomMode, RoomModes

HOME, SCHOOL = "192.0.2.1", "198.51.100.7"


class Class:
    """A room with an operator, and a clock that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0
        self._scopes = count(1)
        self.modes = RoomModes()
        self.restrictions = Restrictions(lambda: self.now)
        self.kept_names = KeptNames(lambda: self.now)
        self.room = self.open("lobby")
        self.teacher = self.join("teacher", operator=True)

    def open(self, name: str) -> Room:
        """Return a new room with what is known of the room *name*."""
        control = RoomControl(name, self.modes, self.restrictions)
        return Room(name, MessageLog(), 100, kept_names=self.kept_names, control=control)

    def why_not(
        self, name: str, session: str | None = None, address: str = "", *, operator: bool = False
    ) -> str:
        """Return the code with which a client is rejected, "" if it may join."""
        join = JoinRequest(name=name, session=session, operator=operator)
        rejection = self.room.check_join(join, address)
        if rejection is None:
            return ""
        assert rejection.code is CloseCode.REMOVED and len(rejection.text.encode()) <= 123
        return rejection.error.code

    def join(
        self, name: str, session: str | None = None, address: str = "", *, operator: bool = False
    ) -> Participant:
        """Add a member."""
        assert not self.why_not(name, session, address, operator=operator)
        join = JoinRequest(name=name, session=session, format=Format.JSON, operator=operator)
        member = Participant(join, session or f"#{next(self._scopes)}", address=address)
        self.room.connect(member)
        return member

    def subscribe(self, scope: str, address: str = "") -> Participant:
        """Add a subscriber."""
        subscriber = Participant(JoinRequest(name=""), scope, address=address)
        self.room.subscribe(subscriber)
        return subscriber

    def operate(
        self, act: str, name: str = "", *, on: bool = True, text: str = "", seconds: int = 0
    ) -> list[Action]:
        """Let the operator do something."""
        request = OperatorRequest(act, name, on, text, seconds=seconds)
        return self.room.operate(self.teacher, request)

    def post(self, name: str, session: str | None = None, address: str = "") -> str:
        """Return the code with which a post is rejected, "" if it is published."""
        rejection = self.room.check_publish(JoinRequest(name, session=session), address)
        return "" if rejection is None else rejection.error.code

    def say(self, member: Participant) -> str:
        """Return the code of the error that *member* gets for a message, "" if it is published."""
        (action,) = self.room.receive(member, '{"type":"say","text":"hi","id":"7"}')
        if isinstance(action, Publish):
            return ""
        assert isinstance(action, Send) and isinstance(action.event, Error)
        assert action.to is member and action.event.id == "7"
        return action.event.code


@pytest.fixture(name="lesson")
def make_class() -> Class:
    """A room with an operator."""
    return Class()


def closed(actions: Sequence[Action]) -> list[str]:
    """Return the names of those who are closed, "" for a subscriber."""
    return [action.participant.name for action in actions if isinstance(action, Close)]


def error(actions: Sequence[Action]) -> str:
    """Return the code of the only action, an error."""
    (action,) = actions
    assert isinstance(action, Send) and isinstance(action.event, Error)
    return action.event.code


# -- kick ------------------------------------------------------------------------


def test_a_kick_is_an_event_a_note_and_a_close(lesson: Class) -> None:
    """Everyone is told before the member is closed, it is noted, and the member has left."""
    bob = lesson.join("bob")
    kicked = OperatorEvent("kick", "teacher", "bob")
    event, note, reason, close, left = lesson.operate("kick", "bob")
    assert (event, note) == (Send(None, kicked), NoteAct(kicked))
    assert isinstance(reason, Send) and reason.to is bob and isinstance(reason.event, Error)
    assert close == Close(bob, CloseCode.REMOVED, reason.event.text)
    assert left == Send(None, Left("bob", 1))


def test_who_was_kicked_stays_out(lesson: Class) -> None:
    """Session, name, look-alikes, address and streams stay out until the time is over."""
    lesson.join("bob", "=b", HOME)
    lesson.operate("kick", "bob")
    for name, session, address in (
        ("x", "=b", ""),
        ("bob", None, ""),
        ("B0B", "=x", SCHOOL),
        ("x", "=x", HOME),
        ("", None, HOME),
    ):
        assert lesson.why_not(name, session, address) == "kicked"
    assert not lesson.why_not("bob", "=b", HOME, operator=True)
    assert not lesson.why_not("bobby", "=x", SCHOOL)
    lesson.now += KICK_S
    assert not lesson.why_not("bob", "=b", HOME)


def test_an_address_that_others_have_is_not_kept_out(lesson: Class) -> None:
    """A class behind one address does not lose it, even if its other member is just away."""
    lesson.join("bob", "=b", SCHOOL)
    carol = lesson.join("carol", "=c", SCHOOL)
    lesson.operate("kick", "bob")
    assert not lesson.why_not("dave", "=d", SCHOOL)
    assert lesson.why_not("dave", "=b", SCHOOL)
    lesson.join("dave", "=d", SCHOOL)
    lesson.room.disconnect(carol, 1006)
    lesson.operate("kick", "dave")
    assert not lesson.why_not("eve", "=e", SCHOOL)
    assert not lesson.why_not("carol", "=c", SCHOOL)


def test_the_local_machine_is_not_kept_out(lesson: Class) -> None:
    """All clients of the server's machine have no address, so it cannot tell them apart."""
    lesson.join("bob", "=b")
    lesson.operate("kick", "bob")
    assert not lesson.why_not("eve", "=e")


def test_nobody_takes_reports(lesson: Class) -> None:
    """The standalone server has no moderators, and says so to everyone who reports somebody."""
    for name in ("teacher", "bob"):
        member = lesson.teacher if name == "teacher" else lesson.join("bob", "=b")
        request = OperatorRequest("report", "eve", text="rude", id="r")
        (action,) = lesson.room.operate(member, request)
        assert isinstance(action, Send) and action.to is member
        assert isinstance(action.event, Error)
        assert (action.event.code, action.event.id) == ("no_reports", "r")


def test_a_number_does_not_help(lesson: Class) -> None:
    """A client that would get the number of who was kicked stays out, and nobody renames to it."""
    lesson.join("bob", "=1")
    lesson.join("bob", "=2")
    carol = lesson.join("carol", "=c")
    lesson.operate("kick", "bob-2")
    assert lesson.why_not("bob", "=3") == "kicked"
    for name in ("bob", "BOB-2"):
        assert error(lesson.room.rename(carol, RenameRequest(name))) == "kicked"
    assert carol.name == "carol"
    renamed = lesson.room.rename(carol, RenameRequest("caro"))
    assert renamed == [Send(None, Renamed("carol", "caro"))]


def test_a_kick_closes_streams(lesson: Class) -> None:
    """Subscribers with the session or the address of the member go with it."""
    lesson.join("bob", "=b", HOME)
    streams = [lesson.subscribe("=b"), lesson.subscribe("#1", HOME), lesson.subscribe("#2", SCHOOL)]
    actions = lesson.operate("kick", "bob")
    assert closed(actions) == ["bob", "", ""]
    assert lesson.room.subscribers() == (streams[2],)


def test_who_is_just_away_can_be_kicked(lesson: Class) -> None:
    """A member whose connection broke does not come back, though its name was kept."""
    lesson.room.disconnect(lesson.join("bob", "=b"), 1006)
    event, note = lesson.operate("kick", "BOB")
    assert event == Send(None, OperatorEvent("kick", "teacher", "bob"))
    assert isinstance(note, NoteAct)
    assert lesson.why_not("x", "=b") == "kicked"
    assert not list(lesson.kept_names)


def test_a_kicked_client_does_not_publish(lesson: Class) -> None:
    """A post is rejected as a join is."""
    lesson.join("bob", "=b")
    lesson.operate("kick", "bob")
    for join in (JoinRequest("x", session="=b"), JoinRequest("bob")):
        rejection = lesson.room.check_publish(join, "")
        assert rejection is not None and rejection.error.code == "kicked"
    assert lesson.room.check_publish(JoinRequest("eve"), "") is None


def test_operators_are_neither_kicked_nor_muted(lesson: Class) -> None:
    """No operator loses its room to a slip of the finger or to another operator."""
    lesson.join("head", operator=True)
    for name in ("head", "teacher"):
        assert error(lesson.operate("kick", name)) == "is_operator"
        assert error(lesson.operate("mute", name)) == "is_operator"
    assert not lesson.restrictions


# -- mute ------------------------------------------------------------------------


def test_a_muted_member_says_nothing_with_several_lines(lesson: Class) -> None:
    """Nor does one of announce mode, with a frame of plain lines."""
    join = JoinRequest("bob", format=Format.TEXT)
    bob = Participant(join, "#bob")
    lesson.room.connect(bob)
    assert lesson.room.receive(bob, "a\nb") == [PublishLines(bob, ["a", "b"], "bob")]
    lesson.operate("mute", "bob")
    codes = [
        action.event.code
        for action in lesson.room.receive(bob, "a\nb")
        if isinstance(action, Send) and isinstance(action.event, Error)
    ]
    assert codes == ["muted", "muted"]


def test_a_mute_follows_the_member(lesson: Class) -> None:
    """It holds for a new name, a new session under the old name, and the address."""
    bob = lesson.join("bob", "=b", HOME)
    lesson.operate("mute", "bob")
    assert lesson.say(bob) == "muted"
    lesson.room.rename(bob, RenameRequest("bobby"))
    assert lesson.say(bob) == "muted"
    lesson.room.disconnect(bob)
    muted = [("bob", "=1", ""), ("bobby", "=2", ""), ("x", "=b", ""), ("y", "=3", HOME)]
    for name, session, address in muted:
        member = lesson.join(name, session, address)
        assert lesson.say(member) == "muted"
        rejection = lesson.room.check_publish(JoinRequest(name, session=session), address)
        assert rejection is not None and rejection.error.code == "muted"
        lesson.room.disconnect(member)
    assert lesson.say(lesson.join("carol", "=c", SCHOOL)) == ""


def test_a_mute_without_a_session_follows_the_connection(lesson: Class) -> None:
    """A member without a session and with the default name stays muted as long as it is here."""
    someone = lesson.join("anonymous")
    lesson.operate("mute", "anonymous")
    lesson.room.rename(someone, RenameRequest("x"))
    assert lesson.say(someone) == "muted"
    assert lesson.say(lesson.join("anonymous")) == ""


def test_taking_a_muted_name_mutes(lesson: Class) -> None:
    """A new session does not get round it by a rename to its old name."""
    lesson.room.disconnect(lesson.join("bob", "=b"))
    bob = lesson.join("bob", "=b")
    lesson.operate("mute", "bob")
    lesson.room.disconnect(bob)
    eve = lesson.join("eve", "=e")
    assert lesson.say(eve) == ""
    lesson.room.rename(eve, RenameRequest("BOB"))
    assert lesson.say(eve) == "muted"


def test_unmuting_by_name_and_by_look_alike(lesson: Class) -> None:
    """A member that is away can be unmuted; a name that nobody has had is an error."""
    bob = lesson.join("bob", "=b")
    lesson.operate("mute", "bob")
    lesson.room.disconnect(bob)
    event, note = lesson.operate("mute", "B0B", on=False)
    assert isinstance(event, Send) and event.to is None and isinstance(note, NoteAct)
    assert lesson.say(lesson.join("bob", "=b")) == ""
    assert error(lesson.operate("mute", "nobody", on=False)) == "not_here"
    unchanged = lesson.operate("mute", "bob", on=False)
    assert unchanged == [Send(lesson.teacher, OperatorEvent("mute", "teacher", "bob", on=False))]


def test_who_only_shares_an_address_is_unmuted_alone(lesson: Class) -> None:
    """The member that was muted first stays so."""
    bob = lesson.join("bob", "=b", HOME)
    lesson.operate("mute", "bob")
    eve = lesson.join("eve", "=e", HOME)
    assert lesson.say(eve) == "muted"
    lesson.operate("mute", "eve", on=False)
    assert (lesson.say(bob), lesson.say(eve)) == ("muted", "")


def test_what_was_accepted_before_a_mute_stays(lesson: Class) -> None:
    """A message and an act in one turn happen in their order."""
    bob = lesson.join("bob", "=b")
    (published,) = lesson.room.receive(bob, '{"type":"say","text":"hi"}')
    lesson.operate("mute", "bob")
    assert isinstance(published, Publish)
    assert lesson.room.deliver(Message(1, "bob", "hi", "")) == [
        Send(None, Message(1, "bob", "hi", ""))
    ]
    assert lesson.say(bob) == "muted"


def test_a_takeover_with_the_key_is_not_muted(lesson: Class) -> None:
    """An operator may write; the same session without the key may not."""
    lesson.join("bob", "=b")
    lesson.operate("mute", "bob")
    assert lesson.say(lesson.join("bob", "=b", operator=True)) == ""
    assert lesson.say(lesson.join("bob", "=b")) == "muted"


# -- slow mode -------------------------------------------------------------------


def test_slow_mode_knows_a_member_that_comes_back(lesson: Class) -> None:
    """Neither a new name, a new session, a post nor another connection is a further message."""
    lesson.operate("slow", seconds=30)
    bob = lesson.join("bob", "=b", HOME)
    assert (lesson.say(bob), lesson.say(bob)) == ("", "slow_mode")
    lesson.room.rename(bob, RenameRequest("rob"))
    assert lesson.say(bob) == lesson.post("x", "=b") == lesson.post("bob") == "slow_mode"
    lesson.room.disconnect(bob)
    for name, session, address in (("bob", "=1", ""), ("x", "=b", ""), ("y", "=2", HOME)):
        again = lesson.join(name, session, address)
        assert lesson.say(again) == lesson.post(name, session, address) == "slow_mode"
        lesson.room.disconnect(again)
    assert lesson.say(lesson.join("carol", "=c", SCHOOL)) == ""
    lesson.now += 30.0
    assert (lesson.post("bob", "=b"), lesson.post("bob", "=b")) == ("", "slow_mode")
    assert (lesson.post("anonymous"), lesson.post("anonymous")) == ("", "slow_mode")


def test_slow_mode_in_a_class_behind_one_address(lesson: Class) -> None:
    """Each of them has its message; one that comes back with a new session has no second one."""
    lesson.operate("slow", seconds=30)
    pupils = [lesson.join(f"p{number}", f"={number}", SCHOOL) for number in range(3)]
    assert [lesson.say(each) for each in pupils] == ["", "", ""]
    lesson.room.disconnect(pupils[0])
    assert lesson.say(lesson.join("new", "=new", SCHOOL)) == "slow_mode"


def test_nobody_silences_those_who_share_an_address(lesson: Class) -> None:
    """Posts and newcomers take turns of the address. Who was here before them has its own."""
    pupil = lesson.join("pupil", "=p", SCHOOL)
    lesson.operate("slow", seconds=30)
    lesson.now += 30.0
    assert (lesson.post("a", address=SCHOOL), lesson.post("b", address=SCHOOL)) == ("", "slow_mode")
    again = Participant(pupil.join, "=p", address=SCHOOL)
    lesson.room.connect(again)  # a takeover
    assert (lesson.say(again), lesson.say(again)) == ("", "slow_mode")
    new = lesson.join("new", "=n", SCHOOL)
    assert lesson.say(new) == "slow_mode"
    lesson.now += 29.0
    assert lesson.say(new) == "slow_mode"
    lesson.now += 1.0
    assert lesson.say(new) == ""


def test_a_change_of_slow_mode_lets_everyone_begin_anew(lesson: Class) -> None:
    """So it is off at once, and a repeat of what is in the log is no message."""
    lesson.operate("slow", seconds=30)
    bob = lesson.join("bob", "=b")
    log = lesson.room.log
    assert isinstance(log, MessageLog)
    assert lesson.say(bob) == ""
    log.append("bob", "hi", "", "7", "=b")
    assert lesson.say(bob) == "", "it has the same id"
    assert lesson.room.receive(bob, '{"type":"say","text":"b"}') == [
        Send(bob, Error("slow_mode", "slow mode: one message in 30 s here, wait 30 s"))
    ]
    for seconds in (60, 0):
        lesson.operate("slow", seconds=seconds)
        assert isinstance(lesson.room.receive(bob, '{"type":"say","text":"c"}')[0], Publish)


# -- lock, announce, topic --------------------------------------------------------


def test_a_locked_room_lets_back_who_was_there(lesson: Class) -> None:
    """A member's session and a kept name come back. Nobody else joins, listens or publishes."""
    bob = lesson.join("bob", "=b")
    lesson.operate("lock")
    assert not lesson.why_not("bob", "=b")
    lesson.room.disconnect(bob, 1006)
    assert not lesson.why_not("x", "=b")
    assert lesson.room.check_publish(JoinRequest("x", session="=b"), "") is None
    for name in ("bob", "eve", ""):
        assert lesson.why_not(name, "=e") == "locked"
    rejection = lesson.room.check_publish(JoinRequest("eve"), "")
    assert rejection is not None and rejection.error.code == "locked"
    assert lesson.room.check_publish(JoinRequest("eve", operator=True), "") is None
    lesson.now += 31.0
    assert lesson.why_not("bob", "=b") == "locked"


def test_a_room_that_was_dropped_is_still_locked(lesson: Class) -> None:
    """A room does not open itself when nobody is in it and it is made anew."""
    lesson.operate("lock")
    lesson.operate("topic", text="tea")
    lesson.room = lesson.open("lobby")
    assert lesson.why_not("eve") == "locked"
    assert lesson.room.control.mode == RoomMode("tea", locked=True)
    lesson.teacher = lesson.join("teacher", operator=True)
    lesson.operate("lock", on=False)
    lesson.operate("topic")
    assert not len(lesson.modes)


def test_announce_mode(lesson: Class) -> None:
    """Only operators write, in the room and by a post."""
    bob = lesson.join("bob", "=b")
    lesson.operate("announce")
    assert (lesson.say(bob), lesson.say(lesson.teacher)) == ("announce_only", "")
    rejection = lesson.room.check_publish(JoinRequest("x", session="=b"), "")
    assert rejection is not None and rejection.error.code == "announce_only"
    assert lesson.room.check_publish(JoinRequest("x", operator=True), "") is None
    lesson.operate("announce", on=False)
    assert lesson.say(bob) == ""


def test_silence_is_no_fault(lesson: Class) -> None:
    """A member that goes on writing is not closed for it, however often."""
    bob = lesson.join("bob", "=b")
    lesson.operate("mute", "bob")
    for line in ('{"type":"say","text":"hi"}', '{"type":"lock"}'):
        frame = "\n".join([*[line] * 50, "nonsense"])
        assert not closed(lesson.room.receive(bob, frame))
    assert bob in lesson.room


def test_an_act_that_changes_nothing_is_told_to_nobody_else(lesson: Class) -> None:
    """It is not noted either."""
    acts = (("lock", "", 0), ("announce", "", 0), ("topic", "tea", 0), ("slow", "", 9))
    for act, text, seconds in acts:
        assert len(lesson.operate(act, text=text, seconds=seconds)) == 2
        assert lesson.operate(act, text=f" {text}" if text else "", seconds=seconds) == [
            Send(lesson.teacher, OperatorEvent(act, "teacher", text=text, seconds=seconds))
        ]


def test_a_topic_over_the_limit_changes_nothing(lesson: Class) -> None:
    """The operator gets an error, and the topic stays."""
    lesson.operate("topic", text="tea")
    assert error(lesson.operate("topic", text="x" * 201)) == "bad_topic"
    assert lesson.room.control.mode.topic == "tea"


def test_the_number_of_modes_is_bounded(lesson: Class) -> None:
    """No mode is forgotten for a new one, and a room that has one can change it."""
    for number in range(MAX_ROOM_MODES):
        assert lesson.modes.set(f"room-{number}", RoomMode(locked=True))
    assert error(lesson.operate("lock")) == "too_many_modes"
    assert not lesson.room.control.mode.locked
    assert lesson.modes.set("room-7", RoomMode("tea", locked=True))
    assert lesson.modes.set("room-8", RoomMode())
    assert len(lesson.operate("lock")) == 2


def test_acts_are_limited_per_heartbeat(lesson: Class) -> None:
    """They wait in memory for who reads slowly, so even an operator has a limit."""
    for number in range(MAX_ACTS_PER_HEARTBEAT):
        lesson.operate("lock", on=number % 2 == 0)
    assert error(lesson.operate("lock")) == "too_often"
    lesson.room.reset_quotas()
    assert len(lesson.operate("lock")) == 2


class Elsewhere:
    """A roster without members of its own."""

    def __len__(self) -> int:
        return 0

    def names(self, limit: int) -> tuple[str, ...]:
        """Return nobody."""
        return ()

    def verified_names(self, limit: int) -> tuple[str, ...] | None:
        """Return nobody."""
        return None


def test_with_a_roster_the_store_carries_it_out() -> None:
    """The room only passes the request on, even if it knows of no members."""
    room = Room("lobby", MessageLog(), 100, roster=Elsewhere())
    teacher = Participant(JoinRequest("teacher", operator=True), "#t", "teacher")
    request = OperatorRequest("lock")
    assert room.operate(teacher, request) == [Operate(teacher, request)]
    pupil = Participant(JoinRequest("bob"), "#b", "bob")
    assert error(room.operate(pupil, request)) == "not_operator"
