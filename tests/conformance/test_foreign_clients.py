"""Clients that others wrote: in one room, over restarts, each receives every message once.

The libraries connect once, except for `eventsource`. So each runs in a loop of a few lines that
connects again from the last number that it received.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen

import pytest
from programs import PATIENCE, ROOT, running, said, say, until
from restarted import Restarted
from services import SHARED_FOLDER

NODE = shutil.which("node")
NODE_FOLDER = ROOT / "tests" / "node"
MODULES = NODE_FOLDER / "node_modules"
GO = shutil.which("go")
GOPATH = Path("/usr/share/gocode")  # of Debian's golang-github-gorilla-websocket-dev

QUERY = "?room=foreign"
JSON = "broadcast.v1.json"
BATCH = 20
"""Messages that are published with all clients there, and again while they come back."""

EXAMPLES = ROOT / "examples"
BOTS = "node-bot", "go-bot"
"""The names of the examples, which answer each ping."""

RESTARTS = dict.fromkeys(("logged", "daphne"), (signal.SIGTERM, signal.SIGKILL))
"""The signals that end a server of each kind, one after the other."""


class Received(NamedTuple):
    """What a client received: how often it was welcomed, and all texts."""

    welcomes: int
    texts: list[str]


def parse(lines: list[str]) -> Received:
    """Read lines of JSON."""
    events = [json.loads(line) for line in lines]
    texts = [each["text"] for each in events if each["type"] == "message"]
    texts = [each for each in texts if each.isdecimal()]  # the bots talk as well
    return Received(sum(each["type"] == "welcome" for each in events), texts)


class Client:
    """A client that runs in a thread."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.since = ""
        self.stopping = threading.Event()
        self._epoch = ""
        self._lines: list[str] = []

    def target(self, path: str = "") -> str:
        """Return its address, with its cursor."""
        return f"{self.url}{path}{QUERY}{self.since}"

    def take(self, frame: str) -> None:
        """Keep the lines of a frame."""
        for line in frame.split("\n"):
            event = json.loads(line)
            self._epoch = event.get("epoch", self._epoch)
            if event["type"] == "message" or not self.since:
                self.since = f"&since={self._epoch}.{event['seq']}"
            self._lines.append(line)

    def received(self) -> Received:
        """Return what it received so far."""
        return parse(self._lines[:])

    def repeat(self, receive: Callable[[Client], None]) -> None:
        """Receive until it is stopped, over one connection after the other."""
        while not self.stopping.is_set():
            with suppress(Exception):  # each library has its own for a connection that ends
                receive(self)
            self.stopping.wait(0.2)


def use_websocket_client(client: Client) -> None:
    """Receive with websocket-client."""
    import websocket  # it may be missing

    connection = websocket.create_connection(client.target(), subprotocols=[JSON], timeout=0.5)
    assert connection.sock is not None
    with closing(connection.sock):  # which the library does not close if it was reset
        while not client.stopping.is_set():
            with suppress(websocket.WebSocketTimeoutException):
                frame = connection.recv()
                if not frame:
                    return
                client.take(str(frame))


def use_aiohttp(client: Client) -> None:
    """Receive with aiohttp."""
    import aiohttp  # it may be missing

    async def receive() -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(client.target(), protocols=[JSON]) as connection,
        ):
            while not client.stopping.is_set():
                with suppress(asyncio.TimeoutError):
                    message = await connection.receive(timeout=0.5)
                    if message.type is not aiohttp.WSMsgType.TEXT:
                        return
                    client.take(message.data)

    asyncio.run(receive())


def use_httpx_sse(client: Client) -> None:
    """Receive with httpx-sse, which drops a connection without events after a while."""
    import httpx  # it may be missing
    import httpx_sse

    target = client.target("stream").replace("ws", "http", 1)
    with (
        httpx.Client(timeout=httpx.Timeout(PATIENCE, read=3)) as http,
        httpx_sse.connect_sse(http, "GET", target) as source,
    ):
        for event in source.iter_sse():
            client.take(event.data)


@contextmanager
def in_thread(use: Callable[[Client], None], url: str) -> Iterator[Callable[[], Received]]:
    """Run a client in a thread, and return what returns what it received."""
    client = Client(url)
    thread = threading.Thread(target=client.repeat, args=[use])
    thread.start()
    yield client.received
    client.stopping.set()
    thread.join()


@contextmanager
def in_process(command: list[str], path: str, url: str) -> Iterator[Callable[[], Received]]:
    """Run a client that prints lines of JSON, and return what returns what it received."""
    address = url.replace("ws", "http", 1) if path else url
    with running(*command, f"{address}{path}{QUERY}") as program:
        yield lambda: parse(program.output.split("\n")[:-1])


@contextmanager
def wscat(url: str) -> Iterator[Callable[[], Received]]:
    """Run wscat, a text client, as often as it ends."""
    outputs: list[str] = []
    stopping = threading.Event()

    def received() -> Received:
        found = outputs[:]
        return Received(
            sum(" here: " in each for each in found), re.findall(r"ci: (\d+)", "".join(found))
        )

    def repeat() -> None:
        while not stopping.wait(0.2):
            with suppress(OSError):  # the server is away
                seq = len(re.findall(r"(?:ci|-bot): (?:\d|p)", "".join(outputs)))
                since = f"&since={epoch_of(url)}.{seq}"
                script = str(MODULES / "wscat" / "bin" / "wscat")
                # The answer to /who: nothing else tells a text client that it is there.
                options = "--no-color", "-x", "/who", "-w", "-1"
                command = [str(NODE), script, *options, "-c", f"{url}{QUERY}{since}"]
                outputs.append("")
                with running(*command) as program:
                    while program.process.poll() is None and not stopping.wait(0.05):
                        outputs[-1] = program.output
                    outputs[-1] = program.output

    thread = threading.Thread(target=repeat)
    thread.start()
    yield received
    stopping.set()
    thread.join()


def epoch_of(url: str) -> str:
    """Return the epoch of the room. Raises OSError if the server is away."""
    target = f"{url.replace('ws', 'http', 1)}stream{QUERY}&poll=1"
    with urlopen(target, timeout=PATIENCE) as answer:
        epoch: str = json.loads(answer.readline())["epoch"]
    return epoch


@contextmanager
def go_program(source: Path, *arguments: str) -> Iterator[Callable[[], Received]]:
    """Build a client in Go, and run it. All builds of this run share what they compile."""
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(os.environ[SHARED_FOLDER], "go")
        more = {"GO111MODULE": "off", "GOPATH": str(GOPATH), "GOCACHE": str(cache)}
        command = [str(GO), "build", "-o", f"{folder}/client", str(source)]
        subprocess.run(command, check=True, env={**os.environ, **more}, timeout=120)
        with running(f"{folder}/client", *arguments) as program:
            yield lambda: parse(program.output.split("\n")[:-1])


def gorilla(url: str) -> Any:
    """Run the client in Go."""
    return go_program(ROOT / "tests" / "go" / "gorilla.go", f"{url}{QUERY}")


def go_bot(url: str) -> Any:
    """Run the example in Go."""
    return go_program(EXAMPLES / "go_bot.go", url, "go-bot", "foreign")


@contextmanager
def node_bot(url: str) -> Iterator[Callable[[], Received]]:
    """Run the example for Node."""
    command = *node_with_websocket(), str(EXAMPLES / "node_bot.mjs")
    with running(*command, url, "node-bot", "foreign") as program:
        yield lambda: parse(program.output.split("\n")[:-1])


@cache
def node_with_websocket() -> list[str]:
    """Return the command of a Node that has a WebSocket of its own, empty if there is none."""
    for options in ([], ["--experimental-websocket"]) if NODE else ():
        command = [str(NODE), *options]
        probe = [*command, "-e", "process.exit(typeof WebSocket === 'undefined' ? 1 : 0)"]
        if subprocess.run(probe, check=False, capture_output=True, timeout=60).returncode == 0:
            return command
    return []


def missing(module: str) -> str:
    """Return why a client in Python is not tested, empty if its module is there."""
    return "" if importlib.util.find_spec(module) else f"{module} is not installed"


def missing_node(package: str) -> str:
    """Return why a client for Node is not tested, empty if it is there."""
    found = NODE and (MODULES / package).exists()
    return "" if found else "node is missing, or npm install --prefix tests/node"


HAS_GORILLA = GO and (GOPATH / "src" / "github.com" / "gorilla" / "websocket").exists()
WHY_NO_GORILLA = "" if HAS_GORILLA else "Go or gorilla/websocket is missing"
EVENT_SOURCE = [str(NODE), str(NODE_FOLDER / "event_source.mjs")]

CLIENTS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "websocket-client": (missing("websocket"), partial(in_thread, use_websocket_client)),
    "aiohttp": (missing("aiohttp"), partial(in_thread, use_aiohttp)),
    "httpx-sse": (missing("httpx_sse"), partial(in_thread, use_httpx_sse)),
    "ws": (missing_node("ws"), partial(in_process, [str(NODE), str(NODE_FOLDER / "ws.mjs")], "")),
    "eventsource": (missing_node("eventsource"), partial(in_process, EVENT_SOURCE, "stream")),
    "wscat": (missing_node("wscat"), wscat),
    "gorilla": (WHY_NO_GORILLA, gorilla),
    "node-bot": ("" if node_with_websocket() else "there is no Node 22, or 20.10", node_bot),
    "go-bot": (WHY_NO_GORILLA, go_bot),
}
"""Each client: why it cannot be tested here, empty if it can, and what runs it."""


class Outcome(NamedTuple):
    """What each client received, and all that was said in the room."""

    received: dict[str, Received]
    said: list[str]


@pytest.fixture(scope="module", params=RESTARTS)
def outcome(request: pytest.FixtureRequest) -> Outcome:
    """What became of all clients on each kind of server."""
    with ExitStack() as stack:
        server = Restarted(request.param, stack, ("--rate", "0"), BROADCAST_RATE="0")
        found: dict[str, Callable[[], Received]] = {}
        for client, (reason, run) in CLIENTS.items():
            if not reason:
                found[client] = stack.enter_context(run(server.url))
        published = 0

        def publish() -> None:
            nonlocal published
            say(server.url, "foreign", "ci", *map(str, range(published + 1, published + BATCH + 1)))
            published += BATCH

        def wait_for_all(what: str, holds: Callable[[Received], bool]) -> None:
            for client, read in found.items():
                until(partial(lambda read: holds(read()), read), f"{client}: {what}")

        wait_for_all("it has joined", lambda each: each.welcomes > 0)
        publish()
        wait_for_all("it has everything", lambda each: len(each.texts) == BATCH)
        bots = [each for each in BOTS if each in found]
        for number in RESTARTS[request.param]:
            say(server.url, "foreign", "ci", *(f"ping {number:d}.{each}" for each in range(BATCH)))
            server.stop(number)  # while the bots answer
            server.start()
            publish()  # before all are back
            wait_for_all("it has resumed", lambda each: len(each.texts) >= published)
            publish()
            wait_for_all("it goes on", lambda each: len(each.texts) >= published)
        pings = BATCH * len(RESTARTS[request.param])
        for bot in bots:
            until(partial(has_answered, server.url, bot, pings), f"{bot}: it has answered")
        return Outcome(
            {client: read() for client, read in found.items()}, said(server.url, "foreign")
        )


def has_answered(url: str, bot: str, pings: int) -> bool:
    """Tell whether *bot* has answered as many pings."""
    return sum(each.startswith(f"{bot}: pong") for each in said(url, "foreign")) >= pings


@pytest.mark.parametrize("client", CLIENTS)
def test_a_foreign_client_receives_every_message_once(outcome: Outcome, client: str) -> None:
    """It receives every message, in order and once, over all restarts."""
    reason = CLIENTS[client][0]
    if reason:
        pytest.skip(reason)
    texts = outcome.received[client].texts
    assert texts == [str(number) for number in range(1, len(texts) + 1)]
    assert len(texts) >= 3 * BATCH


@pytest.mark.parametrize("bot", BOTS)
def test_a_bot_answers_each_message_once(outcome: Outcome, bot: str) -> None:
    """The examples answer what they missed, and resend what was not confirmed, over restarts."""
    reason = CLIENTS[bot][0]
    if reason:
        pytest.skip(reason)
    pings = [each.removeprefix("ci: ping") for each in outcome.said if "ci: ping" in each]
    pongs = [each.removeprefix(f"{bot}: pong") for each in outcome.said if f"{bot}: p" in each]
    assert pongs == pings
    assert len(pings) == len({*pings}) == 2 * BATCH
