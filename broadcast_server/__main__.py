"""The entry point of ``python -m broadcast_server`` and of the single file."""

import gc
import os
import signal
import sys


def run() -> int:
    """Run the command line, and return the exit status of the process."""
    # Outside of an event loop, which handles SIGINT itself, Ctrl+C ends the process at once. There
    # is nothing to clean up, and a KeyboardInterrupt could be raised in the middle of an import or
    # while the interpreter shuts down.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # a background job ignores it
        signal.signal(signal.SIGINT, lambda *_: os._exit(1))
    # What the start leaves behind lasts to the end: `start` and `connect` enable the garbage
    # collector when they have loaded all modules, and others end soon.
    gc.disable()
    from broadcast_server.cli.main import main

    code = main()
    # The exit code says what was done, and Python takes some time to exit.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):  # Windows has no SIGHUP
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    return code


if __name__ == "__main__":
    sys.exit(run())
