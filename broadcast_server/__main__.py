"""Run as ``python -m broadcast_server``; the single file begins here as well."""

import os
import signal
import sys


def run() -> int:
    """Run the command line."""
    # Outside of its loop, which knows better, Ctrl+C ends the program at once: there
    # is nothing to tidy up, and a KeyboardInterrupt may come up in the middle of an
    # import, or of the interpreter's own end.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as it is in the background
        signal.signal(signal.SIGINT, lambda *_: os._exit(1))
    from .cli import main

    return main()


if __name__ == "__main__":
    sys.exit(run())
