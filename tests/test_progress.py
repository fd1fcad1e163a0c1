"""The progress line: there while something takes long, for who can see it, and gone at the end."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest
from programs import running

from broadcast_server.progress import PATIENCE, Pace, progress_words


@pytest.mark.parametrize(
    ("read", "size", "words"),
    [
        (500, None, "12,345 said, 11,345 came back"),
        (500, 1000, "12,345 said, 11,345 came back, 50 %"),
        (999, 1000, "12,345 said, 11,345 came back, 99 %"),
        (2000, 1000, "12,345 said, 11,345 came back, 100 %"),  # it has grown
        (0, 0, "12,345 said, 11,345 came back"),
    ],
)
def test_words_for_how_far_it_is(read: int, size: int | None, words: str) -> None:
    """It says what was said, what came back, and how much of the input that is if that is known."""
    assert progress_words(12_345, 11_345, read, size) == words


def test_what_is_over_in_a_moment_has_no_line() -> None:
    """There is a line only after something was under way for a while, and none once it is done."""
    pace = Pace()
    assert not pace.shows(0, 0, 0.0)
    assert not pace.shows(5, 0, 1.0)
    assert not pace.shows(5, 5, 1.0 + PATIENCE)  # done
    assert not pace.shows(6, 5, 10.0)
    assert not pace.shows(7, 5, 10.0 + PATIENCE / 2)
    assert pace.shows(7, 5, 10.0 + PATIENCE)
    assert pace.shows(9, 9, 10.0 + PATIENCE)  # by chance between two chunks
    assert not pace.shows(9, 9, 10.0 + PATIENCE)


def test_a_file_that_takes_long(program: list[str], tmp_path: Path) -> None:
    """A terminal on standard error shows how far a file is, and nothing of it at the end."""
    lines = tmp_path / "lines"
    lines.write_text("1\n2\n3\n")
    ours, theirs = pty.openpty()
    with running(*program, "start", "--port", "0") as server:
        command = [*program, "connect", server.url]
        server.process.send_signal(signal.SIGSTOP)
        with (
            lines.open("rb") as stdin,
            lines.open("rb") as again,
            running(*command, "--room", "unseen", stdin=again) as unseen,
        ):
            seen = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=theirs)
            os.close(theirs)
            try:
                shown = os.read(ours, 1000).decode()
                assert shown == "\r3 said, 0 came back, 100 %"
                server.process.send_signal(signal.SIGCONT)
                output, _ = seen.communicate(timeout=20)
                assert seen.returncode == unseen.wait() == 0
                assert unseen.errors == ""
            finally:
                seen.kill()
                seen.wait()
        assert output.decode().count(": ") == 3
        while chunk := rest(ours):
            shown += chunk
        os.close(ours)
        assert shown.endswith(f"\r{' ' * len('3 said, 0 came back, 100 %')}\r")


def rest(terminal: int) -> str:
    """Read what is left of what a terminal was sent."""
    try:
        return os.read(terminal, 1000).decode()
    except OSError:  # all of it was read, and nobody writes any more
        return ""
