"""Texts over the limit: `connect`, `send` and `run` split or cut them, and lose none."""

from __future__ import annotations

import json
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from conftest import DAPHNE, Processes
from deployments import INSTALLED
from programs import shell

from broadcast_server.client.oversize import CUT_MARK, OVERSIZE
from broadcast_server.protocol.bounds import BYTES_PER_LINE, MAX_MESSAGE_BYTES

LOW = ("--max-message-bytes", "100")
MANY = MAX_MESSAGE_BYTES // BYTES_PER_LINE + 5


@pytest.fixture(params=["server", "daphne"])
def kind(request: pytest.FixtureRequest) -> str:
    """The standalone server, or Daphne."""
    return str(request.param)


def url_of(processes: Processes, kind: str, options: tuple[str, ...] = ()) -> str:
    """Return the address of a server of a kind."""
    if kind == "server":
        return processes.url(tuple(INSTALLED), options)
    return processes.django_url(DAPHNE, options)


def texts(url: str, room: str) -> list[str]:
    """Return all messages of a room."""
    address = f"http://{urlsplit(url).netloc}/stream?room={room}&history=100000&poll=1"
    with urlopen(address, timeout=30) as response:
        events = [json.loads(line) for line in response]
    return [event["text"] for event in events if event["type"] == "message"]


@pytest.mark.parametrize("oversize", OVERSIZE)
def test_piped_lines(program: list[str], processes: Processes, kind: str, oversize: str) -> None:
    """Whatever makes a line too long, it is split or cut, and the exit code is 0."""
    url, room = url_of(processes, kind), f"piped-{oversize}"
    script = (
        f"""(echo 1; printf 'x%.0s' {{1..40000}}; echo; printf 'z\\f%.0s' {{1..{MANY}}};"""
        """ echo; echo 2; head -c 300000 /dev/zero | tr '\\0' y; echo; printf 3)"""
    )
    done = shell(f'{script} | "$@" connect {url} --room {room} --oversize {oversize}', program)
    assert (done.code, done.errors) == (0, "")
    got = texts(url, room)
    assert (got[0], got[-1]) == ("1", "3") and "2" in got
    assert max(len(text) for text in got) <= MAX_MESSAGE_BYTES
    if oversize == "split":
        long = "x" * 40000 + "z\f" * MANY + "2" + "y" * 300_000
        assert "".join(got[1:-1]) == long
    else:
        assert [text.endswith(CUT_MARK) for text in got] == [False, True, True, False, True, False]
        assert got[2].count("z") == MANY - 5


@pytest.mark.parametrize("oversize", OVERSIZE)
def test_a_server_of_a_low_limit(
    program: list[str], processes: Processes, kind: str, oversize: str
) -> None:
    """A client learns the limit of its server, over the WebSocket and over HTTP."""
    url, room = url_of(processes, kind, LOW), f"low-{oversize}"
    text = "é" * 120
    script = f'printf {text} | "$@" connect {url} --room {room} --oversize {oversize}'
    done = shell(script, program, LC_ALL="C.UTF-8")
    assert (done.code, done.errors) == (0, "")
    script = f'printf {text} | "$@" send - {url} --room {room} --oversize {oversize}'
    done = shell(script, program, LC_ALL="C.UTF-8")
    assert (done.code, done.errors) == (0, "")
    script = f'"$@" run --label {text} --only-failures --room {room} --oversize {oversize} {url}'
    run = shell(f"{script} -- false", program, LC_ALL="C.UTF-8")
    assert (run.code, run.errors) == (1, "")
    got = texts(url, room)
    assert max(len(each.encode()) for each in got) <= 100
    if oversize == "split":
        assert done.output == f"sent to 0 in {room}, in 3 messages\n"
        assert "".join(got).startswith(f"{text}{text}{text} ended with 1 after")
    else:
        assert done.output == f"sent to 0 in {room}\n"
        assert got == ["é" * 43 + CUT_MARK] * 3


def test_a_long_text_is_sent_in_lines(program: list[str], processes: Processes, kind: str) -> None:
    """A text of many lines is taken apart between lines."""
    url = url_of(processes, kind)
    script = f'seq 30000 | "$@" send - {url} --room seq --json'
    done = shell(script, program)
    assert (done.code, done.errors) == (0, "")
    answers = [json.loads(line) for line in done.output.splitlines()]
    got = texts(url, "seq")
    assert [answer["seq"] for answer in answers] == [*range(1, len(got) + 1)]
    assert "\n".join(got).split("\n") == [str(number) for number in range(1, 30001)]


def test_a_stack_trace_goes_through(program: list[str], processes: Processes, kind: str) -> None:
    """80 lines of 75 characters are one message, over HTTP and over the WebSocket."""
    url = url_of(processes, kind)
    trace = "\n".join(f"  File {number:03} {'x' * 64}" for number in range(80))
    done = shell(f'printf "%s" "$TRACE" | "$@" send - {url} --room trace', program, TRACE=trace)
    assert done.output == "sent to 0 in trace\n"
    assert texts(url, "trace") == [trace]
