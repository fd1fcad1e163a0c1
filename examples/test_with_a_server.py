"""A test of a bot against a real server. Copy the fixture: it needs no plugin."""

from collections.abc import Iterator

import pytest

from broadcast_server import SyncBroadcastServer, connect_sync, serve_sync


@pytest.fixture
def server() -> Iterator[SyncBroadcastServer]:
    """A server on a free port."""
    with serve_sync(port=0) as server:
        yield server


def test_the_others_hear_it(server: SyncBroadcastServer) -> None:
    """What one client sends, another one receives, and both are in the room meanwhile."""
    with connect_sync(server.url, name="ann", room="ops") as ann:
        with connect_sync(server.url, name="bob", room="ops") as bob:
            assert server.rooms["ops"].members == ("ann", "bob")
            sent = bob.send("hello")
        assert ann.receive(timeout=10).text == "hello"
        assert sent.seq == 1
