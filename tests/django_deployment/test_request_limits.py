"""The limits of requests in the Django deployment: nothing of a body is kept, and none is slow."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import django_client  # noqa: F401  # it sets Django up
import pytest
from conftest import DAPHNE, UVICORN
from daphne import http_protocol
from daphne import server as daphne_server
from django_client import begin_http_request, http_request, run_async
from programs import PATIENCE, Running, listening, running
from services import site_folder
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from broadcast_server.http.upload_budget import UploadBudget
from broadcast_server.protocol.messages import limit_text
from django_site.transport import daphne_limits, request_body
from django_site.transport.daphne_limits import LimitedFactory
from django_site.transport.request_body import MAX_FORM_BYTES, max_request_body

LONG = 32771
"""One byte more than a body for a room may have: the longest message, and a line break."""


# -- which limit --


@pytest.mark.parametrize(
    ("method", "path", "limit"),
    [
        ("POST", "/", LONG - 1),
        ("POST", "/any/prefix/", LONG - 1),
        ("POST", "/nowhere", LONG - 1),
        ("POST", "/accounts/login/", MAX_FORM_BYTES),
        ("POST", "/admin/django_site/room/", MAX_FORM_BYTES),
        ("GET", "/accounts/login/", LONG - 1),
        ("GET", "/healthz", LONG - 1),
        ("OPTIONS", "*", LONG - 1),
    ],
)
def test_only_forms_have_long_bodies(method: str, path: str, limit: int) -> None:
    """A form may be longer than a message, and everything else may not."""
    assert max_request_body(method, path) == limit


def test_the_oldest_upload_is_cut() -> None:
    """The budget is for all uploads, and the one that has waited longest loses."""
    budget: UploadBudget[str] = UploadBudget(10)
    assert budget.add("a", 4) == budget.add("b", 4) == []
    assert budget.add("a", 2) == []
    assert budget.add("c", 3) == ["a"]
    budget.remove("a")
    assert budget.add("c", 3) == []
    assert budget.add("d", 10) == ["b", "c"]
    budget.remove("d")
    assert budget.add("e", 10) == []


# -- under any server --


def test_a_body_reaches_django_in_one_piece() -> None:
    """Django gets a form as it was sent, however many parts it came in, and nothing longer."""
    form = b"username=nobody&password=" + b"x" * 5000

    async def part() -> None:
        length = (b"content-length", str(len(form)).encode())
        type = (b"content-type", b"application/x-www-form-urlencoded")
        client = begin_http_request("POST", "/accounts/login/", length, type)
        for at in range(0, len(form), 1000):
            more = at + 1000 < len(form)
            piece = {"type": "http.request", "body": form[at : at + 1000], "more_body": more}
            await client.send_input(piece)
        assert (await client.receive_output(timeout=10))["status"] == 403  # no CSRF token
        while (await client.receive_output(timeout=10)).get("more_body", False):
            pass
        await client.wait(timeout=10)
        long = b"x" * (MAX_FORM_BYTES + 1)
        status, text = await http_request("POST", "/accounts/login/", body=long)
        words = f"body is {MAX_FORM_BYTES + 1} bytes, limit is {MAX_FORM_BYTES}\n"
        assert (status, text) == (413, words)
        status, text = await http_request("GET", "/healthz", body=b"x" * LONG)
        assert (status, text) == (413, "body is 32771 bytes, limit is 32770\n")
        assert (await http_request("GET", "/healthz", body=b"x" * (LONG - 1)))[0] == 200

    run_async(part)


CODECS = [
    "hex", "rot13", "base64", "zlib", "bz2", "uu", "quopri", "undefined", "idna", "punycode",
    "utf-7", "utf-16", "unicode_escape", "raw_unicode_escape", "cp037", "none", "\xff", "\0",
    "latin-1", "",
]  # fmt: skip
"""Charsets that a form may declare: codecs of Python that decode no text or anything but UTF-8, and
names of none."""


@pytest.mark.parametrize("codec", CODECS)
def test_no_charset_breaks_a_form(codec: str) -> None:
    """A form is UTF-8, whatever it declares; a parameter with a charset of its own may be none."""
    name = "Zoë"
    plain = urlencode({"username": name}).encode()
    disposition = 'Content-Disposition: form-data; name="username"'
    declared = f"Content-Type: text/plain; charset={codec}"

    def part(*headers: str) -> bytes:
        lines = "\r\n".join(headers)
        return f"--b\r\n{lines}\r\n\r\n{name}\r\n--b--\r\n".encode()

    forms = [
        (f"application/x-www-form-urlencoded; charset={codec}", plain),
        (f"multipart/form-data; boundary=b; charset={codec}", part(disposition)),
        (f'multipart/form-data; boundary=b; charset="{codec}"', part(disposition)),
        (f"multipart/form-data; charset*={codec}''%ff; boundary=b", part(disposition)),
        (f"multipart/form-data; x*={codec}''%ff; boundary=b", part(disposition)),
        (f"multipart/form-data; boundary*={codec}''b", part(disposition)),
        ("multipart/form-data; boundary=b", part(f"{disposition}; x*={codec}''%ff")),
        ("multipart/form-data; boundary=b", part(f"{disposition}; filename*={codec}''%ff")),
        ("multipart/form-data; boundary=b", part(disposition, declared)),
        ("multipart/form-data; boundary=b", part(f"{disposition}; filename=f", declared)),
        (f"text/plain; x*={codec}''%ff", b""),
    ]
    cookie = (b"cookie", b"csrftoken=" + b"a" * 32)
    token = (b"x-csrftoken", b"a" * 32)

    async def send() -> None:
        for type, body in forms:
            header = (b"content-type", type.encode("latin-1"))
            for method in ("POST", "GET"):
                status, text = await http_request(
                    method, "/accounts/login/", cookie, token, header, body=body
                )
                assert status in (200, 400), (method, type, body)
                if "charset=" in type and type.isascii() and "\0" not in type and method == "POST":
                    assert f'value="{name}"' in text, type

    run_async(send)


def test_an_upload_that_is_slow_or_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that does not arrive gets 408, and the oldest of too many gets 503."""
    monkeypatch.setattr(request_body, "BODY_TIMEOUT_S", 0.05)

    async def slow(path: str) -> int:
        client = begin_http_request("POST", path, (b"content-length", b"9"))
        await client.send_input({"type": "http.request", "body": b"x", "more_body": True})
        status: int = (await client.receive_output(timeout=10))["status"]
        return status

    async def part() -> None:
        for path in ("/accounts/login/", "/nowhere", "/?room=slow"):
            assert await slow(path) == 408
        monkeypatch.setattr(request_body, "BODY_TIMEOUT_S", 20)
        monkeypatch.setattr(request_body._budget, "_max_bytes", 1)
        for path in ("/accounts/login/", "/nowhere", "/?room=slow"):
            waiting = asyncio.ensure_future(slow(path))
            while not request_body._budget._held:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            newer = begin_http_request("POST", "/nowhere", (b"content-length", b"9"))
            await newer.send_input({"type": "http.request", "body": b"x", "more_body": True})
            assert await waiting == 503
            await newer.send_input({"type": "http.disconnect"})
            await newer.wait(timeout=10)
        assert not request_body._budget._held

    run_async(part)


# -- Daphne --


class Connection:
    """A connection to Daphne's protocol in this process, with a clock that a test advances."""

    def __init__(self, factory: LimitedFactory, clock: Clock) -> None:
        self.transport: Any = Transport()  # type: ignore[no-untyped-call]
        self.protocol = factory.buildProtocol(None)
        self.protocol.callLater = clock.callLater
        self.protocol.makeConnection(self.transport)

    def send(self, text: str) -> str:
        """Receive bytes from the client. Return what it has been sent so far."""
        self.protocol.dataReceived(text.encode())
        return self.received

    @property
    def received(self) -> str:
        """What the client has been sent."""
        return str(self.transport.value().decode())


class Transport(StringTransport):
    """A transport that notes how it was closed."""

    half_closed = aborted = False

    def loseWriteConnection(self) -> None:  # noqa: N802  # Twisted's name
        self.half_closed = True

    def abortConnection(self) -> None:  # noqa: N802  # Twisted's name
        self.aborted = True


@pytest.fixture
def clock() -> Clock:
    """The time of a factory."""
    return Clock()


@pytest.fixture
def factory() -> Iterator[LimitedFactory]:
    """Daphne's factory, whose application keeps each request waiting."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    server = daphne_server.Server(app, endpoints=["tcp:port=0"])
    server.connections = {}
    factory = LimitedFactory(server)
    yield factory
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    asyncio.set_event_loop(None)
    loop.close()


def apps(factory: LimitedFactory) -> int:
    """Return how many requests have reached the application."""
    return sum("application_instance" in each for each in factory.server.connections.values())


def test_daphne_rejects_a_long_body(factory: LimitedFactory, clock: Clock) -> None:
    """The rest is dropped, nothing is kept, and the application never hears of it."""
    connection = Connection(factory, clock)
    head = (
        "GET /healthz HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 32771\r\n\r\n"
    )
    answer = connection.send(head + "x" * 32771 + "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith("HTTP/1.1 413 ") and answer.count("HTTP/1.1") == 1
    assert answer.endswith("\r\n\r\nbody is 32771 bytes, limit is 32770\n")
    assert connection.transport.half_closed and not connection.transport.aborted
    clock.advance(daphne_limits.LINGER_S)
    assert connection.transport.aborted
    assert connection.send("x" * 32771) == answer
    assert apps(factory) == 0 and not factory.uploads._held


@pytest.mark.parametrize("codec", ["undefined", "idna"])
def test_daphne_leaves_a_form_to_django(factory: LimitedFactory, clock: Clock, codec: str) -> None:
    """A form that cannot be parsed reaches the application, which rejects it with a response."""
    connection = Connection(factory, clock)
    type = f"multipart/form-data; x*={codec}''%ff; boundary=b"
    head = f"POST /accounts/login/ HTTP/1.1\r\nHost: x\r\nContent-Type: {type}\r\n"
    assert connection.send(f"{head}Content-Length: 9\r\n\r\n--b\r\n\r\nxx") == ""
    assert apps(factory) == 1 and not connection.transport.disconnecting


def test_daphne_counts_chunks(factory: LimitedFactory, clock: Clock) -> None:
    """A body in chunks is rejected when it is too long, in the words for a message."""
    connection = Connection(factory, clock)
    connection.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = "4000\r\n" + "x" * 2**14 + "\r\n"
    assert connection.send(chunk) == connection.send(chunk) == ""
    answer = connection.send("3\r\nabc\r\n0\r\n\r\n")
    assert answer.startswith("HTTP/1.1 413 ")
    assert answer.endswith(f"message is more than 32770 bytes, {limit_text(32768)}\n")
    assert apps(factory) == 0 and not factory.uploads._held


LONG_VALUE = "x" * 20_000


@pytest.mark.parametrize(
    ("head", "arrives"),
    [
        (f"GET / HTTP/1.1\r\nHost: x\r\nCookie: {LONG_VALUE}\r\n\r\n", 1),
        (f"GET / HTTP/1.1\r\nHost: x\r\nCookie: {LONG_VALUE}\r\n\r\n", 1000),
        (f"GET /{LONG_VALUE} HTTP/1.1\r\nHost: x\r\n\r\n", 1),
        (f"GET / HTTP/1.1\r\nHost: x\r\nCookie: {LONG_VALUE}", 1000),
        ("GET / HTTP/1.1\r\nHost: x\r\n" + f"Cookie: {LONG_VALUE[:5000]}\r\n" * 4 + "\r\n", 1),
        (f"POST / HTTP/1.1\r\nHost: x\r\nCookie: {LONG_VALUE}\r\nContent-Length: 2\r\n\r\nhi", 1),
    ],
)
def test_daphne_answers_a_long_head(
    head: str, arrives: int, factory: LimitedFactory, clock: Clock
) -> None:
    """A head that is too long gets one response, however it arrives, and no request is made."""
    connection = Connection(factory, clock)
    size = -(-len(head) // arrives)
    for start in range(0, len(head), size):
        connection.send(head[start : start + size])
    answer = connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith("HTTP/1.1 431 ") and answer.count("HTTP/1.1") == 1
    assert answer.endswith("\r\n\r\nhead is more than 16384 bytes\n")
    assert connection.transport.half_closed
    assert apps(factory) == 0


def test_daphne_takes_what_is_allowed(factory: LimitedFactory, clock: Clock) -> None:
    """A body at the limit reaches the application; it counts until its client is gone."""
    for path, size in (("/", 32770), ("/accounts/login/", MAX_FORM_BYTES)):
        connection = Connection(factory, clock)
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n"
        assert connection.send(head + "x" * size) == ""
        assert list(factory.uploads._held.values()) == [size]
        connection.protocol.connectionLost(None)
        assert not factory.uploads._held
    assert apps(factory) == 2


@pytest.mark.parametrize(
    ("sent", "seconds", "answer"),
    [
        ("", 60, ""),
        ("GET", 20, "HTTP/1.1 408 "),
        ("GET / HTTP/1.1\r\nHost: x\r\n", 20, "HTTP/1.1 408 "),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n", 20, "HTTP/1.1 408 "),
        ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 20, "HTTP/1.1 408 "),
    ],
)
def test_daphne_waits_for_a_request_once(
    factory: LimitedFactory, clock: Clock, sent: str, seconds: int, answer: str
) -> None:
    """A client that sends a byte every second gets no more time than one that sends nothing."""
    connection = Connection(factory, clock)
    if sent:
        connection.send(sent)
    drip = iter("X-Slow: yes it is very slow, this one" if "\r\n\r\n" not in sent else "1" * 40)
    for _ in range(seconds - 1):
        clock.advance(1)
        if sent:
            connection.send(next(drip))
    assert not connection.received and not connection.transport.disconnecting
    clock.advance(1)
    assert connection.received.startswith(answer)
    assert connection.transport.disconnecting or connection.transport.half_closed


def test_daphne_gives_a_request_that_is_complete_its_time(
    factory: LimitedFactory, clock: Clock
) -> None:
    """An event stream lasts; the next request of a connection has a time of its own."""
    connection = Connection(factory, clock)
    connection.send("GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
    clock.advance(3600)
    assert not connection.transport.disconnecting and apps(factory) == 1
    (request,) = connection.protocol.requests
    request.handle_reply({"type": "http.response.start", "status": 200, "headers": []})
    request.handle_reply({"type": "http.response.body", "body": b"done"})
    clock.advance(59)
    connection.send("GET /next")
    clock.advance(19)
    assert not connection.transport.disconnecting
    clock.advance(1)
    assert "HTTP/1.1 408 " in connection.received


def test_daphne_cuts_the_oldest_upload(factory: LimitedFactory, clock: Clock) -> None:
    """Too much at the same time costs the oldest upload its connection."""
    factory.uploads = UploadBudget(10)
    head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\n"
    old, done, new = (Connection(factory, clock) for _ in range(3))
    old.send(head + "1234")
    done.send(head + "1")
    assert new.send(head + "123456") == ""
    assert old.received.startswith("HTTP/1.1 503 ") and "Retry-After: 5" in old.received
    assert done.received == ""


def test_a_daphne_that_cannot_be_limited(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says so, and the server still starts."""
    monkeypatch.setattr(daphne_server, "HTTPFactory", http_protocol.HTTPFactory)
    monkeypatch.setattr(daphne_limits, "EXTENDED", ((http_protocol.WebRequest, ("unknown",)),))
    logger = logging.getLogger("django_site")
    monkeypatch.setattr(logger, "propagate", True)
    daphne_limits.limit_requests()
    assert "takes requests of any size (unknown is missing)" in caplog.text
    assert daphne_server.HTTPFactory is http_protocol.HTTPFactory


# -- both servers, as processes --


UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def test_daphne_takes_no_prefix_from_a_client(tmp_path: Path) -> None:
    """Its header for that is ignored, also one that cannot be decoded. The option is not."""
    command = *DAPHNE, "--root-path", "/chat"
    with running(*command, BROADCAST_DATA=site_folder(tmp_path)) as site:
        host = listening(site).removeprefix("ws://").rstrip("/")
        for value in ("/accounts", "/chat/accounts", "/%ff", "%", "/\xff", ""):
            for method, path, headers, status, words in (
                ("GET", "/chat/accounts/login/", {}, 200, b'href="/chat/accounts/login/"'),
                ("GET", "/chat/healthz", {}, 200, b"ok"),
                ("POST", "/chat/?room=a", {}, 200, b'"seq"'),
                ("GET", "/chat/?room=a", UPGRADE, 101, b""),
            ):
                with closing(HTTPConnection(host, timeout=PATIENCE)) as client:
                    sent = {**headers, "Daphne-Root-Path": value}
                    client.request(method, path, b"hi" if method == "POST" else None, sent)
                    response = client.getresponse()
                    assert response.status == status, (path, value)
                    assert status == 101 or words in response.read(), (path, value)
        assert site.errors.count("Traceback") == 0


def spooled(site: Running) -> int:
    """Return how many files without a name the process has open, as temporary files are."""
    folder = Path("/proc", str(site.process.pid), "fd")
    count = 0
    for each in folder.iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            count += str(each.readlink()).endswith(" (deleted)")
    return count


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
@pytest.mark.parametrize("command", [DAPHNE, UVICORN], ids=["daphne", "uvicorn"])
def test_no_body_is_stored(command: tuple[str, ...], tmp_path: Path) -> None:
    """Strangers who send megabytes to any path fill neither the disk nor the memory."""
    with running(*command, BROADCAST_DATA=site_folder(tmp_path)) as site:
        host, port = listening(site).removeprefix("ws://").rstrip("/").split(":")
        before, open_sockets = spooled(site), []
        for line, length in (
            ("GET /healthz", "Content-Length: 9999999"),
            ("POST /accounts/login/", "Transfer-Encoding: chunked"),
        ):
            head = f"{line} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n\r\n"
            client = socket.create_connection((host, int(port)), 20)
            open_sockets.append(client)
            client.sendall(head.encode())
            try:
                for _ in range(40):
                    client.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            except OSError:  # the server has closed the connection
                pass
            try:
                assert client.recv(100).startswith(b"HTTP/1.1 413 ")
            except ConnectionResetError:
                pass
            assert spooled(site) == before
        for client in open_sockets:
            client.close()
        assert "Traceback" not in site.errors
