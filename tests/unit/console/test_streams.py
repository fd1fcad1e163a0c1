"""Standard output and error: a stream that is closed or full never causes a traceback."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from broadcast_server.console.streams import flush_streams, note, stdout_error

FULL = Path("/dev/full")


def test_a_note_is_one_line_without_control_characters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A note with text from the network is one harmless line of standard error."""
    note("refused: \x1b[31mred\r\n\u202eevil")
    assert capsys.readouterr() == ("", "refused: redevil\n")


def test_a_note_without_standard_error_is_dropped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If standard error is closed, a note is not written to standard output either."""
    monkeypatch.setattr(sys, "stderr", None)
    note("lost")
    assert capsys.readouterr().out == ""


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
def test_a_failure_to_flush_is_returned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flushing returns the error of standard output once; the stream is replaced after that."""
    with io.TextIOWrapper(io.BufferedWriter(io.FileIO(FULL, "w"))) as full:
        monkeypatch.setattr(sys, "stdout", full)
        full.write("lost")
        error = flush_streams()
        assert error is not None
        assert stdout_error(error) == "Could not write to standard output: no space left on device"
        assert flush_streams() is None
