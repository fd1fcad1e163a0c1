"""Event sources of browsers and of Node: none misses a message, in whatever trouble.

One room for all of them: at first the server is full, then it is quiet, then it stops while a
member holds it up, and messages are published before anyone is back. Chromium keeps the id of an
event without data, and Firefox and Node's `eventsource` drop it.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest
from browsing import CHROMIUM, FLAGS, sync_api
from event_source import EventSource
from programs import PATIENCE, ROOT, running, say, until
from restarted import Restarted
from websockets.sync.client import connect

NODE_FOLDER = ROOT / "tests" / "node"
FIREFOX = shutil.which("firefox") or shutil.which("firefox-esr")
NODE = shutil.which("node")
HAS_PACKAGES = (NODE_FOLDER / "node_modules" / "eventsource").exists()

CLIENTS = {
    "strict": "",
    "chromium": "" if CHROMIUM else "there is no chromium here",
    "firefox": "" if FIREFOX else "there is no firefox here",
    "node": "" if NODE and HAS_PACKAGES else "node is missing, or npm install --prefix tests/node",
}
"""Each client, and why it cannot be tested here, empty if it can."""

Events = list[dict[str, Any]]

START = """(url) => {
    window.events = [];
    const source = new EventSource(url);
    source.onmessage = ({data}) => events.push(JSON.parse(data));
    source.onerror = () => source.readyState === EventSource.CLOSED && events.push({type: "dead"});
}"""


@contextmanager
def strict(url: str, target: str) -> Iterator[Callable[[], Events]]:
    """Run an event source of ours, and return what returns its events."""
    source = EventSource(target)
    loop = asyncio.new_event_loop()
    task = loop.create_task(source.run(url))
    thread = threading.Thread(target=lambda: loop.run_until_complete(asyncio.wait({task})))
    thread.start()
    yield lambda: [*source.events, *([{"type": "dead"}] if task.done() else [])]
    loop.call_soon_threadsafe(task.cancel)
    thread.join()
    loop.close()


@contextmanager
def chromium(url: str, target: str) -> Iterator[Callable[[], Events]]:
    """Open an event source in Chromium, and return what returns its events."""
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        page = launched.new_page()
        page.goto(f"{url}/healthz")
        page.evaluate(START, target)
        yield lambda: list(page.evaluate("events"))
        launched.close()


@contextmanager
def firefox(url: str, target: str) -> Iterator[Callable[[], Events]]:
    """Open an event source in Firefox, by WebDriver BiDi, and return what returns its events."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, ExitStack() as stack:
        options = f"--headless --no-remote --remote-debugging-port=0 --profile {folder}"
        program = stack.enter_context(running(str(FIREFOX), *options.split()))
        until(lambda: "BiDi listening on " in program.errors, "Firefox")
        address = program.errors.partition("BiDi listening on ")[2].split()[0]
        wire = stack.enter_context(connect(f"{address}/session", proxy=None, max_size=None))

        def call(method: str, **parameters: Any) -> dict[str, Any]:
            wire.send(json.dumps({"id": 1, "method": method, "params": parameters}))
            while "id" not in (reply := json.loads(wire.recv(PATIENCE))):
                pass  # an event
            assert reply["type"] == "success", reply
            result: dict[str, Any] = reply["result"]
            return result

        def evaluate(code: str) -> dict[str, Any]:
            target = {"context": context}
            return call("script.evaluate", expression=code, target=target, awaitPromise=False)

        call("session.new", capabilities={})
        context = call("browsingContext.getTree")["contexts"][0]["context"]
        call("browsingContext.navigate", context=context, url=f"{url}/healthz", wait="complete")
        evaluate(f"({START})({json.dumps(target)})")
        yield lambda: json.loads(evaluate("JSON.stringify(events)")["result"]["value"])


@contextmanager
def node(url: str, target: str) -> Iterator[Callable[[], Events]]:
    """Run an event source of Node, and return what returns its events."""
    with running(str(NODE), str(NODE_FOLDER / "event_source.mjs"), url + target) as program:
        yield lambda: [json.loads(line) for line in program.output.split("\n")[:-1]]


class Sleepers:
    """Members that take places of a server, and answer no close."""

    def __init__(self, url: str, count: int) -> None:
        parts = urlsplit(url)
        lines = (
            "GET /?room=asleep HTTP/1.1",
            f"Host: {parts.netloc}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==",
        )
        self._sockets = []
        for _ in range(count):
            connection = socket.create_connection((parts.hostname, parts.port), PATIENCE)
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            assert connection.recv(99).startswith(b"HTTP/1.1 101 ")
            self._sockets.append(connection)

    def leave(self) -> None:
        """Reset the connections."""
        for connection in self._sockets:
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            connection.close()


def play(kind: str) -> dict[str, Events]:
    """Return the events that each client received."""
    present = [client for client, reason in CLIENTS.items() if not reason]
    places = len(present) + 1
    with ExitStack() as stack:
        limit = {"BROADCAST_MAX_CLIENTS": str(places)}
        server = Restarted(kind, stack, ("--max-clients", str(places)), **limit)
        sleepers = Sleepers(server.url, places)
        target, url = "/stream?room=quiet", server.url.replace("ws", "http", 1).rstrip("/")
        start = {"strict": strict, "chromium": chromium, "firefox": firefox, "node": node}
        found = {client: stack.enter_context(start[client](url, target)) for client in present}

        def wait_until(holds: Callable[[Events], bool], what: str) -> None:
            for client, read in found.items():
                until(partial(lambda read: holds(read()), read), f"{client}: {what}")

        wait_until(lambda each: "full" in codes(each), "the server is full")
        sleepers.leave()
        wait_until(has_joined, "it is in the room")
        sleepers = Sleepers(server.url, 1)
        server.send_signal(signal.SIGTERM)
        # The stream ends, and the next attempt is rejected: Daphne does not listen so long.
        times = 2 if kind == "logged" else 1
        wait_until(lambda each: codes(each).count("stopping") >= times, "the server stops")
        sleepers.leave()
        server.wait(signal.SIGTERM)
        server.start()
        say(server.url, "quiet", "ci", "one", "two")
        wait_until(lambda each: texts(each) == ["one", "two"], "it is back")
        say(server.url, "quiet", "ci", "three")
        wait_until(lambda each: len(texts(each)) == 3, "it stays")
        return {client: read() for client, read in found.items()}


def has_joined(events: Events) -> bool:
    """Return whether there is a welcome among *events*."""
    return any(each["type"] == "welcome" for each in events)


def codes(events: Events) -> list[str]:
    """Return the codes of all errors among *events*."""
    return [each["code"] for each in events if each["type"] == "error"]


def texts(events: Events) -> list[str]:
    """Return the messages among *events*."""
    return [each["text"] for each in events if each["type"] == "message"]


@pytest.fixture(scope="module", params=["logged", "daphne"])
def received(request: pytest.FixtureRequest) -> dict[str, Events]:
    """The events that each client received from each kind of server."""
    return play(request.param)


@pytest.mark.parametrize("client", CLIENTS)
def test_an_event_source_misses_nothing(received: dict[str, Events], client: str) -> None:
    """It waits for a full server, and resumes after a restart where it was in a quiet room."""
    if CLIENTS[client]:
        pytest.skip(CLIENTS[client])
    events = received[client]
    assert texts(events) == ["one", "two", "three"]
    welcomes = [each for each in events if each["type"] == "welcome"]
    assert [each["recovered"] for each in welcomes[1:]] == [True] * (len(welcomes) - 1)
    assert "dead" not in [each["type"] for each in events]
