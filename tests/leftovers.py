"""Ends what a test run has left running, however the run ends.

`watch` starts this file as a process of its own, which waits for the end of its standard input.
That comes with the end of the process that started it, also if a signal has killed that one. What
belongs to the run is found by a variable of its environment: a PostgreSQL is no longer a child of
the process that has started it, and the servers of a worker know nothing of its end.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

END_TIMEOUT_S = 10.0
"""Seconds that processes may take to end after their signal."""


def watch(variable: str) -> subprocess.Popen[bytes] | None:
    """Watch over this process and all that inherit *variable*, the name of the run's folder.

    Returns:
        The process that watches, which ends them when its standard input ends, and removes the
        folder. None on a system that does not tell the environment of a process.
    """
    if not Path("/proc/self/environ").exists():
        return None
    others = {name: value for name, value in os.environ.items() if name != variable}
    return subprocess.Popen(
        [sys.executable, "-S", __file__, variable, os.environ[variable]],
        stdin=subprocess.PIPE,
        env=others,
        start_new_session=True,  # a signal for the whole group of the run is none for this
    )


def belonging(entry: str) -> list[Path]:
    """Return the folders in /proc of all processes with *entry* in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is another user's
            if os.fsencode(entry) in (process / "environ").read_bytes().split(b"\0"):
                found.append(process)
    return found


def end(process: Path) -> None:
    """Send a process the signal that ends it at once."""
    with suppress(OSError):
        # A PostgreSQL that is killed leaves its shared memory behind.
        is_postgres = (process / "comm").read_text().strip() == "postgres"
        os.kill(int(process.name), signal.SIGQUIT if is_postgres else signal.SIGKILL)


def main(variable: str, folder: str) -> None:
    """Wait for the end of the run, and end what is left of it."""
    sys.stdin.buffer.read()
    begin = time.monotonic()
    while (left := belonging(f"{variable}={folder}")) and time.monotonic() < begin + END_TIMEOUT_S:
        for process in left:
            end(process)
        time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
