"""The upgrade request: our reader returns what the library does, or declines.

The library's parser is the reference. Whatever it rejects, our reader has to decline.
"""

from __future__ import annotations

import re
import time
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets.http11 import Request
from websockets.protocol import State

from benchmarks import cases
from benchmarks.cases import HEADS, JSON, UPGRADE, garble, handshake, head, with_headers
from broadcast_server.http.site import MAX_HEAD_BYTES
from broadcast_server.server.handshake import accept, library_protocol, upgrade_request
from broadcast_server.server.upgrade_request import (
    UpgradeRequest,
    accept_response,
    offers_json,
    read_upgrade,
)

BROWSER = (
    b"Host: chat.example:8765",
    b"Connection: keep-alive, Upgrade",
    b"Pragma: no-cache",
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    b"Upgrade: websocket",
    b"Origin: http://chat.example:8765",
    b"Sec-WebSocket-Version: 13",
    b"Accept-Language: en-US,en;q=0.5",
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    b"Sec-WebSocket-Protocol: broadcast.v1.json, session.ssssssssssssssss, bearer.c2VjcmV0",
    b"Sec-Fetch-Site: same-origin",
    b"X-Forwarded-For: 192.0.2.1, 198.51.100.7",
    b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==",
)

READ = {
    "the shortest": head(*UPGRADE),
    "of a program": head(*UPGRADE, JSON, b"Broadcast-Session: " + b"s" * 16),
    "of a browser": head(*BROWSER, target=b"/?name=bob&room=lobby"),
    "behind a prefix": head(*UPGRADE, target=b"/chat/?name=%C3%A9"),
    "another path": head(*UPGRADE, target=b"/x"),
    "without Host": head(*UPGRADE[1:]),
    "with spaces around values": with_headers(b"Upgrade:   WebSocket  ", b"Connection:upgrade"),
    "with 64 headers": head(*UPGRADE, *(b"X-%d:" % each for each in range(59))),
}
"""Requests that our reader is there for."""

ODD_LINES = (
    *(b"Host: other", b"host: 127.0.0.1", b"Upgrade: websocket", b"Upgrade: h2c", b"Connection: x"),
    *(b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==", b"Sec-WebSocket-Version: 13", b"Origin: a"),
    *(b"Content-Length: 0", b"Content-Length: 5", b"Content-Length: x", b"content-length:"),
    *(b"Transfer-Encoding: chunked", b"transfer-encoding: identity", b"Transfer-Encoding:"),
    *(b"X: a\tb", b"X:\ta", b"X: a\t", b"X:", b"X", b": x", b"X : y", b" X: y", b"\tfolded", b""),
    *(b"X: y\n folded", b"X: a\nY: b", b"X: a\rY: b", b"X: a\r", b"\nX: a", b"X: a\x00b"),
    *(b"X: \x7f", b"X: \x80", b"X: \xff", b"X: \xc3\xa9", b"X\xe9: y", b"X\x00: y", b"X(: y"),
    *(b"X: \x0b", b"X: \x0c", b"X: \x1f", b"X: \x85", b"X\x0b: y", b"(X): y", b"X@: y", b"/: y"),
    *(b"Sec-WebSocket-Protocol: ", b"Sec-WebSocket-Protocol: a b", b"Sec-WebSocket-Protocol: ,"),
    *(b"Sec-WebSocket-Protocol: a,", b"Sec-WebSocket-Protocol: a, ", b"Sec-WebSocket-Protocol: ,a"),
    *(b"Sec-WebSocket-Protocol: a,,b", b"Sec-WebSocket-Protocol: a;b", b"Sec-WebSocket-Protocol:a"),
    *(b"Sec-WebSocket-Protocol: a, b,c", b"Sec-WebSocket-Protocol: a ,b", JSON, b"Expect: x"),
    *(b"Sec-WebSocket-Extensions: ;", b"Sec-WebSocket-Extensions: x", b"Sec-WebSocket-Extensions:"),
    *(b"Broadcast-Session: ", b"Broadcast-Session: " + b"s" * 16, b"X-Forwarded-For: ,, x"),
    *(b"X: " + b" " * 4000, b"X: " + b"y" * 7000, b"X-Forwarded-For: a", b"Cookie: a=b; c"),
)
VALUES = {
    b"Upgrade": (
        b"",
        b"WEBSOCKET",
        b"websocket, h2c",
        b"websocket,",
        b"web socket",
        b"websocket/13",
    ),
    b"Connection": (
        *(b"", b"close", b"keep-alive", b"UPGRADE", b"Keep-Alive, Upgrade", b"upgrade,keep-alive"),
        *(b"keep alive, Upgrade", b", upgrade", b"up grade", b"upgrade;", b"upgrade, close"),
    ),
    b"Sec-WebSocket-Version": (b"", b"8", b"13, 8", b"013", b"+13", b"1 3", b"13.0"),
    b"Sec-WebSocket-Key": (
        *(b"", b"x", b"a" * 24, b"a" * 22 + b"==", b"a" * 21 + b"A==", b"a" * 21 + b"Q=="),
        *(b"a" * 20 + b"====", b"-" * 21 + b"A==", b"a" * 43 + b"=", b"a a" * 7 + b"A=="),
    ),
    b"Host": (b"", b"[::1]", b"a b", b"x" * 300, b"127.0.0.1:1, x"),
}
LINES = (
    *(
        b"GET / HTTP/1.0",
        b"GET / HTTP/2.0",
        b"GET / http/1.1",
        b"GET / HTTP/1.1 ",
        b"GET  / HTTP/1.1",
    ),
    *(b"get / HTTP/1.1", b"POST / HTTP/1.1", b"HEAD / HTTP/1.1", b"GET /", b" GET / HTTP/1.1", b""),
    *(b"GET * HTTP/1.1", b"GET http://x/ HTTP/1.1", b"GET //x/ HTTP/1.1", b"GET /# HTTP/1.1"),
    *(b"GET /\xff HTTP/1.1", b"GET /\x7f HTTP/1.1", b"GET /\x00 HTTP/1.1", b"GET /\t HTTP/1.1"),
    *(b"GET /a b HTTP/1.1", b"GET /\r HTTP/1.1", b"GET /\n HTTP/1.1", b"GET ? HTTP/1.1"),
    *(
        b"GET  / HTTP/1.1",
        b"GET /?" + b"x" * 8000 + b" HTTP/1.1",
        b"\r\nGET / HTTP/1.1",
        b"GET\t/ HTTP/1.1",
    ),
)


def tables() -> list[bytes]:
    """Return each odd line in each place, each odd value, and each odd request line."""
    requests = list(READ.values())
    for line in ODD_LINES:
        requests += [head(*UPGRADE[:at], line, *UPGRADE[at:]) for at in (0, 3, len(UPGRADE))]
    for name, values in VALUES.items():
        requests += [with_headers(name + b": " + value) for value in values]
    requests += [line + b"\r\n" + head(*UPGRADE).partition(b"\r\n")[2] for line in LINES]
    requests += [READ["of a browser"].replace(b"\r\n", b"\n", count) for count in (1, 5, 99)]
    requests += [READ["of a browser"].replace(b"\r\n", b"\r", count) for count in (1, 5, 99)]
    return requests


def by_library(data: bytes) -> tuple[UpgradeRequest, bytes] | None:
    """Return how the library reads *data* and how it accepts it, None if it does not."""
    protocol = library_protocol(State.CONNECTING)
    protocol.receive_data(data)
    for event in protocol.events_received():
        assert isinstance(event, Request)
        request = upgrade_request(event)
        if accept(protocol, event):
            return request, b"".join(protocol.data_to_send())
    return None


def without_date(response: bytes) -> bytes:
    """Return *response* without its date, which depends on when it was made."""
    return re.sub(rb"Date: [^\r]+ GMT\r\n", b"Date\r\n", response)


def is_alike(data: bytes) -> bool:
    """Assert that our reader reads *data* as the library does, or declines; return which."""
    request = read_upgrade(data)
    if request is None:
        return False
    expected = by_library(data)
    assert expected is not None
    parsed, response = expected
    assert without_date(accept_response(request, time.time())) == without_date(response)
    assert request.target == parsed.target
    assert request.headers == parsed.headers
    assert list(request.hosts) == list(parsed.hosts)
    assert list(request.forwarded) == list(parsed.forwarded)
    assert list(request.sessions) == list(parsed.sessions)
    assert (list(request.subprotocols) or [""]) == parsed.subprotocols
    assert offers_json(request) == offers_json(parsed)
    return True


@pytest.mark.parametrize("data", READ.values(), ids=READ)
def test_usual_requests_are_read(data: bytes) -> None:
    """What clients send is read, as the library reads it."""
    assert is_alike(data)


@pytest.mark.parametrize("data", READ.values(), ids=READ)
def test_half_a_request_is_declined(data: bytes) -> None:
    """A request that is cut off at any byte, or goes on, is none."""
    assert all(read_upgrade(data[:end]) is None for end in range(len(data)))
    for more in (b"\r\n", b"x", b"\x81\x80abcd", data):
        assert read_upgrade(data + more) is None


def test_a_table_of_odd_requests() -> None:
    """No line, value or request line is read in another way than by the library."""
    read = sum(map(is_alike, tables()))
    assert 20 < read < len(tables()) - 100


def test_the_requests_of_the_fuzzer() -> None:
    """Every kind of head that the fuzzer knows, whole and garbled."""
    random = Random(15)
    for make in (*HEADS.values(), handshake, cases.http_request):
        for _ in range(12):
            data = make(random)
            end = data.find(b"\r\n\r\n") + 4
            is_alike(data)
            is_alike(data[:end])
            is_alike(garble(random, data[:end])[:MAX_HEAD_BYTES])


TEXT = st.text(st.characters(max_codepoint=255), max_size=12).map(
    lambda text: text.encode("latin-1")
)
ANY_LINE = st.one_of(
    st.sampled_from((*UPGRADE, *BROWSER, *ODD_LINES)),
    st.tuples(
        st.sampled_from((b"X", b"Upgrade", b"Connection", b"Host", b"", b"X-\xe9")), TEXT
    ).map(b": ".join),
    TEXT,
)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from((UPGRADE, BROWSER)),
    st.lists(st.tuples(st.integers(0, 14), ANY_LINE), max_size=3),
    st.sampled_from((b"\r\n", b"\n", b"\r")),
    TEXT,
)
@example(UPGRADE, [], b"\r\n", b"")
def test_any_request(
    lines: tuple[bytes, ...], changes: list[tuple[int, bytes]], end: bytes, target: bytes
) -> None:
    """Lines that are replaced or inserted, other ends of lines, and any target."""
    changed = list(lines)
    for place, line in changes:
        changed[place : place + place % 2] = [line]
    data = head(*changed, target=b"/" + target)
    is_alike(data)
    is_alike(data.replace(b"\r\n", end, 3))


@pytest.mark.parametrize("line", [b"X:" + b" " * 8000 + b"\x00", b"a" * 8000, b"X: y\r\n" * 1000])
def test_reading_takes_linear_time(line: bytes) -> None:
    """A request that nearly matches is declined at once, however long it is."""
    data = head(*UPGRADE, line)
    began = time.process_time()
    for _ in range(100):
        assert read_upgrade(data) is None
    assert time.process_time() - began < 2
