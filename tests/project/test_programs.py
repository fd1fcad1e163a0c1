"""The harness that runs programs: what it shows of one that does not do what a test waits for."""

from __future__ import annotations

import sys

import programs
import pytest
from programs import listening, running


def test_a_server_that_does_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure has the program's output, and where each of its threads is."""
    code = "import sys, time; print('preparing', file=sys.stderr, flush=True); time.sleep(60)"
    with running(sys.executable, "-c", code) as site:
        programs.until(lambda: "preparing" in site.errors)
        monkeypatch.setattr(programs, "PATIENCE", 0.2)
        with pytest.raises(AssertionError) as failed:
            listening(site)
    assert "does not listen:\npreparing\n" in str(failed.value)
    assert 'File "<string>", line 1 in <module>' in str(failed.value)


def test_a_server_that_ended() -> None:
    """A program that has ended is not waited for."""
    with running(sys.executable, "-c", "raise SystemExit('no database')") as site:
        with pytest.raises(AssertionError, match="ended with 1:\nno database"):
            listening(site)
