"""A CI notifier: runs a command, tells a room how it ended, and exits as the command did.

Usage: python3 ci_notifier.py URL JOB COMMAND [ARGUMENT ...]. The token is in CI_ROOM_TOKEN.
"""

import os
import subprocess
import sys
import time

from broadcast_server import BroadcastError, connect_sync


def main(url: str, job: str, command: list[str]) -> int:
    """Run *command*, and tell the room `builds` how it ended. Return its exit code."""
    begin = time.monotonic()
    code = subprocess.run(command, check=False).returncode
    outcome = "passed" if code == 0 else f"FAILED with {code}"
    text = f"{job} {outcome} after {time.monotonic() - begin:.0f} s"
    token = os.environ.get("CI_ROOM_TOKEN")
    try:
        with connect_sync(url, name="ci", room="builds", token=token, open_timeout=10) as room:
            message = room.send(text, timeout=10)
            print(f"told {message.room} as number {message.seq}: {text}")
    except (BroadcastError, TimeoutError) as error:  # the room must not break the build
        print(f"told nobody: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
