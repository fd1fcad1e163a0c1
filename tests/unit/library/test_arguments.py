"""Arguments of another type: an error at once, which names the argument, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from broadcast_server import (
    BroadcastServer,
    ClientRoom,
    Message,
    Notice,
    PrivateMessage,
    connect,
    connect_sync,
    serve,
    serve_sync,
)
from broadcast_server.client.session import ClientSession
from broadcast_server.library.argument import check_seconds
from broadcast_server.library.errors import rejected, with_remedy
from broadcast_server.library.inbox import Inbox
from broadcast_server.protocol import messages as wire

KEY = "0123456789abcdef"
MESSAGE = Message("lobby", 1, "ann", "hi", "2026-11-24T13:00:00.123Z", own=False, epoch="ep")

OF_A_ROOM: list[tuple[str, Callable[[Any], object]]] = [
    ("text is of type bytes, not a string (decode it)", lambda room: room.send(b"x")),
    ("text is of type NoneType, not a string", lambda room: room.send(None)),
    ("text is of type list, not a string", lambda room: room.send(["x"])),
    ("to is of type bytes", lambda room: room.send_private(b"ann", "x")),
    ("to is of type NoneType", lambda room: room.send_private(None, "x")),
    ("text is of type bytearray", lambda room: room.send_private("ann", bytearray(b"x"))),
    ("name is of type bytes", lambda room: room.rename(b"x")),
    ("name is of type Message", lambda room: room.kick(MESSAGE)),
    ("on is of type object, not True or False", lambda room: room.mute("ann", object())),
    ("on is of type str", lambda room: room.lock("yes")),
    ("on is of type str", lambda room: room.announce("hello everyone")),
    ("text is of type bytes", lambda room: room.set_topic(b"x")),
    ("what is of type bool, not a string", lambda room: room.hide(True)),
    ("seconds is of type str, not a number of", lambda room: room.set_slow_mode("off")),
    ("seconds is of type bool, not a number of", lambda room: room.set_slow_mode(True)),
]

OF_A_SERVER: list[tuple[str, Callable[[Any], object]]] = [
    ("text is of type bytes", lambda server: server.broadcast("lobby", b"x")),
    ("text is of type int", lambda server: server.broadcast("lobby", 3)),
    ("room is of type bytes", lambda server: server.broadcast(b"lobby", "x")),
    ("name is of type bytes", lambda server: server.broadcast("lobby", "x", name=b"y")),
    ("name is of type NoneType", lambda server: server.kick("lobby", None)),
    ("room is of type NoneType", lambda server: server.kick(None, "ann")),
    ("by is of type bytes", lambda server: server.kick("lobby", "ann", by=b"x")),
    ("on is of type object", lambda server: server.mute("lobby", "ann", object())),
    ("on is of type int", lambda server: server.lock("lobby", 1)),
    ("on is of type str", lambda server: server.announce("lobby", "hello everyone")),
    ("text is of type bytes", lambda server: server.set_topic("lobby", b"x")),
    ("what is of type bytes", lambda server: server.hide("lobby", b"x")),
    ("seconds is of type NoneType", lambda server: server.set_slow_mode("lobby", None)),
]


def test_nothing_but_the_call_fails() -> None:
    """The connection, the room and the server go on, and the log has what was published."""
    with serve_sync(port=0, operator_key=KEY) as server:
        with connect_sync(server.url, name="bob", operator_key=KEY) as room:
            for owner, calls in ((room, OF_A_ROOM), (server, OF_A_SERVER)):
                for error, call in calls:
                    with pytest.raises(TypeError, match=f"^{re.escape(error)}"):
                        call(owner)
            assert room.send("still here", timeout=5).seq == 1
            assert server.broadcast("lobby", "and here").seq == 2
            assert [next(iter(room)).text for _ in range(2)] == ["still here", "and here"]
            assert not room.topic
        with connect_sync(server.url, name="eve", history=10) as room:
            assert [next(iter(room)).text for _ in range(2)] == ["still here", "and here"]


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"url": None}, "url is of type NoneType, not a string"),
        ({"url": b"ws://x"}, "url is of type bytes, not a string (decode it)"),
        ({"name": 1}, "name is of type int"),
        ({"room": b"ops"}, "room is of type bytes"),
        ({"token": b"s3cret"}, "token is of type bytes"),
        ({"operator_key": b"s3cret"}, "operator_key is of type bytes"),
        ({"cursor": 12}, "cursor is of type int"),
        ({"proxy": True}, "proxy is of type bool"),
        ({"quiet": "yes"}, "quiet is of type str, not True or False"),
        ({"history": "3"}, "history is of type str, not a whole number"),
        ({"history": True}, "history is of type bool"),
        ({"open_timeout": "5"}, "open_timeout is of type str, not a number of seconds"),
    ],
)
def test_parameters_of_connect(parameters: dict[str, Any], error: str) -> None:
    """Each is checked before anything is connected to, on both faces."""
    for face in (connect, connect_sync):
        with pytest.raises(TypeError, match=f"^{re.escape(error)}"):
            face(**parameters)


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"host": None}, "host is of type NoneType, not a string"),
        ({"log_sync": "yes"}, "log_sync is of type str"),
        ({"grace": "5"}, "grace is of type str, not a number of seconds"),
        ({"grace": None}, "grace is of type NoneType"),
        ({"token": b"s3cret"}, "token is of type bytes"),
        ({"operator_key": b"s3cret"}, "operator_key is of type bytes"),
    ],
)
def test_parameters_of_serve(parameters: dict[str, Any], error: str) -> None:
    """Each is checked before a port is opened, on both faces."""
    for face in (serve, serve_sync):
        with pytest.raises(TypeError, match=f"^{re.escape(error)}"):
            face(**parameters)


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), -0.001])
def test_seconds(value: float) -> None:
    """A time is finite and not in the past, wherever one is passed."""
    with pytest.raises(ValueError, match=r"^it is .*, must be 0 or more seconds$"):
        check_seconds("it", value)
    for face in (
        lambda: connect(open_timeout=value),
        lambda: serve(grace=value),
    ):
        with pytest.raises(ValueError, match="must be 0 or more seconds"):
            face()
    with serve_sync(port=0) as server, connect_sync(server.url) as room:
        for call in (
            lambda: room.receive(value),
            lambda: room.receive_event(value),
            lambda: room.send("x", value),
            lambda: room.rename("x", value),
        ):
            with pytest.raises(ValueError, match=r"^timeout is "):
                call()
        assert room.name == "anonymous"


def test_wrong_words_for_connect() -> None:
    """`with`, and iterating over it, say what to write instead."""
    room: Any = connect("ws://127.0.0.1:9/")
    with pytest.raises(TypeError, match=r"^connect is for `async with` \(use connect_sync"):
        with room:
            raise AssertionError
    with pytest.raises(TypeError, match=r"^connect is not an iterator \(use `async with connect"):
        aiter(room)


def test_what_is_printed() -> None:
    """A message is printed as in a pipe: each line has the author, and a terminal obeys nothing."""
    unsafe = "\x1b]0;owned\x07\x1b[2J\u202eone\nann: two\x9b31m"
    at = MESSAGE.at
    message = Message("lobby", 1, "bo\x1b[2Jb", unsafe, at, own=False, epoch="ep")
    assert str(message) == "bob: one\nbob: ann: two"
    assert f"{MESSAGE}" == "ann: hi"
    private = PrivateMessage("lobby", "bob", "ann", "hi\nyou", at, own=False)
    assert str(private) == "* bob to you, in private: hi\n* bob to you, in private: you"
    own = PrivateMessage("lobby", "bob", "ann", "hi", at, own=True)
    assert str(own) == "* you, in private to ann: hi"
    error = rejected("banned", unsafe)
    assert str(error) == "oneann: two (ask who runs the server)"
    assert with_remedy(unsafe, 4503) == "oneann: two (ask who runs the server)"
    inbox = Inbox(ClientSession("bob", None))
    inbox.receive([wire.Error("not_recording", unsafe)])
    assert inbox.take().event == Notice("lobby", "not_recording", "oneann: two")


def test_what_a_room_and_a_server_look_like() -> None:
    """Who they are is in their representation, for a log or a debugger."""
    with serve_sync(port=0) as server, connect_sync(server.url, name="bot") as room:
        assert repr(server) == f"<SyncBroadcastServer at {server.url}>"
        assert repr(room) == f"<SyncClientRoom 'lobby' as 'bot' at {server.url}>"
    assert (BroadcastServer.__repr__, ClientRoom.__repr__) != (object.__repr__,) * 2
