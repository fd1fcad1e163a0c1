"""The standard streams: whatever is wrong with them, nothing is shown that nobody understands."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from broadcast_server.streams import no_output, note, settle

FULL = Path("/dev/full")


def test_a_note_goes_to_standard_error_without_what_a_terminal_obeys(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A note that holds words of the network's is one harmless line of standard error."""
    note("refused: \x1b[31mred\r\n\u202eevil")
    assert capsys.readouterr() == ("", "refused: redevil\n")


def test_without_standard_error_a_note_goes_nowhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A note is not put on standard output when standard error is closed."""
    monkeypatch.setattr(sys, "stderr", None)
    note("lost")
    assert capsys.readouterr().out == ""


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
def test_what_cannot_be_flushed_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settling returns what is wrong with standard output, and then nothing is wrong any more."""
    with io.TextIOWrapper(io.BufferedWriter(io.FileIO(FULL, "w"))) as full:
        monkeypatch.setattr(sys, "stdout", full)
        full.write("for nobody")
        wrong = settle()
        assert wrong is not None
        assert no_output(wrong) == "Could not write to standard output: no space left on device"
        assert settle() is None
