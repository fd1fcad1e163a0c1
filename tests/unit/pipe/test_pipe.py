"""The pipe: every line is published once and in order, whatever the lines and the server do."""

from __future__ import annotations

import json
import signal
import tracemalloc
from contextlib import ExitStack
from datetime import datetime, timezone
from itertools import pairwise

import pytest
from conftest import NO_RATE
from hypothesis import given
from hypothesis import strategies as st
from programs import Running, running, say, shell, until

from broadcast_server.client.oversize import CUT_MARK
from broadcast_server.client.report_texts import missed_text
from broadcast_server.pipe.line_splitter import MAX_LINE_BYTES, LineSplitter

MIB = 2**20


# -- lines --


@given(
    st.lists(st.binary(max_size=8).filter(lambda line: b"\n" not in line)),
    st.lists(st.integers(0, 40), max_size=5),
    st.booleans(),
)
def test_lines_do_not_depend_on_the_chunks(
    parts: list[bytes], cuts: list[int], ended: bool
) -> None:
    """However a stream is split into chunks, its lines are the same, without empty ones."""
    data = b"\n".join(parts) + (b"\n" if ended else b"")
    offsets = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    lines = LineSplitter()
    got = [line for start, end in pairwise(offsets) for line in lines.feed(data[start:end])]
    got += lines.end()
    texts = [line.rstrip(b"\r").decode(errors="replace") for line in data.split(b"\n")]
    assert got == [text for text in texts if text]


@pytest.mark.parametrize("size", [MAX_LINE_BYTES, MAX_LINE_BYTES + 4, 10_000_000])
@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("cut", [True, False])
def test_a_line_over_the_limit_costs_little_memory(size: int, ended: bool, cut: bool) -> None:
    """It comes in pieces while it is read, or its beginning with a mark; other lines pass."""
    lines, chunk = LineSplitter(cut=cut), b"x" * 50_000
    got, count, begin = lines.feed(b"before\n"), 0, ""
    tracemalloc.start()
    for data in [*[chunk] * (size // len(chunk)), b"x" * (size % len(chunk)), b"\nafter"]:
        for piece in lines.feed(data if ended or data != b"\nafter" else b""):
            count += piece.count("x")
            begin = begin or piece[-20:]
    got += lines.end()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MIB
    if ended:
        assert got == ["before", "after"]
    count += sum(each.count("x") for each in got)
    assert count == size if not cut or size <= MAX_LINE_BYTES else MAX_LINE_BYTES < count < size + 1
    assert begin.endswith(CUT_MARK) == (cut and size > MAX_LINE_BYTES)


@pytest.mark.parametrize(
    ("missed", "text"),
    [
        (None, "-- messages may be missing --"),
        (1, "-- 1 message missed --"),
        (37, "-- 37 messages missed --"),
    ],
)
def test_missed_texts(missed: int | None, text: str) -> None:
    """The text has the number of missed messages, where it is known."""
    assert missed_text(missed) == text


# -- input --


@pytest.mark.parametrize(
    ("script", "texts"),
    [
        (r"printf 'a\nb'", ["a", "b"]),
        (r"printf 'a\r\n\r\nb\r\n'", ["a", "b"]),
        (r"printf '\n\na\n\n'", ["a"]),
        (r"printf 'a\xffb\n'", ["a\ufffdb"]),
        (r"printf '\x1b[31mred\x1b[0m\tx\x07\n'", ["red\tx"]),
        (r"printf '/who\n/quit\n'", ["/who", "/quit"]),
        (r"printf '日本語\n'", ["日本語"]),
    ],
)
def test_kinds_of_input(program: list[str], server: Running, script: str, texts: list[str]) -> None:
    """Each line that is not empty is one message, whatever its line ending and content."""
    done = shell(f'{script} | "$@" connect {server.url} --room kinds', program, LC_ALL="C")
    assert done.code == 0
    assert done.output.splitlines() == [f"anonymous: {text}" for text in texts]
    assert done.errors == ""


def test_json(program: list[str], server: Running) -> None:
    """With `--json`, each output line is a JSON event that is safe for a terminal."""
    script = rf"""printf '\x1b[2J\xc2\x9b\xe2\x80\xae"\\\n' | "$@" connect {server.url} --json"""
    done = shell(f"{script} --room json --name ann", program)
    events = [json.loads(line) for line in done.output.splitlines()]
    assert [event["type"] for event in events] == ["welcome", "message"]
    assert events[1]["text"] == '\x1b[2J\x9b\u202e"\\'
    assert events[1]["name"] == "ann"
    assert all(char == "\n" or char >= " " for char in done.output)
    assert not set("\x9b\u202e") & set(done.output)
    assert done.code == 0


def test_a_progress_bar(program: list[str], server: Running) -> None:
    """Of a progress bar, the state is published that it has at the end of its line."""
    script = rf"""printf 'a\rb\rc\n1%%\b\b22%%\n5%%\r' | "$@" connect {server.url} --room bars"""
    done = shell(script, program)
    assert (done.code, done.output) == (0, "anonymous: c\nanonymous: 22%\nanonymous: 5%\n")


def test_a_listener_keeps_up_with_a_flood(program: list[str]) -> None:
    """At the defaults, a client that sends as fast as it can makes no reader of ours lag."""
    with (
        running(*program, "start", "--port", "0") as server,
        running(*program, "connect", server.url, "--listen", "--name", "ear") as listener,
    ):
        until(lambda: "ear joined" in server.errors, "a listener")
        # What may come at once, and two seconds' worth after it.
        done = shell('seq 1100 | "$@" connect URL --name flood'.replace("URL", server.url), program)
        assert (done.code, done.errors) == (0, "")
        texts = [f"flood: {number}" for number in range(1, 1101)]
        until(lambda: len(listener.lines) == 1102, "all lines")
        assert listener.lines[1:-1] == texts
        assert listener.errors == ""


def test_a_listener_stays_after_the_end_of_input(program: list[str], server: Running) -> None:
    """With `--listen`, the client stays and prints messages, joins and leaves as plain text."""
    with running(*program, "connect", server.url, "--room", "ears", "--listen") as listener:
        listener.say("I listen\n")
        assert listener.process.stdin is not None
        listener.process.stdin.close()
        until(lambda: listener.lines == ["anonymous: I listen"], "an echo")
        shell(f'echo hi | "$@" connect {server.url} --room ears --name bob', program)
        until(lambda: len(listener.lines) == 4, "four lines")
        assert listener.lines[1:] == ["bob joined the chat", "bob: hi", "bob left the chat"]
        shell(f'echo ok | "$@" connect {server.url}ears --name ci --quiet-join', program)
        say(server.url, "ears", "curl", "bye")
        until(lambda: len(listener.lines) == 6, "two more lines")
        assert listener.lines[4:] == ["ci: ok", "curl: bye"]
        assert listener.signal(signal.SIGTERM) == 0


# -- large input --


def test_a_hundred_thousand_lines(program: list[str], server: Running) -> None:
    """100,000 lines are received in order, and the memory of both clients stays bounded."""
    name = ["--room", "much", "--name"]
    with ExitStack() as stack:
        listen = *program, "connect", server.url, *name, "listener", "--listen"
        listener = stack.enter_context(running(*listen))
        until(lambda: "listener joined much" in server.errors, "a listener")
        sender = stack.enter_context(running(*program, "connect", server.url, *name, "n"))
        sender.say("".join(f"{number}\n" for number in range(1, 5001)))
        until(lambda: listener.lines[-1:] == ["n: 5000"], "the first lines")
        before = listener.rss, sender.rss
        sender.say("".join(f"{number}\n" for number in range(5001, 100_001)))
        until(lambda: sender.output.endswith("n: 100000\n"), "all echoes")
        until(lambda: listener.output.endswith("n: 100000\n"), "all lines")
        growth = listener.rss - before[0], sender.rss - before[1]
        assert max(growth) < 8 * MIB, growth
        assert sender.end() == 0
        expected = [f"n: {number}" for number in range(1, 100_001)]
        assert sender.lines == expected
        assert [line for line in listener.lines if ": " in line] == expected
        assert listener.signal(signal.SIGINT) == 0


# -- restarts --


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_restart_loses_no_line(program: list[str], number: int) -> None:
    """If the server is stopped or killed and restarted, every line is published once.

    Which server receives a line cannot be controlled, so the test compares the echoes that the
    sender printed: each line, once, in order.
    """
    with running(*program, "start", "--port", "0", *NO_RATE) as first:
        url, port = first.url, first.port
        with (
            running(*program, "connect", url, "--name", "listener", "--listen") as listener,
            running(*program, "connect", url, "--name", "app") as sender,
        ):
            until(lambda: "listener joined" in first.errors, "a listener")
            sender.say("".join(f"before {count}\n" for count in range(100)))
            until(lambda: len(printed(listener)) == 100, "the first lines")
            sender.say("".join(f"during {count}\n" for count in range(3000)))
            first.process.send_signal(number)
            first.process.wait()
            sender.say("".join(f"after {count}\n" for count in range(100)))
            with running(*program, "start", "--port", port, *NO_RATE) as second:
                assert second.url == url
                expected = [f"app: before {count}" for count in range(100)]
                expected += [f"app: during {count}" for count in range(3000)]
                expected += [f"app: after {count}" for count in range(100)]
                assert sender.end() == 0
                assert printed(sender) == expected
                assert "trying again in" in sender.errors
                assert sender.errors.rstrip().endswith("* connected again")
                assert "-- messages may be missing --" in sender.lines
                if number == signal.SIGTERM:  # a killed server may not have reached the listener
                    until(lambda: set(printed(listener)) >= set(expected), "all lines")
                assert listener.signal(signal.SIGINT) == 0


def printed(client: Running) -> list[str]:
    """Return the messages that a client has printed."""
    return [line for line in client.lines if line.startswith("app: ")]


def test_timestamps(program: list[str], server: Running) -> None:
    """With --timestamps each line begins with the time, of a message that of the message."""
    say(server.url, "times", "ann", "one\ntwo")
    done = shell(
        f'echo three | "$@" connect {server.url} --room times --history 1 --timestamps', program
    )
    at, *rest = (line.split(" ", 1) for line in done.output.splitlines())
    assert [text for _, text in (at, *rest)] == ["ann: one", "ann: two", "anonymous: three"]
    times = [datetime.fromisoformat(time.replace("Z", "+00:00")) for time, _ in (at, *rest)]
    assert times[0] == times[1] <= times[2] <= datetime.now(timezone.utc)
