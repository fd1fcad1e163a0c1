"""The examples: each runs as its users run it, against a server."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from programs import PATIENCE, ROOT, Running, running, until

from broadcast_server import SyncBroadcastServer, connect_sync, serve_sync

EXAMPLES = ROOT / "examples"
RUN = (sys.executable, "-W", "error")


@pytest.fixture(scope="module")
def server() -> Iterator[SyncBroadcastServer]:
    """A server; each test uses its own rooms."""
    with serve_sync(port=0, rate=0) as server:
        yield server


def example(name: str, *arguments: str) -> tuple[str, ...]:
    """Return the command that runs an example."""
    return (*RUN, str(EXAMPLES / name), *arguments)


def until_member(server: SyncBroadcastServer, room: str, name: str) -> None:
    """Wait until *name* is in *room*."""
    until(lambda: room in server.rooms and name in server.rooms[room].members, f"{name} in {room}")


def stop(program: Running) -> None:
    """End an example as its user does, with Ctrl+C: its traceback ends with that."""
    program.process.send_signal(signal.SIGINT)
    program.process.wait(PATIENCE)
    assert program.errors.splitlines()[-1] == "KeyboardInterrupt"


def test_the_bot(server: SyncBroadcastServer) -> None:
    """It answers pings."""
    with running(*example("bot.py", server.url)) as bot:
        until_member(server, "ops", "bot")
        with connect_sync(server.url, room="ops") as room:
            room.send("ping")
            assert [room.receive(timeout=PATIENCE).text for _ in range(2)] == ["ping", "pong"]
        stop(bot)


@pytest.mark.parametrize("code", [0, 3])
def test_the_ci_notifier(server: SyncBroadcastServer, code: int) -> None:
    """It exits as its command did, tells the room, and does not fail if there is none."""
    command = (sys.executable, "-c", f"raise SystemExit({code})")
    with connect_sync(server.url, room="builds") as room:
        done = run(example("ci_notifier.py", server.url, "nightly", *command))
        text = "nightly passed after 0 s" if code == 0 else "nightly FAILED with 3 after 0 s"
        message = room.receive(timeout=PATIENCE)
        assert (message.name, message.text) == ("ci", text)
        assert (done.returncode, done.stderr) == (code, "")
        assert done.stdout == f"told builds as number {message.seq}: {text}\n"
    done = run(example("ci_notifier.py", "ws://127.0.0.1:9/", "nightly", *command))
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("told nobody: Could not connect to server at ws://127.0.0.1:9/")


def run(command: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Run *command* to its end."""
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE)


def test_the_moderation_bot(server: SyncBroadcastServer, tmp_path: Path) -> None:
    """It reports words and floods, and after a restart what was said meanwhile, once."""
    position = tmp_path / "position"
    command = example("moderation_bot.py", server.url, "talk", str(position), "spam")
    with connect_sync(server.url, room="moderators") as reports:
        with running(*command) as bot:
            until_member(server, "talk", "moderator")
            server.broadcast("talk", "hello", name="ann")
            server.broadcast("talk", "buy SPAM", name="eve")
            assert reports.receive(timeout=PATIENCE).text == "eve said 'spam': number 2 in talk"
            # Its warning, number 3, comes back to it as its own.
            until(lambda: position.exists() and position.read_text().endswith(".3"))
            stop(bot)
        for number in range(6):
            server.broadcast("talk", str(number), name="bob")
        with running(*command) as bot:
            flood = "bob published more than 5 messages in 10 s: number 9 in talk"
            assert reports.receive(timeout=PATIENCE).text == flood
            until(lambda: position.read_text().endswith(".10"))
            stop(bot)


def test_the_bridge(server: SyncBroadcastServer) -> None:
    """It carries messages both ways, each once, and says when one is too long."""
    with (
        serve_sync(port=0) as far,
        running(*example("bridge.py", server.url, "near", far.url, "far")) as bridge,
    ):
        until_member(server, "near", "bridge")
        until_member(far, "far", "bridge")
        with (
            connect_sync(server.url, name="ann", room="near") as ann,
            connect_sync(far.url, name="bob", room="far") as bob,
        ):
            ann.send("hi")
            assert bob.receive(timeout=PATIENCE).text == "ann@near: hi"
            bob.send("x" * 2**15)
            bob.send("last")
            said = [ann.receive(timeout=PATIENCE).text for _ in range(3)]
            assert said == ["hi", "bob@far said too much to be shown here", "bob@far: last"]
            assert far.rooms["far"].seq == 3
        stop(bridge)


def test_the_fixture() -> None:
    """The test that is an example passes, by itself."""
    done = run((*RUN, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null",
                str(EXAMPLES / "test_with_a_server.py")))  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "1 passed" in done.stdout


def test_examples_are_type_checked() -> None:
    """Mypy checks them as strictly as the package, so they are typed as a user would write them."""
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    (files,) = [line for line in project.splitlines() if line.startswith("files = ")]
    assert '"examples"' in files and "\nstrict = true\n" in project


def test_each_example_is_tested_and_listed() -> None:
    """No example is left out."""
    tested, listed = Path(__file__).read_text("utf-8"), (ROOT / "docs/api.md").read_text("utf-8")
    for path in EXAMPLES.glob("*.py"):
        assert f'"{path.name}"' in tested
        assert f"[{path.name}]" in listed
