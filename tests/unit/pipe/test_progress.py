"""The progress line: shown on a terminal while something takes long, and erased at the end."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest
from programs import running

from broadcast_server.pipe.progress import SHOW_AFTER_S, ProgressGate, progress_text


@pytest.mark.parametrize(
    ("read", "size", "text"),
    [
        (500, None, "12,345 sent, 11,345 confirmed"),
        (500, 1000, "12,345 sent, 11,345 confirmed, 50 %"),
        (999, 1000, "12,345 sent, 11,345 confirmed, 99 %"),
        (2000, 1000, "12,345 sent, 11,345 confirmed, 100 %"),  # the file has grown
        (0, 0, "12,345 sent, 11,345 confirmed"),
    ],
)
def test_progress_texts(read: int, size: int | None, text: str) -> None:
    """The text has the messages sent and confirmed, and the percentage read if it is known."""
    assert progress_text(12_345, 11_345, read, size) == text


def test_the_line_appears_after_a_while() -> None:
    """The line is shown once messages were on their way for long, and is hidden after the end."""
    gate = ProgressGate()
    assert not gate.shows(0, 0, 0.0)
    assert not gate.shows(5, 0, 1.0)
    assert not gate.shows(5, 5, 1.0 + SHOW_AFTER_S)  # done
    assert not gate.shows(6, 5, 10.0)
    assert not gate.shows(7, 5, 10.0 + SHOW_AFTER_S / 2)
    assert gate.shows(7, 5, 10.0 + SHOW_AFTER_S)
    assert gate.shows(9, 9, 10.0 + SHOW_AFTER_S)  # perhaps only a pause between two chunks
    assert not gate.shows(9, 9, 10.0 + SHOW_AFTER_S)


def test_a_file_that_takes_long(program: list[str], tmp_path: Path) -> None:
    """A terminal on standard error shows the progress of a file until the end of the run."""
    lines = tmp_path / "lines"
    lines.write_text("1\n2\n3\n")
    ours, theirs = pty.openpty()
    with running(*program, "start", "--port", "0") as server:
        command = [*program, "connect", server.url]
        server.process.send_signal(signal.SIGSTOP)
        with (
            lines.open("rb") as stdin,
            lines.open("rb") as again,
            running(*command, "--room", "unseen", stdin=again) as without_terminal,
        ):
            with_terminal = subprocess.Popen(
                command, stdin=stdin, stdout=subprocess.PIPE, stderr=theirs
            )
            os.close(theirs)
            try:
                shown = os.read(ours, 1000).decode()
                assert shown == "\r3 sent, 0 confirmed, 100 %"
                server.process.send_signal(signal.SIGCONT)
                output, _ = with_terminal.communicate(timeout=20)
                assert with_terminal.returncode == without_terminal.wait() == 0
                assert without_terminal.errors == ""
            finally:
                with_terminal.kill()
                with_terminal.wait()
        assert output.decode().count(": ") == 3
        while chunk := read_rest(ours):
            shown += chunk
        os.close(ours)
        assert shown.endswith(f"\r{' ' * len('3 sent, 0 confirmed, 100 %')}\r")


def read_rest(terminal: int) -> str:
    """Read what is left of the output to a terminal."""
    try:
        return os.read(terminal, 1000).decode()
    except OSError:  # everything was read, and no writer is left
        return ""
