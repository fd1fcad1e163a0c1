"""The library's client without asyncio: `connect_sync`."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from itertools import islice

import pytest
from programs import PATIENCE, running, until

from broadcast_server import (
    ConnectError,
    Joined,
    Left,
    Members,
    Message,
    MessageTooLongError,
    OperatorAct,
    RejectedError,
    RoomClosedError,
    ServeError,
    SyncClientRoom,
    connect_sync,
    serve_sync,
)
from broadcast_server.library.sync_client_room import _Receipt


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The address of a server for all tests, each of which uses its own room."""
    with serve_sync(port=0, rate=0, grace=1) as server:
        yield server.url


def threads() -> set[str]:
    """Return the names of all threads but those that resolve names."""
    return {each.name for each in threading.enumerate() if each.name == "broadcast_server"}


def test_a_conversation(url: str) -> None:
    """Two clients in one thread: what one sends, the other receives, and events are in order."""
    with connect_sync(url, name="ann", room="talk") as ann:
        with connect_sync(url, name="ann", room="talk") as other:
            assert (ann.name, other.name, ann.room) == ("ann", "ann-2", "talk")
            sent = ann.send("hi")
            assert (sent.seq, sent.own) == (1, True)
            received = other.receive(timeout=10)
            assert (received.text, received.own) == ("hi", False)
            assert other.cursor == sent.cursor
            assert other.rename("bob") == "bob"
            assert (other.members, other.member_count) == (("ann", "bob"), 2)
            assert ann.connected
        kinds = []
        for event in ann.events():
            kinds.append(type(event))
            if isinstance(event, Left):
                break
        assert kinds[:3] == [Members, Joined, Message]
        with pytest.raises(MessageTooLongError):
            ann.send("x" * 40_000)
        ann.send("a")
        ann.send("b")
        found = []
        for message in ann:
            found.append(message.text)
            if message.text == "b":
                break
        assert found == ["a", "b"]


def test_time_limits() -> None:
    """A wait ends in time, and takes no message with it."""
    with serve_sync(port=0) as server, connect_sync(server.url) as room:
        with pytest.raises(TimeoutError, match="nothing came in time"):
            room.receive(timeout=0.01)
        room.send("kept")
        assert room.receive(timeout=0).text == "kept"
        server.stop()
        with pytest.raises(TimeoutError, match=r"not confirmed within 0\.05 s \("):
            room.send("lost", timeout=0.05)
        for call in (
            lambda: room.rename("ann", timeout=0.05),
            lambda: room.kick("ann", timeout=0.05),
            lambda: room.mute("ann", timeout=0.05),
            lambda: room.lock(timeout=0.05),
            lambda: room.announce(timeout=0.05),
            lambda: room.set_topic("x", timeout=0.05),
            lambda: room.set_slow_mode(1, timeout=0.05),
            lambda: room.hide(1, timeout=0.05),
            lambda: room.ban("x", timeout=0.05),
        ):
            with pytest.raises(TimeoutError, match=r"^there was no answer within 0\.05 s"):
                call()


def test_the_end(url: str) -> None:
    """Closing ends the thread, and whoever waits in another one."""
    before = threads()
    room = connect_sync(url, room="end")
    result: list[object] = []

    def receive() -> None:
        result.extend(room)
        with pytest.raises(RoomClosedError):
            room.send("x")
        result.append("ended")

    waiting = threading.Thread(target=receive)
    waiting.start()
    room.close()
    room.close()
    waiting.join(PATIENCE)
    assert result == ["ended"]
    for call in (room.receive, lambda: room.send("x"), lambda: room.rename("x")):
        with pytest.raises(RoomClosedError, match="call connect_sync again"):
            call()
    assert threads() == before
    with pytest.raises(ConnectError):
        connect_sync("ws://127.0.0.1:9/")
    with pytest.raises(ValueError, match="scheme is ftp"):
        connect_sync("ftp://x")
    assert threads() == before


def test_several_threads_send(url: str) -> None:
    """Any thread may send: each message is published once."""
    with connect_sync(url, room="many") as room:
        senders = [threading.Thread(target=send_ten, args=(room,)) for _ in range(4)]
        for each in senders:
            each.start()
        for each in senders:
            each.join(PATIENCE)
        assert [room.receive(timeout=10).seq for _ in range(40)] == [*range(1, 41)]


def send_ten(room: SyncClientRoom) -> None:
    """Send ten messages."""
    for number in range(10):
        room.send(str(number))


def test_an_interrupted_wait_puts_its_message_back(url: str) -> None:
    """If Ctrl+C comes when the message was taken already, the next one who receives gets it."""
    with connect_sync(url, room="back") as room:
        room.send("one")
        assert isinstance(room.receive_event(timeout=10), Members)
        before = room.cursor
        for _ in range(2):
            receipt = _Receipt(room._core, None)
            room._thread.run(receipt.take)
            assert isinstance(receipt.event, Message) and room.cursor == receipt.event.cursor
            room._thread.call_soon(receipt.abandon)
            until(lambda: room.cursor == before)
        receipt = _Receipt(room._core, None)
        room._thread.run(receipt.take)
        found: list[Message] = []
        waiting = threading.Thread(target=lambda: found.append(room.receive(timeout=10)))
        waiting.start()
        until(lambda: room._core._is_receiving)
        room._thread.call_soon(receipt.abandon)
        waiting.join(PATIENCE)
        assert [each.text for each in found] == ["one"]
        late = _Receipt(room._core, None)
        late.abandon()  # before it has begun
        room._thread.run(late.take)
        assert late._item is None


INTERRUPTED = """\
import sys
from broadcast_server import connect_sync
with connect_sync(sys.argv[1], name="bot", room="interrupted") as room:
    print("here", flush=True)
    try:
        for message in room:
            print(message.text, flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    print(room.receive(timeout=60).text, flush=True)
"""


def test_ctrl_c(url: str) -> None:
    """Ctrl+C ends a wait at once, and the room can be used further."""
    with running(sys.executable, "-W", "error", "-c", INTERRUPTED, url) as program:
        until(lambda: program.lines == ["here"])
        with connect_sync(url, room="interrupted") as room:
            room.send("one")
            until(lambda: program.lines[-1] == "one")
            program.process.send_signal(signal.SIGINT)
            until(lambda: program.lines[-1] == "interrupted")
            room.send("two")
            assert program.wait() == 0
            assert program.lines == ["here", "one", "interrupted", "two"]
            until(lambda: room.members == (room.name,))


def test_a_server_in_a_thread() -> None:
    """`serve_sync` is what a test without asyncio needs, and leaves no thread."""
    before = threading.active_count()
    with serve_sync(port=0) as server, connect_sync(server.url, room="ops", name="ann") as room:
        assert server.rooms["ops"].members == ("ann",)
        said = server.broadcast("ops", "hi", name="ci")
        assert room.receive(timeout=10).seq == said.seq == 1
        server.hide("ops", said.seq)
        server.set_slow_mode("ops", 9)
        server.set_topic("ops", "tests")
        server.lock("ops")
        server.announce("ops")
        server.mute("ops", "ann", by="ci")
        until(lambda: (room.slow_mode, room.topic) == (9, "tests"), "the topic")
        server.lock("ops", False)
        server.announce("ops", False)
        server.mute("ops", "ann", False)
        acts = [event for event in islice(room.events(), 10) if isinstance(event, OperatorAct)]
        assert [(each.act, each.by, each.on) for each in acts] == [
            ("hide", "server", True),
            ("slow", "server", True),
            ("topic", "server", True),
            ("lock", "server", True),
            ("announce", "server", True),
            ("mute", "ci", True),
            ("lock", "server", False),
            ("announce", "server", False),
            ("mute", "server", False),
        ]
        with pytest.raises(RejectedError, match="nobody here has the name bob"):
            server.kick("ops", "bob")
        with pytest.raises(ServeError, match="address already in use"):
            serve_sync(port=int(server.url.rpartition(":")[2].rstrip("/")))
        with pytest.raises(ValueError, match="rate is -1"):
            serve_sync(rate=-1)
        with pytest.raises(MessageTooLongError):
            server.broadcast("ops", "x" * 40_000)
    server.stop()
    assert dict(server.rooms) == {}
    with pytest.raises(RoomClosedError, match="call serve_sync again"):
        server.broadcast("ops", "late")
    assert threading.active_count() == before
