"""Silent clients: what a thousand clients that never read cost the server and the other clients.

`python -m benchmarks.silent` measures each server with and without them, each time newly started:
the latency of the other clients, and the memory of the server and of the kernel's sockets. Then it
follows one server of each kind until it has cut the silent clients. The figures go to a file, and
with matplotlib there is a plot of the second part.
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
MESSAGE_BYTES = 1024

SAMPLE_INTERVAL_S = 0.25
"""Seconds between two samples of the memory."""

CONNECT_BATCH = 10
"""How many silent clients connect at once: Daphne cuts a handshake that takes over 5 seconds."""

HANDSHAKE = (
    b"GET /?name=silent HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: bG9hZCBnZW5lcmF0b3IhIQ==\r\n\r\n"
)


@dataclass(frozen=True)
class Subject:
    """A server, and its load: messages a second (*rate*), or in flight at once (*window*)."""

    server: Server
    rate: int
    window: int


SUBJECTS = (
    Subject(SERVERS[0], 1000, 30),
    Subject(site(DAPHNE, "SQLite, in memory", {}), 50, 12),
    Subject(site(UVICORN, "SQLite, in memory", {}), 50, 12),
)


@contextmanager
def silent_clients(port: int, count: int) -> Iterator[None]:
    """Connect *count* clients that read the response to their handshake and nothing more."""
    sockets: list[socket.socket] = []
    try:
        while len(sockets) < count:
            _connect(port, min(CONNECT_BATCH, count - len(sockets)), sockets)
        yield
    finally:
        for client in sockets:
            client.close()


def _connect(port: int, count: int, sockets: list[socket.socket]) -> None:
    try:
        for _ in range(count):
            one = socket.create_connection(("127.0.0.1", port), timeout=30)
            sockets.append(one)
            one.sendall(HANDSHAKE)
        for one in sockets[-count:]:
            if not one.recv(12).startswith(b"HTTP/1.1 101"):
                raise Failed(f"silent client {len(sockets)} was rejected")
    except OSError as error:
        raise Failed(f"silent client {len(sockets)}: {error}") from None


def system_memory() -> int:
    """Return the kernel memory of all TCP sockets of this machine, in bytes."""
    text = Path("/proc/net/sockstat").read_text("ascii")
    pages = re.search(r"^TCP: .* mem (\d+)", text, re.MULTILINE)
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if pages else 0


def client_count(port: int) -> int:
    """Return how many clients a server has, from its metrics."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as response:
        text = response.read().decode()
    return int(float(re.findall(r"^broadcast_clients (\S+)", text, re.MULTILINE)[0]))


@contextmanager
def sampling(look: Callable[[], tuple[int, ...]]) -> Iterator[list[tuple[float, ...]]]:
    """Call *look* every `SAMPLE_INTERVAL_S`; a sample begins with the seconds since the start."""
    seen: list[tuple[float, ...]] = []
    over = threading.Event()
    begin = time.monotonic()

    def watch() -> None:
        while not over.wait(SAMPLE_INTERVAL_S):
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
    """Measure one run with *count* silent clients on a newly started server."""
    with (
        tempfile.TemporaryDirectory(dir=scratch) as folder,
        running(subject.server, Path(folder)) as it,
        silent_clients(it.port, count),
    ):
        before, system = it.memory, system_memory()
        with sampling(lambda: (it.memory, system_memory())) as seen:
            figures = load.run(
                **it.target,
                mode=mode,
                clients=READERS,
                size=MESSAGE_BYTES,
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
    """Sample the server while *count* silent clients are connected and others publish."""

    def look(it: Running) -> tuple[int, ...]:
        return it.memory, system_memory(), client_count(it.port)

    with (
        tempfile.TemporaryDirectory(dir=scratch) as folder,
        running(subject.server, Path(folder)) as it,
    ):
        load_options = {
            "mode": "rate",
            "clients": READERS,
            "size": MESSAGE_BYTES,
            "rate": subject.rate,
        }
        with sampling(lambda: look(it)) as seen, silent_clients(it.port, count):
            figures = load.run(**it.target, **load_options, warm=1, seconds=seconds)
    return {"server": subject.server.name, "silent": count, "seen": seen, **figures}


def percentile(figures: Figures, key: str) -> float:
    """Return a latency percentile of a run in seconds, infinite if too few messages arrived."""
    value = figures["latency"][key]
    return float("inf") if value is None else float(value)


def table(taken: list[Figures]) -> str:
    """Return the medians as a Markdown table."""
    rows = [
        "| server | load | silent | median | 99 % | most | deliveries | memory | in the system |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, mode, count in dict.fromkeys(
        (each["server"], each["mode"], each["silent"]) for each in taken
    ):
        runs = [
            each
            for each in taken
            if (each["server"], each["mode"], each["silent"]) == (name, mode, count)
        ]

        def median(value: Callable[[Figures], float], runs: list[Figures] = runs) -> float:
            return statistics.median(value(each) for each in runs)

        times = [
            f"{1000 * median(lambda each, key=key: percentile(each, key)):.0f} ms"  # type: ignore[misc]
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
    """Draw the memory and the clients over time, if matplotlib is installed."""
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
    """Measure, and print and store the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.silent")
    parser.add_argument("--silent", type=int, default=1000, metavar="N")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long a run is measured")
    parser.add_argument("--follow", type=float, default=70.0, help="seconds, 0 for not at all")
    parser.add_argument("--only", metavar="WORD", default="")
    parser.add_argument("--output", type=Path, default=BUILT)
    options = parser.parse_args()
    os.sched_setaffinity(0, {LOADS_CORE})
    options.output.mkdir(parents=True, exist_ok=True)
    subjects = [each for each in SUBJECTS if options.only in each.server.name]
    taken: list[Figures] = []
    followed: list[Figures] = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        load = Load(scratch)
        for number in range(options.rounds):
            for subject in subjects:
                for mode in ("rate", "window"):
                    for count in (0, options.silent):
                        what = f"round {number + 1}, {subject.server.name}, {mode}, {count}"
                        try:
                            one = measure(load, subject, count, mode, options.seconds, scratch)
                        except Failed as failed:  # Daphne cuts a handshake after 5 s
                            print(f"{what}: {failed}", file=sys.stderr)
                            continue
                        taken.append(one)
                        print(f"{what}: {'; '.join(faults(one)) or 'ok'}", file=sys.stderr)
        for subject in subjects if options.follow else ():
            try:
                followed.append(follow(load, subject, options.silent, options.follow, scratch))
                outcome = "ok"
            except Failed as failed:
                outcome = str(failed)
            print(f"followed {subject.server.name}: {outcome}", file=sys.stderr)
    results = {"machine": now().machine, "date": now().date, "taken": taken, "followed": followed}
    (options.output / "silent.json").write_text(json.dumps(results), "utf-8")
    print(now().machine)
    print(table(taken))
    if followed:
        plot(followed, options.output / "silent.png")


if __name__ == "__main__":
    main()
