"""The pipe: every line is said once and in order, whatever the lines and the server do."""

from __future__ import annotations

import json
import signal
import tracemalloc
from contextlib import ExitStack
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import Running, running, shell, until

from broadcast_server.conversation import missed_words
from broadcast_server.pipe import LONGEST_LINE, Lines

MIB = 2**20


# -- lines --


@given(
    st.lists(st.binary(max_size=8).filter(lambda line: b"\n" not in line)),
    st.lists(st.integers(0, 40), max_size=5),
    st.booleans(),
)
def test_lines_do_not_depend_on_how_they_are_read(
    whole: list[bytes], cuts: list[int], ended: bool
) -> None:
    """However a stream falls into pieces, its lines are the same, and empty ones are left out."""
    data = b"\n".join(whole) + (b"\n" if ended else b"")
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    lines = Lines()
    got = [line for start, end in pairwise(places) for line in lines.feed(data[start:end])]
    got += lines.end()
    texts = [line.rstrip(b"\r").decode(errors="replace") for line in data.split(b"\n")]
    assert got == [text for text in texts if text]
    assert not lines.too_long


@pytest.mark.parametrize("size", [LONGEST_LINE, LONGEST_LINE + 1, 10_000_000])
@pytest.mark.parametrize("ended", [True, False])
def test_a_line_that_is_too_long_is_counted_and_not_kept(size: int, ended: bool) -> None:
    """A line over the limit costs little memory and its number is told; the others go through."""
    lines, piece = Lines(), b"x" * 50_000
    got = lines.feed(b"before\n")
    tracemalloc.start()
    for _ in range(size // len(piece)):
        got += lines.feed(piece)
    got += lines.feed(b"x" * (size % len(piece)) + (b"\nafter\n" if ended else b""))
    got += lines.end()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MIB
    kept = ["x" * size] if size <= LONGEST_LINE else []
    assert got == ["before", *kept, *(["after"] if ended else [])]
    assert lines.too_long == ([] if kept else [2])


@pytest.mark.parametrize(
    ("missed", "words"),
    [
        (None, "-- messages may be missing --"),
        (1, "-- 1 message missed --"),
        (37, "-- 37 messages missed --"),
    ],
)
def test_words_for_what_is_missing(missed: int | None, words: str) -> None:
    """It is said how many messages are missing, where that can be known."""
    assert missed_words(missed) == words


# -- input of every kind --


@pytest.mark.parametrize(
    ("script", "said"),
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
def test_input_of_every_kind(
    program: list[str], server: Running, script: str, said: list[str]
) -> None:
    """Each line that is not empty is one message, whatever ends it and whatever is in it."""
    done = shell(f'{script} | "$@" connect {server.url} --room kinds', program, LC_ALL="C")
    assert done.code == 0
    assert done.output.splitlines() == [f"anonymous: {text}" for text in said]
    assert done.errors == ""


def test_lines_that_are_too_long(program: list[str], server: Running) -> None:
    """Lines over the server's limit and over any are told and fail the command at its end."""
    script = (
        """(echo 1; printf 'x%.0s' {1..5000}; echo; echo 2;"""
        """ head -c 10000000 /dev/zero; echo; printf 3)"""
    )
    done = shell(f'{script} | "$@" connect {server.url} --room long', program)
    assert done.code == 1
    assert done.output == "anonymous: 1\nanonymous: 2\nanonymous: 3\n"
    assert sorted(done.errors.splitlines()) == [
        "* line 4 is over 131072 bytes, it is not sent",
        "* message is 5000 bytes, limit is 4096",
    ]


def test_json(program: list[str], server: Running) -> None:
    """With ``--json`` each line is an event that means what it was, and harms no terminal."""
    script = rf"""printf '\x1b[2J\xc2\x9b\xe2\x80\xae"\\\n' | "$@" connect {server.url} --json"""
    done = shell(f"{script} --room json --name ann", program)
    events = [json.loads(line) for line in done.output.splitlines()]
    assert [event["type"] for event in events] == ["welcome", "message"]
    assert events[1]["text"] == '\x1b[2J\x9b\u202e"\\'
    assert events[1]["name"] == "ann"
    assert all(char == "\n" or char >= " " for char in done.output)
    assert not set("\x9b\u202e") & set(done.output)
    assert done.code == 0


def test_a_listener_stays_and_hears_who_comes_and_goes(program: list[str], server: Running) -> None:
    """``--listen`` goes on after the end of the input, and shows the room in plain lines."""
    with running(*program, "connect", server.url, "--room", "ears", "--listen") as ear:
        ear.say("I listen\n")
        assert ear.process.stdin is not None
        ear.process.stdin.close()
        until(lambda: ear.lines == ["anonymous: I listen"], "an echo")
        shell(f'echo hi | "$@" connect {server.url} --room ears --name bob', program)
        until(lambda: len(ear.lines) == 4, "four lines")
        assert ear.lines[1:] == ["bob joined the chat", "bob: hi", "bob left the chat"]
        assert ear.signal(signal.SIGTERM) == 0


# -- much --


def test_a_hundred_thousand_lines(program: list[str], server: Running) -> None:
    """100,000 lines arrive whole and in order at a listener, and neither end piles them up."""
    name = ["--room", "much", "--name"]
    with ExitStack() as both:
        listen = *program, "connect", server.url, *name, "ear", "--listen"
        ear = both.enter_context(running(*listen))
        until(lambda: "ear joined much" in server.errors, "a listener")
        talker = both.enter_context(running(*program, "connect", server.url, *name, "n"))
        talker.say("".join(f"{number}\n" for number in range(1, 5001)))
        until(lambda: ear.lines[-1:] == ["n: 5000"], "the first lines")
        before = ear.rss, talker.rss
        talker.say("".join(f"{number}\n" for number in range(5001, 100_001)))
        until(lambda: talker.output.endswith("n: 100000\n"), "all echoes")
        until(lambda: ear.output.endswith("n: 100000\n"), "all lines")
        grown = ear.rss - before[0], talker.rss - before[1]
        assert max(grown) < 8 * MIB, grown
        assert talker.end() == 0
        said = [f"n: {number}" for number in range(1, 100_001)]
        assert talker.lines == said
        assert [line for line in ear.lines if ": " in line] == said
        assert ear.signal(signal.SIGINT) == 0


# -- restarts --


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_of_the_server_loses_no_line(program: list[str], number: int) -> None:
    """Lines that come while the server is stopped or killed, and started anew, are all said.

    Which server took a line cannot be chosen, and so what is compared is what
    the talker itself saw come back: each line, once, in order.
    """
    with running(*program, "start", "--port", "0") as first:
        url, port = first.url, first.port
        with (
            running(*program, "connect", url, "--name", "ear", "--listen") as ear,
            running(*program, "connect", url, "--name", "app") as talker,
        ):
            until(lambda: "ear joined" in first.errors, "a listener")
            talker.say("".join(f"before {count}\n" for count in range(100)))
            until(lambda: len(heard(ear)) == 100, "the first lines")
            talker.say("".join(f"during {count}\n" for count in range(3000)))
            first.process.send_signal(number)
            first.process.wait()
            talker.say("".join(f"after {count}\n" for count in range(100)))
            with running(*program, "start", "--port", port) as second:
                assert second.url == url
                said = [f"app: before {count}" for count in range(100)]
                said += [f"app: during {count}" for count in range(3000)]
                said += [f"app: after {count}" for count in range(100)]
                assert talker.end() == 0
                assert heard(talker) == said
                assert "trying again in" in talker.errors
                assert "-- messages may be missing --" in talker.lines
                if number == signal.SIGTERM:  # a server that is killed may not have told everyone
                    until(lambda: set(heard(ear)) >= set(said), "all lines at the listener")
                assert ear.signal(signal.SIGINT) == 0


def heard(client: Running) -> list[str]:
    """Return the messages that a client has printed."""
    return [line for line in client.lines if line.startswith("app: ")]
