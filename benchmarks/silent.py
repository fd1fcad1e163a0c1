"""The silent: what a thousand clients that never read cost a server, and those who do read.

`python -m benchmarks.silent` takes each server with and without them, one after the other and
each time newly started: what the others wait for their messages, and what memory the server
and the system's sockets hold. Then it follows one server of each kind until the silent have
been found out. The figures go to a file, and with matplotlib there is a plot of the second part.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from .catalogue import SERVERS
from .hosted import DAPHNE, UVICORN, site
from .load import LOADS_CORE, Failed, Figures, Load, faults
from .result import now
from .servers import BUILT, Running, Server, running

READERS = 100
SIZE = 1024

PERIOD = 0.25
"""Seconds between two looks at the memory."""

WAVE = 10
"""So many of them come at once: Daphne cuts who is not in after 5 seconds."""

HANDSHAKE = (
    b"GET /?name=silent HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: bG9hZCBnZW5lcmF0b3IhIQ==\r\n\r\n"
)


@dataclass(frozen=True)
class Subject:
    """A server, and how much is said to it: messages a second, and under way at once."""

    server: Server
    rate: int
    window: int


SUBJECTS = (
    Subject(SERVERS[0], 1000, 30),
    Subject(site(DAPHNE, "SQLite, in memory", {}), 50, 12),
    Subject(site(UVICORN, "SQLite, in memory", {}), 50, 12),
)


@contextmanager
def silent(port: int, count: int) -> Iterator[None]:
    """Have so many clients in the room that read the answer to their handshake and no more."""
    there: list[socket.socket] = []
    try:
        while len(there) < count:
            _come(port, min(WAVE, count - len(there)), there)
        yield
    finally:
        for one in there:
            one.close()


def _come(port: int, count: int, there: list[socket.socket]) -> None:
    try:
        for _ in range(count):
            one = socket.create_connection(("127.0.0.1", port), timeout=30)
            there.append(one)
            one.sendall(HANDSHAKE)
        for one in there[-count:]:
            if not one.recv(12).startswith(b"HTTP/1.1 101"):
                raise Failed(f"silent client {len(there)} was refused")
    except OSError as error:
        raise Failed(f"silent client {len(there)}: {error}") from None


def system_memory() -> int:
    """Return the bytes that all TCP sockets of this machine hold in the kernel."""
    words = Path("/proc/net/sockstat").read_text("ascii")
    found = re.search(r"^TCP: .* mem (\d+)", words, re.MULTILINE)
    return int(found[1]) * os.sysconf("SC_PAGE_SIZE") if found else 0


def clients(port: int) -> int:
    """Ask a server how many clients it has."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    return int(float(re.findall(r"^broadcast_clients (\S+)", text, re.MULTILINE)[0]))


@contextmanager
def watching(look: Callable[[], tuple[int, ...]]) -> Iterator[list[tuple[float, ...]]]:
    """Look again and again meanwhile; what is seen begins with the seconds since the first."""
    seen: list[tuple[float, ...]] = []
    over = threading.Event()
    begin = time.monotonic()

    def watch() -> None:
        while not over.wait(PERIOD):
            seen.append((round(time.monotonic() - begin, 2), *look()))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def measure(
    load: Load, subject: Subject, count: int, mode: str, seconds: float, scratch: Path
) -> Figures:
    """Take one run with *count* silent clients on a server of its own."""
    with (
        tempfile.TemporaryDirectory(dir=scratch) as folder,
        running(subject.server, Path(folder)) as it,
        silent(it.port, count),
    ):
        before, system = it.memory, system_memory()
        with watching(lambda: (it.memory, system_memory())) as seen:
            figures = load.run(
                **it.target,
                mode=mode,
                clients=READERS,
                size=SIZE,
                rate=subject.rate,
                window=subject.window,
                warm=4,
                seconds=seconds,
                drain=20,
            )
    return {
        "server": subject.server.name,
        "silent": count,
        "mode": mode,
        "before": before,
        "most": max(each[1] for each in seen),
        "system": max(each[2] for each in seen) - system,
        **figures,
    }


def follow(load: Load, subject: Subject, count: int, seconds: float, scratch: Path) -> Figures:
    """See what becomes of *count* silent clients, while the others talk."""

    def look(it: Running) -> tuple[int, ...]:
        return it.memory, system_memory(), clients(it.port)

    with (
        tempfile.TemporaryDirectory(dir=scratch) as folder,
        running(subject.server, Path(folder)) as it,
    ):
        talk = {"mode": "rate", "clients": READERS, "size": SIZE, "rate": subject.rate}
        with watching(lambda: look(it)) as seen, silent(it.port, count):
            figures = load.run(**it.target, **talk, warm=1, seconds=seconds)
    return {"server": subject.server.name, "silent": count, "seen": seen, **figures}


def waited(figures: Figures, key: str) -> float:
    """Return a percentile of a run, without end if so many did not arrive at all."""
    value = figures["latency"][key]
    return float("inf") if value is None else float(value)


def told(taken: list[Figures]) -> str:
    """Write the medians as a table."""
    rows = [
        "| server | load | silent | median | 99 % | most | deliveries | memory | in the system |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, mode, count in dict.fromkeys(
        (each["server"], each["mode"], each["silent"]) for each in taken
    ):
        these = [
            each
            for each in taken
            if (each["server"], each["mode"], each["silent"]) == (name, mode, count)
        ]

        def median(value: Callable[[Figures], float], these: list[Figures] = these) -> float:
            return statistics.median(value(each) for each in these)

        times = [
            f"{1000 * median(lambda each, key=key: waited(each, key)):.0f} ms"  # type: ignore[misc]
            for key in ("p50", "p99", "max")
        ]
        rate = median(lambda each: each["deliveries"] / each["seconds"])
        memory = [median(lambda each, key=key: each[key]) / 2**20 for key in ("before", "most")]  # type: ignore[misc]
        system = median(lambda each: each["system"]) / 2**20
        rows.append(
            f"| {name} | {mode} | {count:,} | {' | '.join(times)} | {rate / 1000:,.0f} k/s"
            f" | {memory[0]:.0f} to {memory[1]:.0f} MiB | {system:.0f} MiB |"
        )
    return "\n".join(rows)


def plot(followed: list[Figures], to: Path) -> None:
    """Draw the memory and the clients over time, if matplotlib is here."""
    try:
        from matplotlib import pyplot
    except ImportError:
        return
    figure, axes = pyplot.subplots(
        1, len(followed), figsize=(4 * len(followed), 3.2), squeeze=False
    )
    for axis, each in zip(axes[0], followed, strict=True):
        times, memory, system, here = zip(*each["seen"], strict=True)
        axis.plot(times, [size / 2**20 for size in memory], label="the server, MiB")
        axis.plot(times, [size / 2**20 for size in system], label="in the system, MiB")
        axis.set(title=each["server"], xlabel="seconds", ylim=(0, None))
        other = axis.twinx()
        other.plot(times, here, color="grey", linestyle=":", label="clients (right)")
        other.set(ylim=(0, None))
        lines = axis.lines + other.lines
        axis.legend(lines, [line.get_label() for line in lines], fontsize=7, loc="lower right")
    figure.tight_layout()
    figure.savefig(to, dpi=110)


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.silent")
    parser.add_argument("--silent", type=int, default=1000, metavar="N")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long a run is measured")
    parser.add_argument("--follow", type=float, default=70.0, help="seconds, 0 for not at all")
    parser.add_argument("--only", metavar="WORD", default="")
    parser.add_argument("--output", type=Path, default=BUILT)
    given = parser.parse_args()
    os.sched_setaffinity(0, {LOADS_CORE})
    given.output.mkdir(parents=True, exist_ok=True)
    subjects = [each for each in SUBJECTS if given.only in each.server.name]
    taken: list[Figures] = []
    followed: list[Figures] = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        load = Load(scratch)
        for number in range(given.rounds):
            for subject in subjects:
                for mode in ("rate", "window"):
                    for count in (0, given.silent):
                        what = f"round {number + 1}, {subject.server.name}, {mode}, {count}"
                        try:
                            one = measure(load, subject, count, mode, given.seconds, scratch)
                        except Failed as failed:  # Daphne cuts who waits 5 s to come in
                            print(f"{what}: {failed}", file=sys.stderr)
                            continue
                        taken.append(one)
                        print(f"{what}: {'; '.join(faults(one)) or 'ok'}", file=sys.stderr)
        for subject in subjects if given.follow else ():
            try:
                followed.append(follow(load, subject, given.silent, given.follow, scratch))
                told_how = "ok"
            except Failed as failed:
                told_how = str(failed)
            print(f"followed {subject.server.name}: {told_how}", file=sys.stderr)
    whole = {"machine": now().machine, "date": now().date, "taken": taken, "followed": followed}
    (given.output / "silent.json").write_text(json.dumps(whole), "utf-8")
    print(now().machine)
    print(told(taken))
    if followed:
        plot(followed, given.output / "silent.png")


if __name__ == "__main__":
    main()
