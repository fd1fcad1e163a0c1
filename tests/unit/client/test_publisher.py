"""The publisher: a response that is cut short is a broken connection, at every byte."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

import pytest
from conftest import Processes
from programs import said

from broadcast_server.client.publish_result import Accepted
from broadcast_server.client.publisher import HTTPPublisher, PublishFailed
from broadcast_server.client.target import Target

LINE = b'{"seq":1,"name":"ci","room":"lobby","count":0}\n'
PERHAPS = "perhaps not sent: "


@pytest.fixture
def url(processes: Processes, program: list[str]) -> str:
    """The address of a server that accepts a post for each prefix."""
    return processes.url(tuple(program), ("--max-rooms", "9999", "--rate", "0"))


def exchange(port: int, request: bytes) -> bytes:
    """Pass *request* on to the server on *port*; return its whole response."""
    response = b""
    with socket.create_connection(("127.0.0.1", port)) as server:
        server.sendall(request)
        while chunk := server.recv(65536):
            response += chunk
    return response


def chunked(response: bytes) -> bytes:
    """Return *response* as a proxy sends it on that has its body in two chunks, and a trailer."""
    head, _, body = response.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
    head = b"\r\n".join([*lines, b"Transfer-Encoding: chunked"])
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:20], body[20:]))
    return head + b"\r\n\r\n" + chunks + b"0\r\nA-Trailer: 1\r\n\r\n"


@contextmanager
def proxy(answers: Iterable[Callable[[bytes], bytes]]) -> Iterator[str]:
    """A server that gives one of *answers* to each request, and closes; yields its URL."""
    end = b"\r\n\r\n"

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):  # shut down: the test is over
            for answer in answers:
                client, _ = listener.accept()
                with client:
                    request = b""
                    while end not in request or request.endswith(end):
                        request += client.recv(65536)
                    client.sendall(answer(request))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)
        assert not thread.is_alive()


def publish(url: str, room: str, seconds: float) -> tuple[Accepted | str, list[str]]:
    """Publish `hi` within *seconds*; return the result or the error, and the notes."""
    notes: list[str] = []
    target = Target(url, {}, None, None, None)
    publisher = HTTPPublisher(target, "ci", room, note=notes.append)
    publisher.finish_within(seconds)
    try:
        return publisher.publish("hi"), notes
    except PublishFailed as error:
        return str(error), notes


@pytest.mark.parametrize("transform", [bytes, chunked])
def test_every_prefix_of_a_response(
    transform: Callable[[bytes], bytes], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A response that ends at any byte is a reason to retry, and the message is published once."""
    monkeypatch.setattr("broadcast_server.client.publisher.MAX_RETRY_S", 0.001)
    port = int(url.rpartition(":")[2].rstrip("/"))
    room = f"cut-{transform.__name__}"
    sizes = itertools.count()
    lengths: list[int] = []

    def cut(request: bytes) -> bytes:
        response = transform(exchange(port, request))
        lengths.append(len(response))
        return response[: next(sizes)]

    def whole(request: bytes) -> bytes:
        return transform(exchange(port, request))

    with proxy(itertools.cycle([cut, whole])) as address:
        size = 0
        while not lengths or size < lengths[-1]:
            result, notes = publish(address, room, 60)
            assert isinstance(result, Accepted), (size, result)
            assert notes == ["the server closed the connection"], size
            # A repeat has the number of the first publication: none was published twice.
            assert f'"seq":{size + 1},' in result.line
            assert '"repeated":true' in result.line
            size += 1
    assert size > 200
    assert said(url, room) == ["ci: hi"] * size


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(LINE)


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (b"", f"{PERHAPS}the server closed the connection, does the port use TLS (wss://)?"),
        (HEAD[:9], f"{PERHAPS}the server closed the connection"),
        (HEAD, f"{PERHAPS}the server closed the connection"),
        (HEAD + LINE[:-1], f"{PERHAPS}the server closed the connection"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD[:2], f"{PERHAPS}the server closed the connection"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            f"{PERHAPS}HTTP status 200, but not the response of a broadcast server",
        ),
        (b"HTTP/1.1 two\r\n\r\n", f"{PERHAPS}the server's response is not valid HTTP"),
        (b"HTTP/2 200\r\n\r\n", f"{PERHAPS}the server's response is not valid HTTP"),
        (
            b"HTTP/1.1 200 OK\r\n" + b"A: 1\r\n" * 101 + b"\r\n",
            f"{PERHAPS}the server's response is not valid HTTP",
        ),
        (
            b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000,
            f"{PERHAPS}the server's response is not valid HTTP",
        ),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "not sent: Could not connect to server at * (no web server"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "not sent: Could not connect to server at * (no web"),
        (b"x" * 70_000, "not sent: Could not connect to server at * (no web server is there)"),
        (
            b"HTTP/1.1 400 Bad\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nbad",
            "not sent: bad",
        ),
    ],
)
def test_what_a_response_proves(response: bytes, error: str) -> None:
    """Only a complete response, or one that is no HTTP, says that a message was not sent."""
    with proxy(itertools.repeat(lambda _: response)) as address:
        result, _ = publish(address, "lobby", 0.15)
    begin, _, end = error.partition("*")
    assert isinstance(result, str)
    assert result.startswith(begin)
    assert (result == error) if not end else end in result


@pytest.mark.parametrize(
    "response",
    [b"SSH-2.0\r\n", b"HTTP/1.1 401 No\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nno"],
)
def test_a_rejection_after_a_broken_connection(response: bytes) -> None:
    """What rejects the repeat says nothing about the first attempt."""
    with proxy([lambda _: HEAD, lambda _: response]) as address:
        result, notes = publish(address, "lobby", 60)
    assert isinstance(result, str)
    assert result.startswith(PERHAPS)
    assert notes == ["the server closed the connection"]
