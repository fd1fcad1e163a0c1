"""The cases of the fuzzer: what a broken or hostile client might send, generated at random.

A case is valid input with one defect; in some cases, a few bytes are changed after that. Pure
functions: a `Random` in, bytes out. So a seed reproduces a case, and Hypothesis can shrink it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from urllib.parse import quote

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
MIB = 2**20

ROOMS = ("lobby", "fuzz-1", "fuzz-2", "fuzz-3")
WORDS = (
    *("hi", "", " ", "/who", "/quit", "* alice", "alice: hi", "bob joined the chat", "x" * 4097),
    *("\x00", "\x1b[2J", "\u202ehi", "日本", "e\u0301", "\u2028", "\r", "\r\r", "\U0001f600" * 9),
)
NAMES = ("bob", "Bob", "alice", "x" * 32, "ß", "ss", "bob-2", "anonymous", "日本")
INVALID_NAMES = (
    *("x" * 33, "", "a:b", " a", "*a", "/a", "\u202ea", "\ud7ff", "a\x00", "a  b", "\u0301a"),
)
SESSIONS = ("s" * 16, "t" * 64)
CURSORS = ("epoch.1", "e." + "9" * 18)
INVALID_PARAMETERS = {
    "name": INVALID_NAMES,
    "room": ("", "Lobby", "-", "x" * 65, "\x00", "../x", "日本"),
    "history": ("-1", "x", "1" * 19, "\u0661"),
    "since": ("epoch", ".", "e.99999999999999999999", "e.-1", "\u0661.\u0661"),
    "session": ("short", "u" * 65, "v" * 15 + "!"),
}
ODD_QUERIES = (
    "%",
    "%f",
    "%ff",
    "%c3%28",
    "&" * 65,
    "=",
    "name",
    "%00",
    "name=%ED%A0%80",
    "+",
    ";",
    "#",
)

Make = Callable[[Random], bytes]


@dataclass(frozen=True, slots=True)
class Case:
    """What one client sends: *chunks*, each in its own write, and how the connection ends."""

    kind: str
    chunks: tuple[bytes, ...]
    handshake_chunks: int
    """How many of the chunks are a handshake, whose response a correct client waits for."""
    end: str
    """``wait`` for a response, ``eof`` (end the sending direction, read to the end), or ``cut``."""


# -- frames -------------------------------------------------------------------


def frame(
    random: Random,
    opcode: int,
    payload: bytes,
    *,
    fin: bool = True,
    reserved: int = 0,
    masked: bool = True,
    length: int | None = None,
    form: int | None = None,
) -> bytes:
    """Return a frame. *length* is the length in its header, in *form* 7, 16 or 64 bits."""
    size = len(payload) if length is None else length
    if form is None:
        form = 7 if size < 126 else 16 if size < 2**16 else 64
    head = bytes([(0x80 if fin else 0) | reserved << 4 | opcode])
    mask = 0x80 if masked else 0
    if form == 7:
        head += bytes([mask | size])
    else:
        head += bytes([mask | (126 if form == 16 else 127)]) + size.to_bytes(form // 8, "big")
    if not masked:
        return head + payload
    key = random.getrandbits(32).to_bytes(4, "big")
    times = len(payload) // 4 + 1
    masks = int.from_bytes((key * times)[: len(payload)], "big")
    masked_payload = int.from_bytes(payload, "big") ^ masks
    return head + key + masked_payload.to_bytes(len(payload), "big")


def random_word(random: Random) -> str:
    """Return the text of a message."""
    return random.choice(WORDS)


def random_lines(random: Random) -> bytes:
    """Return lines for a text frame, in either format, valid or not."""
    kind = random.randrange(40)
    if kind < 20:
        return "\n".join(random_word(random) for _ in range(random.randint(1, 4))).encode()
    if kind == 20:
        return random_bytes(random, 40)
    request: object = {
        "type": random.choice(("say", "say", "say", "members", "name", "ping", "welcome", 1, None)),
        "text": random.choice((random_word(random), random_word(random), 1, None, ["x"], "\ud800")),
        "id": random.choice(("a", "b", "", "x" * 65, 7, "\udfff", None)),
    }
    if kind == 21:
        request = random.choice(([], 1, "x", None, [[[[]]]], {"type": {}}, 10**400))
    text = json.dumps(request)
    if kind == 22:
        text = random.choice(("[" * 50_000, '{"a":' * 10_000, text[:-1], text + text, "9" * 5000))
    return "\n".join([text] * random.randint(1, 12)).encode()


def random_bytes(random: Random, max_bytes: int) -> bytes:
    """Return at most *max_bytes* random bytes."""
    return bytes(random.getrandbits(8) for _ in range(random.randint(0, max_bytes)))


def text_frame(random: Random) -> bytes:
    """Return a text frame, in most cases a valid one."""
    return frame(random, TEXT, random_lines(random))


def fragments(random: Random, payload: bytes, between: Make | None = None) -> bytes:
    """Return a message in several frames, with a frame by *between* among them."""
    parts = random.randint(2, 6)
    cuts = sorted(random.randint(0, len(payload)) for _ in range(parts - 1))
    edges = [0, *cuts, len(payload)]
    place = random.randint(1, parts - 1)
    data = b""
    for number in range(parts):
        if number == place and between is not None:
            data += between(random)
        piece = payload[edges[number] : edges[number + 1]]
        data += frame(random, 0 if number else TEXT, piece, fin=number == parts - 1)
    return data


def close_frame(random: Random) -> bytes:
    """Return a valid close frame."""
    code = random.choice((1000, 1001, 3000, 4999))
    return frame(random, CLOSE, code.to_bytes(2, "big") + random.choice((b"", b"bye")))


FRAMES: dict[str, Make] = {
    "messages": lambda random: b"".join(text_frame(random) for _ in range(random.randint(1, 30))),
    "a message in fragments": lambda random: fragments(random, random_lines(random)),
    "a ping amid fragments": lambda random: fragments(
        random, random_lines(random), lambda random: frame(random, PING, b"p")
    ),
    "pings": lambda random: frame(random, PING, b"p" * 125) * random.randint(1, 300),
    "pongs": lambda random: frame(random, PONG, random_bytes(random, 20)) * 3,
    "a close": close_frame,
    "a message after a close": lambda random: close_frame(random) + text_frame(random),
    "a frame of 1 MiB": lambda random: frame(random, TEXT, b"x" * MIB),
    "a frame over 1 MiB": lambda random: frame(random, TEXT, b"x" * (MIB + 1)),
    "fragments over 1 MiB": lambda random: fragments(random, b"x" * (MIB + 1)),
    "2,000 lines": lambda random: frame(random, TEXT, b"x\n" * 2000),
    "a binary message": lambda random: frame(random, BINARY, random_bytes(random, 20)),
    "a binary message in fragments": lambda random: (
        frame(random, BINARY, b"b", fin=False) + frame(random, 0, b"c")
    ),
    "a frame without a mask": lambda random: frame(
        random, TEXT, random_lines(random), masked=False
    ),
    "a reserved bit": lambda random: frame(
        random,
        random.choice((TEXT, PING)),
        random_lines(random)[:99],
        reserved=random.randint(1, 7),
    ),
    "a reserved opcode": lambda random: frame(
        random, random.choice((3, 4, 5, 6, 7, 11, 12, 13, 14, 15)), random_bytes(random, 20)
    ),
    "a long ping": lambda random: frame(random, PING, b"p" * random.randint(126, 70_000)),
    "a ping in fragments": lambda random: frame(random, PING, b"p", fin=False),
    "a continuation of nothing": lambda random: frame(random, 0, random_lines(random)),
    "a message amid fragments": lambda random: fragments(random, random_lines(random), text_frame),
    "a close amid fragments": lambda random: fragments(random, random_lines(random), close_frame),
    "a length in too many bytes": lambda random: frame(
        random, TEXT, b"short", form=random.choice((16, 64))
    ),
    "a huge length": lambda random: frame(
        random,
        random.choice((TEXT, 0, BINARY, CLOSE)),
        random_bytes(random, 20),
        length=random.choice((MIB + 1, 2**31, 2**32, 2**62, 2**63 - 1)),
        form=64,
    ),
    "a negative length": lambda random: frame(
        random, TEXT, b"x", length=random.choice((2**63, 2**64 - 1)), form=64
    ),
    "a frame shorter than its length": lambda random: frame(
        random, TEXT, b"x" * 9, length=random.choice((10, 125, 300, 70_000))
    ),
    "a message that is not UTF-8": lambda random: frame(
        random, TEXT, random.choice((b"\xc3\x28", b"\xff", b"\xed\xa0\x80", b"x" * 300 + b"\xc3"))
    ),
    "a message in fragments that is not UTF-8": lambda random: fragments(
        random, "日本".encode() + b"\xe6"
    ),
    "a close of one byte": lambda random: frame(random, CLOSE, b"\x03"),
    "a close with a bad code": lambda random: frame(
        random,
        CLOSE,
        random.choice((0, 999, 1004, 1005, 1006, 1015, 2999, 65535)).to_bytes(2, "big"),
    ),
    "a close whose reason is not UTF-8": lambda random: frame(random, CLOSE, b"\x03\xe8\xff"),
    "frames of random bytes": lambda random: random_bytes(random, 300),
}


# -- requests -----------------------------------------------------------------


def random_query(random: Random) -> str:
    """Return the query of a valid join."""
    parameters = []
    if random.random() < 0.7:
        parameters.append("name=" + quote(random.choice(NAMES)))
    parameters.append("room=" + random.choice(ROOMS))
    if random.random() < 0.3:
        parameters.append("history=" + random.choice(("0", "5", "99999")))
    if random.random() < 0.2:
        parameters.append("since=" + quote(random.choice(CURSORS)))
    if random.random() < 0.2:
        parameters.append("session=" + quote(random.choice(SESSIONS)))
    random.shuffle(parameters)
    return "&".join(parameters)


def head(
    *lines: bytes, method: bytes = b"GET", target: bytes = b"/", version: bytes = b"1.1"
) -> bytes:
    """Return the head of a request."""
    return b"\r\n".join([method + b" " + target + b" HTTP/" + version, *lines, b"", b""])


HOST = b"Host: 127.0.0.1"
UPGRADE = (
    HOST,
    b"Upgrade: websocket",
    b"Connection: Upgrade",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==",
)
JSON = b"Sec-WebSocket-Protocol: broadcast.v1.json"


def session_header(random: Random) -> list[bytes]:
    """Return no header, or one with a session."""
    session = random.choice((None, None, None, *SESSIONS))
    return [] if session is None else [b"Broadcast-Session: " + session.encode()]


def handshake(random: Random) -> bytes:
    """Return a valid handshake, for either format, with a session in any of its places."""
    protocols = []
    if random.random() < 0.5:
        protocols = ["broadcast.v1.json"]
        if random.random() < 0.3:
            protocols.insert(random.randrange(2), f"session.{random.choice(SESSIONS)}")
    offer = [b"Sec-WebSocket-Protocol: " + ", ".join(protocols).encode()] if protocols else []
    lines = [*UPGRADE, *offer, *session_header(random)]
    return head(*lines, target=b"/?" + random_query(random).encode())


def without_header(index: int) -> bytes:
    """Return a handshake without the header at *index*."""
    return head(*UPGRADE[:index], *UPGRADE[index + 1 :])


def with_headers(*others: bytes) -> bytes:
    """Return a handshake in which *others* replace the headers of the same names."""
    names = {line.partition(b":")[0].lower() for line in others}
    kept = [line for line in UPGRADE if line.partition(b":")[0].lower() not in names]
    return head(*kept, *others)


def invalid_handshake(random: Random) -> bytes:
    """Return a handshake with an invalid parameter, or an invalid session in another place."""
    if random.random() < 0.3:
        sessions = *INVALID_PARAMETERS["session"], "", "\xff", f"{SESSIONS[0]}, {SESSIONS[1]}"
        session = random.choice(sessions).encode("latin-1")
        by_header = [b"Broadcast-Session: " + session]
        by_protocol = [JSON + b", session." + session]
        twice = [b"Broadcast-Session: " + SESSIONS[0].encode(), *by_header]
        return head(*UPGRADE, *random.choice((by_header, by_protocol, twice)))
    name = random.choice(tuple(INVALID_PARAMETERS))
    return head(
        *UPGRADE, target=f"/?{name}={quote(random.choice(INVALID_PARAMETERS[name]))}".encode()
    )


def http_request(random: Random) -> bytes:
    """Return a valid HTTP request for a page or a file."""
    path = random.choice((b"/", b"/healthz", b"/metrics", b"/broadcast-server.pyz", b"/nothing"))
    accept = random.choice((b"*/*", b"text/html", b"\xff"))
    method = random.choice((b"GET", b"GET", b"HEAD"))
    return head(HOST, b"Accept: " + accept, method=method, target=path)


def post_request(random: Random) -> bytes:
    """Return a POST, in most cases a valid one."""
    target = b"/?" + random_query(random).encode()
    if random.random() < 0.4:
        ids = b"id=a", b"id=" + b"x" * 65, b"id="
        target += b"&" + random.choice((*ids, b"require=1", b"require=99", b"require=x"))
    body = random_lines(random)[: random.choice((99, 5000, 200_000))]
    lines = [HOST, *session_header(random)]
    if random.random() < 0.1:
        lines.append(b"Expect: 100-continue")
    if random.random() < 0.3:
        head_ = head(*lines, b"Transfer-Encoding: chunked", method=b"POST", target=target)
        return head_ + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    lines.append(b"Content-Length: %d" % len(body))
    return head(*lines, method=b"POST", target=target) + body


def stream_request(random: Random) -> bytes:
    """Return a stream request, in most cases a valid one."""
    target = random.choice((b"/stream?", b"/x/stream?")) + random_query(random).encode()
    target += random.choice((b"", b"&poll=1", b"&poll=1", b"&poll=2"))
    lines = [HOST, *session_header(random)]
    if random.random() < 0.5:
        lines.append(b"Accept: text/event-stream")
    if random.random() < 0.3:
        last = random.choice((b"epoch.1", b"e." + b"9" * 18, b"", b"x", b"\xff", b"." * 99))
        lines.append(b"Last-Event-ID: " + last)
    method = random.choice((b"GET",) * 9 + (b"HEAD",))
    version = random.choice((b"1.1",) * 4 + (b"1.0",))
    return head(*lines, method=method, target=target, version=version)


def one_of(*choices: bytes) -> Make:
    """Return a function that picks one of these."""
    return lambda random: random.choice(choices)


LONG_BYTES = b"x" * 9000

HEADS: dict[str, Make] = {
    "a request": http_request,
    "two requests at once": lambda random: http_request(random) + http_request(random),
    "a POST": post_request,
    "a POST that is not allowed": one_of(
        *(
            head(HOST, line, b"Content-Length: 5", method=b"POST") + b"hello"
            for line in (b"Origin: http://x", b"Origin: null", b"Authorization: Bearer \xff")
        )
    ),
    "a POST without a valid length": one_of(
        head(HOST, method=b"POST"),
        head(HOST, b"Content-Length: 0", method=b"POST"),
        head(HOST, b"Content-Length: " + b"9" * 5000, method=b"POST"),
    ),
    "a POST with Expect: 100-continue": one_of(
        *(
            head(HOST, b"Expect: 100-continue", b"Content-Length: " + size, method=b"POST")
            for size in (b"5", b"5000000")
        )
    ),
    "a stream request": stream_request,
    "a stream request and more bytes": lambda random: (
        stream_request(random) + http_request(random) + random_bytes(random, 99)
    ),
    "a preflight": one_of(
        head(HOST, b"Origin: http://x", method=b"OPTIONS"),
        head(HOST, b"Access-Control-Request-Method: POST", method=b"OPTIONS", target=b"/stream"),
        head(HOST, method=b"OPTIONS", target=b"*"),
    ),
    "a POST longer than its Content-Length": lambda random: (
        head(HOST, b"Content-Length: 5", method=b"POST") + b"hello" * random.randint(2, 2000)
    ),
    "a POST shorter than its Content-Length": one_of(
        head(HOST, b"Content-Length: 50", method=b"POST") + b"hello",
        head(HOST, b"Content-Length: 99999999999", method=b"POST") + b"hello",
    ),
    "a POST in chunks": one_of(
        head(HOST, b"Transfer-Encoding: chunked", method=b"POST") + b"5\r\nhello\r\n0\r\n\r\n"
    ),
    "a POST in bad chunks": one_of(
        *(
            head(HOST, b"Transfer-Encoding: chunked", method=b"POST") + chunks
            for chunks in (
                *(b"z\r\n", b"-5\r\nhello\r\n", b"5;" + LONG_BYTES, b"fffffffffffffffff\r\n"),
                *(b"5\r\nhelloworld\r\n", b"0\r\nx: " + LONG_BYTES, b"5\nhello\n0\n\n"),
            )
        )
    ),
    "conflicting or invalid lengths": one_of(
        head(HOST, b"Content-Length: 5", b"Transfer-Encoding: chunked", method=b"POST")
        + b"0\r\n\r\n",
        head(HOST, b"Content-Length: 5", b"Content-Length: 6", method=b"POST") + b"hello!",
        head(HOST, b"Transfer-Encoding: gzip", method=b"POST") + b"hello",
        head(HOST, b"Content-Length: -1", method=b"POST"),
        head(HOST, b"Content-Length: 1e3", method=b"POST"),
    ),
    "an odd method": one_of(
        *(
            head(HOST, method=method)
            for method in (b"BREW", b"CONNECT", b"get", b"", b"G\xc3\x89T", b"G" * 9000, b"PRI")
        )
    ),
    "an odd target": one_of(
        *(
            head(HOST, target=target)
            for target in (
                *(
                    b"",
                    b"*",
                    b"nothing",
                    b"http://x/",
                    b"//x//",
                    b"/%zz",
                    b"/\x00",
                    b"/\xff",
                    b"/a b",
                ),
                *(b"/../..", b"/?" + LONG_BYTES, b"/" + LONG_BYTES, b"/#", b"/?\xc3\xa9", b"/\x7f"),
            )
        )
    ),
    "an odd version": one_of(
        *(
            head(HOST, version=version)
            for version in (b"1.0", b"0.9", b"2.0", b"1.2", b"", b"x", b"9")
        )
    ),
    "a request without Host": one_of(head(), head(version=b"1.0")),
    "a request with two Hosts": one_of(head(HOST, b"Host: other")),
    "an odd header": one_of(
        *(
            head(HOST, line)
            for line in (
                *(
                    b"X",
                    b": x",
                    b"X : y",
                    b" X: y",
                    b"X: a\x00b",
                    b"X: \xff\xfe",
                    b"X: y\r",
                    b"\x00: x",
                ),
                *(b"X\xe9: y", b"X: " + LONG_BYTES, b"X" * 9000 + b": y", b"Expect: 100-continue"),
                *(b"X: y\r\n folded", b"Connection: " + b"a," * 2000, b"X-Forwarded-For: \xff,,"),
            )
        )
    ),
    "a request with many headers": lambda random: head(
        HOST, *[b"X: y"] * random.choice((50, 200, 1000, 3000))
    ),
    "a request with lines without CR": lambda random: http_request(random).replace(b"\r\n", b"\n"),
    "a request after empty lines": lambda random: (
        b"\r\n" * random.randint(1, 9) + http_request(random)
    ),
    "TLS": one_of(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"r" * 32),
    "HTTP/2": one_of(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)),
    "random bytes": lambda random: random_bytes(random, 300),
    "no bytes at all": one_of(b""),
    "an endless head": lambda random: b"x" * random.choice((8000, 8193, 20_000, 100_000)),
    "half a head": lambda random: http_request(random)[: random.randint(1, 40)],
    "frames without a handshake": text_frame,
    "a handshake without a key": one_of(without_header(4)),
    "a handshake with an odd key": one_of(
        *(
            with_headers(b"Sec-WebSocket-Key: " + key)
            for key in (
                b"",
                b"short",
                b"!" * 24,
                b"x" * 9000,
                b"\xff" * 24,
                b"MDEyMw==",
                b"a=" * 12,
            )
        )
    ),
    "a handshake with two keys": one_of(head(*UPGRADE, UPGRADE[4])),
    "a handshake of another WebSocket version": one_of(
        without_header(3),
        head(*UPGRADE, b"Sec-WebSocket-Version: 13"),
        *(
            with_headers(b"Sec-WebSocket-Version: " + version)
            for version in (b"8", b"", b"13, 8", b"x", b"\xff", b"1" * 5000)
        ),
    ),
    "a handshake without Connection": one_of(
        without_header(2),
        with_headers(b"Connection: close"),
        with_headers(b"Connection: keep-alive"),
    ),
    "an upgrade to another protocol": one_of(
        *(
            with_headers(b"Upgrade: " + to)
            for to in (b"h2c", b"", b"websocket/13", b"h2c, websocket")
        )
    ),
    "two upgrades": one_of(
        head(*UPGRADE, b"Upgrade: h2c"), head(*UPGRADE, b"Upgrade: websocket"), head(*UPGRADE * 2)
    ),
    "a handshake with split headers": one_of(
        with_headers(b"Connection: keep-alive,", b"Connection: , Upgrade ,,"),
        with_headers(b"UPGRADE:\twebsocket\t", b"connection:upgrade"),
        with_headers(b"Upgrade: webso\r\n cket"),
    ),
    "a handshake other than GET": one_of(
        *(head(*UPGRADE, method=method) for method in (b"POST", b"HEAD", b"PUT", b"get", b""))
    ),
    "a handshake with a body": one_of(
        head(*UPGRADE, b"Content-Length: 5") + b"hello",
        head(*UPGRADE, b"Content-Length: x"),
        head(*UPGRADE, b"Content-Length: 5", b"Content-Length: 6"),
        head(*UPGRADE, b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n",
    ),
    "a handshake of another HTTP version": one_of(
        *(head(*UPGRADE, version=version) for version in (b"1.0", b"2.0", b"", b"1.1 "))
    ),
    "a handshake with odd extensions": one_of(
        *(
            head(*UPGRADE, b"Sec-WebSocket-Extensions: " + offered)
            for offered in (
                *(b"", b";", b"permessage-deflate; ;", b"x; y=" + b'"', b"\xff", b"x," * 4000),
                *(
                    b"permessage-deflate; server_max_window_bits=99",
                    b'x; y="a\\"b"',
                    b"permessage-deflate",
                ),
            )
        )
    ),
    "a handshake with odd subprotocols": one_of(
        *(
            head(*UPGRADE, b"Sec-WebSocket-Protocol: " + offered)
            for offered in (
                b"",
                b",",
                b"x y",
                b"\xff",
                b"a," * 3000,
                b"broadcast.v1.json, x",
                b"x\x00",
            )
        ),
        head(*UPGRADE, JSON, JSON),
        head(*UPGRADE, JSON, b"Sec-WebSocket-Protocol: \xe9"),
    ),
    "a handshake with an odd origin": one_of(
        *(
            head(*UPGRADE, b"Origin: " + origin)
            for origin in (
                b"null",
                b"http://[",
                b"http://x",
                b"",
                b"\xff",
                b"http://127.0.0.1:x",
                b"x" * 5000,
            )
        ),
        head(*UPGRADE, b"Origin: http://x", b"Origin: http://y"),
    ),
    "a handshake to another path": one_of(
        *(
            head(*UPGRADE, target=target)
            for target in (b"/x", b"*", b"", b"http://x/", b"/\xff", b"/x/")
        )
    ),
    "a handshake with an invalid parameter": invalid_handshake,
    "a handshake with an odd query": lambda random: head(
        *UPGRADE, target=b"/?" + random.choice(ODD_QUERIES).encode() * random.randint(1, 70)
    ),
    "a handshake with random bytes in its query": lambda random: head(
        *UPGRADE, target=b"/?name=" + random_bytes(random, 30).translate(None, b" \r\n")
    ),
    "a handshake with lines without CR": lambda random: handshake(random).replace(b"\r\n", b"\n"),
    "half a handshake": lambda random: handshake(random)[: random.randint(20, 150)],
    "a handshake with a huge header": lambda random: head(*UPGRADE, b"X: " + b"y" * 8000),
}


# -- cases --------------------------------------------------------------------


def frames(random: Random) -> tuple[str, bytes]:
    """Return frames, one of which may have a defect, and the kind of that one."""
    kind = random.choice(tuple(FRAMES))
    data = b"".join(text_frame(random) for _ in range(random.randint(0, 3))) + FRAMES[kind](random)
    if random.random() < 0.3:
        data += b"".join(text_frame(random) for _ in range(random.randint(1, 3)))
    if random.random() < 0.2:
        data += close_frame(random)
    return kind, data


def garble(random: Random, data: bytes) -> bytes:
    """Return *data* with a few bytes changed, inserted, removed, repeated, or cut off."""
    for _ in range(random.randint(1, 4)):
        place = random.randint(0, len(data))
        size = random.randint(1, 20)
        match random.randrange(5):
            case 0:
                data = data[:place] + bytes([random.getrandbits(8)]) + data[place + 1 :]
            case 1:
                data = data[:place] + random_bytes(random, size) + data[place:]
            case 2:
                data = data[:place] + data[place + size :]
            case 3:
                data = data[:place] + data[place : place + size] * 2 + data[place + size :]
            case _:
                data = data[:place] if random.random() < 0.3 else data
    return data


def split_randomly(random: Random, data: bytes) -> tuple[bytes, ...]:
    """Return *data* in a few pieces, or byte by byte."""
    if len(data) <= 400 and random.random() < 0.1:
        return tuple(data[at : at + 1] for at in range(len(data)))
    places = sorted(random.randint(0, len(data)) for _ in range(random.choice((0, 0, 1, 2, 6))))
    edges = [0, *places, len(data)]
    pieces = [data[begin:end] for begin, end in itertools.pairwise(edges)]
    return tuple(piece for piece in pieces if piece)


def case(random: Random) -> Case:
    """Return a random case."""
    head, rest = b"", b""
    if random.random() < 0.4:
        kind = random.choice(tuple(HEADS))
        rest = HEADS[kind](random)
        if random.random() < 0.2:
            rest += frames(random)[1]
    else:
        kind, rest = frames(random)
        head = handshake(random)
    if random.random() < 0.15:
        kind, head, rest = kind + ", garbled", b"", garble(random, head + rest)
    first = split_randomly(random, head)
    chunks = (*first, *split_randomly(random, rest))
    return Case(kind, chunks, len(first), random.choice(("wait", "eof", "eof", "cut")))
