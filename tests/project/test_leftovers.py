"""A test run that is cut off: what it has started ends with it."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from leftovers import belonging
from programs import ROOT, running, until
from services import SHARED_FOLDER

CUT_OFF = """
import sys
from pathlib import Path
from leftovers import watch
from programs import running
from services import SHARED_FOLDER, postgresql, redis_server
watch(SHARED_FOLDER)
data = Path(sys.argv[1], "postgresql")
with redis_server(), postgresql(data, empty=True), running("sleep", "600"):
    print("all run", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="there is no /proc here")
def test_nothing_outlives_a_run_that_is_killed(tmp_path: Path) -> None:
    """After SIGKILL of the run, its PostgreSQL and its other processes end, and its folder goes."""
    # Not in pytest's folder: PostgreSQL's user cannot read that if pytest runs as root.
    with tempfile.TemporaryDirectory() as data:
        (folder := tmp_path / "shared").mkdir()
        variables: dict[str, Any] = {SHARED_FOLDER: str(folder)}
        variables["PYTHONPATH"] = str(ROOT / "tests")
        with running(sys.executable, "-c", CUT_OFF, data, **variables) as run:
            until(lambda: run.lines == ["all run"] or run.process.poll(), "a run")
            assert run.process.poll() is None, run.errors
            entry = f"{SHARED_FOLDER}={folder}"
            names = {(each / "comm").read_text().strip() for each in belonging(entry)}
            assert names >= {"postgres", "redis-server", "sleep"}
            run.process.kill()
            until(lambda: not belonging(entry), "the end of all")
            until(lambda: not folder.exists(), "the end of the folder")
