"""The page against a simulated server, and the parts of its script."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from browsing import Open, Tab
from programs import until

from broadcast_server.http.chat_page import chat_page

RECORD_PROTOCOLS = """() => {
    const Socket = window.WebSocket;
    window.WebSocket = class extends Socket {
        constructor(url, protocols) { super(url, protocols); window.offered = protocols; }
    };
}"""
"""Keeps the subprotocols that the page has offered last, as ``offered``."""


class Player:
    """A simulated server: accepts the page's WebSockets and sends what the test says."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        self.sockets: list[Any] = []
        self.frames: list[list[dict[str, Any]]] = []
        tab.page.route_web_socket(re.compile("^ws:"), self._accept)
        tab.page.add_init_script(f"({RECORD_PROTOCOLS})()")

    def _accept(self, socket: Any) -> None:
        requests: list[dict[str, Any]] = []
        self.sockets.append(socket)
        self.frames.append(requests)
        socket.on_message(lambda frame: requests.extend(map(json.loads, frame.split("\n"))))

    def query(self) -> dict[str, str]:
        """Return the query of the last socket."""
        return dict(parse_qsl(urlsplit(self.sockets[-1].url).query))

    def session(self) -> str:
        """Return the session of the last socket, which is in a subprotocol and not in its URL."""
        (offered,) = self.tab.js("offered.filter((each) => each.startsWith('session.'))")
        session: str = offered.removeprefix("session.")
        assert re.fullmatch("[0-9a-v]{32}", session) and session not in self.sockets[-1].url
        return session

    def send(self, *events: dict[str, Any]) -> None:
        """Send a frame on the last socket."""
        self.sockets[-1].send("\n".join(map(json.dumps, events)))

    def welcome(self, seq: int, *replay: dict[str, Any], sockets: int = 1, **more: Any) -> None:
        """Wait until the page has opened *sockets* sockets; send a welcome, and answer its ping."""
        until(lambda: self.tab.js("1") and len(self.sockets) == sockets, "a socket")
        fields = {"room": "ops", "name": "alice", "epoch": "e", "recovered": True, "missed": 0}
        here = {"count": 1, "members": ["alice"]}
        self.send({"type": "welcome", "seq": seq, **fields, **here, **more}, *replay)
        until(lambda: self.tab.js("1") and self.frames[-1], "a ping")
        self.send({"type": "pong", "id": self.frames[-1].pop(0)["id"]})

    def says(self) -> list[tuple[str, str]]:
        """Return the messages that the page sent on the last socket, with their ids."""
        return [(each["text"], each["id"]) for each in self.frames[-1] if each["type"] == "say"]


def message(seq: int, name: str = "bob", **more: Any) -> dict[str, Any]:
    """Make a message event."""
    at = "2026-11-24T13:00:00.123Z"
    return {"type": "message", "seq": seq, "name": name, "text": f"t{seq}", "at": at, **more}


@pytest.fixture
def play(here: str, tab: Open) -> Player:
    """A page that is about to connect to the simulated server."""
    alice = tab(here)
    player = Player(alice)
    alice.page.reload()
    alice.type("alice")
    return player


def part(begin: str, end: str) -> str:
    """Return the part of the script between two headings."""
    text = chat_page().html.decode()
    return text[text.index(f"// -- {begin}") : text.index(f"// -- {end}")]
