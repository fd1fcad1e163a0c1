"""The cursor file: a client that uses one misses no message, however its last run ended."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path

import pytest
from conftest import Processes
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import Running, running, say, shell, until

from broadcast_server.cli.main import main
from broadcast_server.pipe.cursor_file import CursorFile, CursorFileError
from broadcast_server.protocol.messages import Cursor


@pytest.fixture
def url(processes: Processes, program: list[str]) -> str:
    """The address of a server."""
    # It is not the server of the deployments' tests, which use rooms of the same names.
    return processes.url(tuple(program), ("--max-rooms", "9999"))


# -- the file --


@settings(max_examples=20)  # each example waits for the disk
@given(
    st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    st.integers(0, 10**18 - 1),
)
def test_a_saved_cursor_is_loaded(
    tmp_path_factory: pytest.TempPathFactory, room: str, epoch: str, seq: int
) -> None:
    """Any room and cursor that can exist are loaded as they were saved."""
    path = tmp_path_factory.getbasetemp() / "place"
    CursorFile(path).save(room, Cursor(epoch, seq))
    assert CursorFile(path).load(None) == (room, Cursor(epoch, seq))
    assert CursorFile(path).load(room) == (room, Cursor(epoch, seq))


def test_a_file_that_does_not_exist(tmp_path: Path) -> None:
    """If the file does not exist, the room is the given one and there is no cursor."""
    assert CursorFile(tmp_path / "place").load("ops") == ("ops", None)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"lobby\n",
        b"lobby ep.12",  # incomplete: it may have been 123
        b"lobby ep.12 more\n",
        b"lobby ep\n",
        b"lobby ep.-1\n",
        b"The Lobby ep.12\n",
        b"Lobby ep.12\n",
        b"\xff\xfe ep.12\n",
        b"lobby " + b"x" * 300 + b".12\n",
        b"x" * 10_000,
    ],
)
def test_other_content_is_an_error(tmp_path: Path, content: bytes) -> None:
    """A file with other content raises CursorFileError, and is not changed."""
    path = tmp_path / "place"
    path.write_bytes(content)
    with pytest.raises(CursorFileError, match=r"it does not hold ROOM EPOCH\.SEQ"):
        CursorFile(path).load(None)
    assert path.read_bytes() == content


def test_a_file_for_another_room_is_an_error(tmp_path: Path) -> None:
    """A file for another room than the given one raises CursorFileError."""
    path = tmp_path / "place"
    path.write_text("ops ep.12\n")
    with pytest.raises(CursorFileError, match="it is for room ops, not lobby"):
        CursorFile(path).load("lobby")


def test_a_symbolic_link_is_kept(tmp_path: Path) -> None:
    """Saving through a symbolic link changes the file, and not the link."""
    (tmp_path / "real").mkdir()
    link = tmp_path / "place"
    link.symlink_to(tmp_path / "real" / "place")
    CursorFile(link).save("lobby", Cursor("ep", 1))
    assert link.is_symlink()
    assert (tmp_path / "real" / "place").read_text() == "lobby ep.1\n"
    assert [path.name for path in (tmp_path / "real").iterdir()] == ["place"]


@pytest.mark.parametrize("umask", [0, 0o777])
def test_the_file_is_private(tmp_path: Path, umask: int) -> None:
    """Whatever the umask is, only the owner can read the file, and nothing is left beside it."""
    path = tmp_path / "place"
    path.write_text("lobby ep.1\n")
    path.chmod(0o644)
    before = os.umask(umask)
    try:
        CursorFile(path).save("lobby", Cursor("ep", 2))
    finally:
        os.umask(before)
    assert [each.name for each in tmp_path.iterdir()] == ["place"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_beside_the_file_is_not_followed(tmp_path: Path) -> None:
    """Another user's link beside the file has no effect; a failed write leaves nothing behind."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "place.new").symlink_to(victim)
    CursorFile(tmp_path / "place").save("lobby", Cursor("ep", 1))
    assert victim.read_text() == "precious"
    assert (tmp_path / "place.new").is_symlink()
    before = {each.name for each in tmp_path.iterdir()}
    folder = tmp_path / "folder"
    file = CursorFile(folder)
    folder.mkdir()
    with pytest.raises(CursorFileError, match=r"is a directory \(name a file in it\)$"):
        file.save("lobby", Cursor("ep", 1))
    assert {each.name for each in tmp_path.iterdir()} == before | {"folder"}


def test_what_is_no_file_is_an_error(tmp_path: Path) -> None:
    """A pipe, a device and a loop of links are rejected, and nothing waits for them."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for path, reason in (
        (tmp_path / "pipe", r"it is a pipe \(name a file\)"),
        (Path("/dev/null"), r"it is a device \(name a file\)"),
        (tmp_path / "loop", r"symbolic links \(name the file itself\)"),
        (tmp_path / ("x" * 300), r"file name too long \(use a shorter name\)"),
    ):
        with pytest.raises(CursorFileError, match=rf"^cursor file {path}: .*{reason}$"):
            CursorFile(path).load(None)


def test_a_deleted_folder_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a folder that was deleted, --since is an error of one line."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main(["connect", "--since", "place"]) == 2
    reason = "the current folder was deleted (change to another one)"
    error = f"broadcast-server connect: error: cursor file place: {reason}\n"
    assert capsys.readouterr() == ("", error)


def test_an_unchanged_cursor_is_not_written(tmp_path: Path) -> None:
    """The file is not written again for the same cursor."""
    file, path = CursorFile(tmp_path / "place"), tmp_path / "place"
    file.save("lobby", Cursor("ep", 1))
    path.unlink()
    file.save("lobby", Cursor("ep", 1))
    assert not path.exists()
    file.save("lobby", Cursor("ep", 2))
    assert path.exists()


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    """If the file cannot be written, the error has its name and the system's reason."""
    with pytest.raises(
        CursorFileError,
        match=r"^Could not write cursor file .*/no/place: no such file or",
    ):
        CursorFile(tmp_path / "no" / "place").save("lobby", Cursor("ep", 1))


# -- the command --


def test_each_run_continues_where_the_last_one_ended(
    program: list[str], url: str, tmp_path: Path
) -> None:
    """The first run starts now; each later run prints what was published since, once."""
    cursor_file = tmp_path / "place"
    listen = f'"$@" connect {url} --since {cursor_file} </dev/null; echo .; '
    say(url, "goes-on", "n", "1", "2", "3")
    first = shell(listen.replace("--since", "--room goes-on --since"), program)
    say(url, "goes-on", "n", "4", "5", "6")
    done = shell(listen + listen.replace(" </", " --json </"), program)
    assert (done.code, done.errors) == (0, "")
    assert first.output == ".\n"
    *plain, welcome, _ = done.output.splitlines()
    assert plain == ["n: 4", "n: 5", "n: 6", "."]
    assert '"room":"goes-on"' in welcome
    assert '"recovered":true,"missed":0' in welcome
    assert cursor_file.read_text().startswith("goes-on ")
    assert cursor_file.read_text().endswith(".6\n")


def test_unread_messages_are_printed_again(program: list[str], url: str, tmp_path: Path) -> None:
    """If the reader leaves early, the cursor stays before the messages that it did not read."""
    cursor_file = tmp_path / "place"
    first = shell(f'"$@" connect {url} --room head --since {cursor_file} </dev/null', program)
    assert first.code == 0
    say(url, "head", "n", *["x" * 4000] * 50, "last")
    script = f"""set -o pipefail
        "$@" connect {url} --since {cursor_file} --listen | head -1 | cut -c1-9
        "$@" connect {url} --since {cursor_file} </dev/null | tail -1"""
    done = shell(script, program)
    assert done.output == "n: xxxxxx\nn: last\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("lobby", "it does not hold ROOM EPOCH.SEQ (name a new file to start from now)"),
        ("ops ep.1\n", "it is for room ops, not lobby (use another file)"),
        (None, "it is a folder (name a file)"),
    ],
)
def test_an_unusable_file_is_a_usage_error(
    tmp_path: Path, content: str | None, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An invalid file, one for another room, and a directory give one line and exit code 2."""
    cursor_file = tmp_path / "place"
    if content is None:
        cursor_file.mkdir()
    else:
        cursor_file.write_text(content)
    assert main(["connect", "--room", "lobby", "--since", str(cursor_file)]) == 2
    error = f"broadcast-server connect: error: cursor file {cursor_file}: {reason}\n"
    assert capsys.readouterr() == ("", error)


def test_a_cursor_that_cannot_be_saved_ends_the_run(
    program: list[str], url: str, tmp_path: Path
) -> None:
    """If the cursor cannot be saved, the client reports it and ends with exit code 1."""
    cursor_file = tmp_path / "no" / "place"
    done = shell(f'"$@" connect {url} --listen --since {cursor_file} </dev/null', program)
    assert (done.code, done.output) == (1, "")
    reason = "no such file or directory (check the path)"
    assert done.errors == f"Could not write cursor file {cursor_file}: {reason}\n"


def test_runs_that_are_killed_miss_no_message(program: list[str], url: str, tmp_path: Path) -> None:
    """If runs are killed with SIGKILL, the file is complete, and together they print everything.

    A message that was printed but whose cursor was not saved yet may be printed again.
    """
    cursor_file = tmp_path / "place"
    command = [*program, "connect", url, "--room", "killed", "--listen"]
    command += ["--since", str(cursor_file)]
    printed: list[int] = []
    with running(*program, "connect", url, "--room", "killed", "--name", "n") as sender:

        def send_numbers(first: int, last: int) -> None:
            sender.say("".join(f"{number}\n" for number in range(first, last)))

        with running(*command) as listener:
            until(cursor_file.exists, "a cursor file")
            listener.signal(signal.SIGKILL)
        for run in range(2):
            # Half of the messages are replayed, half are received live.
            send_numbers(1000 * run + 1, 1000 * run + 501)
            with running(*command) as listener:
                send_numbers(1000 * run + 501, 1000 * run + 1001)
                until(lambda listener=listener: listener.output.count("n: ") > 300, "some")  # type: ignore[misc]  # bound here
                listener.process.send_signal(signal.SIGKILL)
                listener.process.wait()
                printed += numbers(listener)
            CursorFile(cursor_file).load("killed")
        assert sender.end() == 0
        with running(*command, stdin=None) as listener:
            until(lambda: "n: 2000\n" in listener.output, "the last")
            # A client that is told to stop while it still joins exits with 1: wait for a live one.
            say(url, "killed", "x", "live")
            until(lambda: "x: live\n" in listener.output, "a live message")
            assert listener.signal(signal.SIGTERM) == 0
            printed += numbers(listener)
        assert sorted(set(printed)) == [*range(1, 2001)]
        assert cursor_file.read_text().endswith(".2001\n")


def numbers(listener: Running) -> list[int]:
    """Return the numbers that a listener has printed, without an incomplete last line."""
    complete = listener.output.rpartition("\n")[0].split("\n")
    return [int(line.removeprefix("n: ")) for line in complete if line.startswith("n: ")]
