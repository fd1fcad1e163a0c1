"""The run command: runs a command, and reports its start and its end to a room.

The command has priority. It starts at once, inherits our streams and other open files,
receives our signals, and its exit code becomes ours. A thread reports to the room meanwhile;
if that fails, one line on standard error says so.

What a report needs is imported before the command starts, although a command that succeeds may need
no report: the command may replace the single file, and then nothing can be imported from it.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from time import monotonic
from types import FrameType

from broadcast_server.client.fitting_publisher import FittingPublisher
from broadcast_server.client.oversize import SPLIT
from broadcast_server.client.publisher import HTTPPublisher, PublishFailed
from broadcast_server.client.target import Target
from broadcast_server.console.argument import argument_text
from broadcast_server.console.child_environment import child_environment
from broadcast_server.console.os_error import describe_os_error
from broadcast_server.console.streams import note
from broadcast_server.pipe.process_text import command_text, duration_text, exit_text

NOT_FOUND, NOT_RUN, KILLED = 127, 126, 128
"""Exit codes as in a shell; the signal's number is added to KILLED."""

KEYBOARD_SIGNALS = ("SIGINT", "SIGQUIT")
"""Signals of key presses, which the terminal sends to every process of the foreground job.

SIGTSTP is another one, but to get it twice changes nothing: SIGCONT discards the second.
"""

FORWARDED_SIGNALS = (
    *KEYBOARD_SIGNALS,
    "SIGTSTP",
    "SIGCONT",
    "SIGTERM",
    "SIGHUP",
    "SIGUSR1",
    "SIGUSR2",
)
"""Signals that are passed on to the command."""


def run(options: argparse.Namespace, target: Target | None) -> int:
    """Run the command of the *options* of `run`, and return its exit code.

    Without a *target* nothing is reported.
    """
    command = ChildProcess(options.exec)
    reporter = Reporter(
        None if target is None else lambda: HTTPPublisher(target, options.name, options.room),
        options.oversize,
    )
    label = " ".join(argument_text(options.label or "").split()) or command_text(options.exec)
    with command.forward_signals(reporter.give_up):
        started = monotonic()
        try:
            process = command.start()
        except OSError as error:
            code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_RUN
            why = "command not found" if code == NOT_FOUND else describe_os_error(error)
            note(f"broadcast-server run: {options.exec[0]}: {why}")
            outcome = f"did not start: {why}"
        else:
            if not options.only_failures:
                reporter.report(f"started: {label}")
            code = command.wait(process)
            outcome = f"{exit_text(code)} after {duration_text(monotonic() - started)}"
        if code or not options.only_failures:
            reporter.report(f"{label} {outcome}")
        if problem := reporter.finish(options.timeout):
            note(f"* could not report to the room: {problem}")
    return KILLED - code if code < 0 else code


class ChildProcess:
    """The command that runs."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []  # signals that arrived before the command had started
        self._starting = False
        self._ended = False

    @contextmanager
    def forward_signals(self, afterwards: Callable[[], None]) -> Iterator[None]:
        """Pass signals on to the command inside this context.

        A signal that arrives after the command has ended calls *afterwards* instead.
        """

        def forward(number: int, _: FrameType | None) -> None:
            if self._ended and number == getattr(signal, "SIGTSTP", None):
                _suspend()
            elif self._ended:
                if number != getattr(signal, "SIGCONT", None):
                    afterwards()
            elif self._starting and number in keyboard and _terminal_signals(self._process):
                pass  # the command has got it too, even if we do not know its process yet
            elif self._process is None:
                self._early.append(number)
            else:
                self._process.send_signal(number)

        numbers = [getattr(signal, name) for name in FORWARDED_SIGNALS if hasattr(signal, name)]
        keyboard = {getattr(signal, name) for name in KEYBOARD_SIGNALS if hasattr(signal, name)}
        # A signal that we ignore, under nohup or in the background, the command inherits as
        # ignored. Leave it so.
        previous = {
            number: handler
            for number in numbers
            if (handler := signal.getsignal(number)) is not signal.SIG_IGN
        }
        for number in previous:
            signal.signal(number, forward)
        try:
            yield
        finally:
            # Nothing is left to interrupt, and what was done decides the exit code.
            for number in previous:
                signal.signal(number, signal.SIG_IGN)

    def start(self) -> subprocess.Popen[bytes]:
        """Start the command, and send it the signals that arrived before. Raises OSError."""
        self._starting = True
        # Inherited files stay open for the command, such as the jobserver pipe of make.
        self._process = subprocess.Popen(self._words, close_fds=False, env=child_environment())
        for number in self._early:
            self._process.send_signal(number)
        return self._process

    def wait(self, process: subprocess.Popen[bytes]) -> int:
        """Wait for its end; return its exit code, or minus the number of the signal.

        When the command is suspended, we are, so that the shell notices it, and not before: the
        command may have to restore the terminal.
        """
        if sys.platform != "win32":
            with suppress(ChildProcessError):  # `send_signal` has got the exit code
                while process.returncode is None:
                    status = os.waitpid(process.pid, os.WUNTRACED)[1]
                    if not os.WIFSTOPPED(status):
                        process.returncode = os.waitstatus_to_exitcode(status)
                    elif os.WSTOPSIG(status) != signal.SIGSTOP:  # which only the command has got
                        _suspend()
        code = process.wait()
        self._ended = True
        return code


if sys.platform == "win32":

    def _suspend() -> None:
        """Do nothing: there are no jobs."""

    def _terminal_signals(process: subprocess.Popen[bytes] | None) -> bool:
        """Whether the terminal sends the signal of a key to the command as well."""
        return True

else:

    def _suspend() -> None:
        """Stop until SIGCONT, unless nobody could send it because there is no shell."""
        handler = signal.getsignal(signal.SIGTSTP)
        if handler is not signal.SIG_IGN:
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, handler)

    def _terminal_signals(process: subprocess.Popen[bytes] | None) -> bool:
        """Whether the terminal sends the signal of a key to the command as well.

        It does if we are in the foreground job of a terminal, and the command's *process* is in the
        same job, as it is at first.
        """
        try:
            terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
        except OSError:
            return False
        try:
            group = os.getpgrp() if process is None else os.getpgid(process.pid)
            return os.tcgetpgrp(terminal) == os.getpgrp() == group
        except OSError:
            return False
        finally:
            os.close(terminal)


class Reporter:
    """Publishes reports to a room, in a thread of its own; without *make_publisher* it does not."""

    def __init__(
        self, make_publisher: Callable[[], HTTPPublisher] | None, oversize: str = SPLIT
    ) -> None:
        self._make_publisher = make_publisher
        self._oversize = oversize
        self._publisher: HTTPPublisher | None = None
        self._texts: SimpleQueue[str | None] = SimpleQueue()
        self._problem = ""
        self._done = threading.Event()
        self._gave_up = False

    def report(self, text: str) -> None:
        """Publish *text* as soon as possible."""
        if self._make_publisher is None:
            return
        self._texts.put(text)
        if self._publisher is None:  # created now, so that it does not delay the command's start
            self._publisher = self._make_publisher()
            threading.Thread(target=self._run, args=(self._publisher,), daemon=True).start()

    def finish(self, seconds: float) -> str:
        """Wait at most *seconds* until all is published; return what failed, empty if nothing."""
        if self._publisher is None:
            return ""
        self._texts.put(None)
        self._publisher.finish_within(seconds)
        done = self._done.wait(seconds + 0.2)
        if self._gave_up:
            return "interrupted"
        return self._problem if done else self._problem or "no answer in time"

    def give_up(self) -> None:
        """Make `finish` return, because the user wants to leave."""
        self._gave_up = True
        self._done.set()

    def _run(self, publisher: HTTPPublisher) -> None:
        fitting = FittingPublisher(publisher, self._oversize)
        while (text := self._texts.get()) is not None:
            try:
                for _ in fitting.publish(text):
                    pass
            except PublishFailed as error:
                self._problem = self._problem or error.why
        self._done.set()
