"""The cursor file: who comes back with it misses nothing, however its last run ended."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from conftest import Processes
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import Running, running, say, shell, until

from broadcast_server.cli import main
from broadcast_server.cursorfile import BadCursorFile, CursorFile
from broadcast_server.protocol import Cursor


@pytest.fixture
def url(processes: Processes, program: list[str]) -> str:
    """The address of a server."""
    # Not the one of the houses' tests: they are in rooms of the same names.
    return processes.url(tuple(program), ("--max-rooms", "9999"))


# -- the file --


@settings(max_examples=20)  # each waits for the disk
@given(
    st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    st.integers(0, 10**18 - 1),
)
def test_a_place_that_is_kept_is_found_again(
    tmp_path_factory: pytest.TempPathFactory, room: str, epoch: str, seq: int
) -> None:
    """Whatever room and cursor there can be, another run finds them as they were kept."""
    path = tmp_path_factory.getbasetemp() / "place"
    CursorFile(path).keep(room, Cursor(epoch, seq))
    assert CursorFile(path).load(None) == (room, Cursor(epoch, seq))
    assert CursorFile(path).load(room) == (room, Cursor(epoch, seq))


def test_without_a_file_one_begins_where_one_asks_to(tmp_path: Path) -> None:
    """A file that is not there yet is no fault, and says nothing of the room."""
    assert CursorFile(tmp_path / "place").load("ops") == ("ops", None)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"lobby\n",
        b"lobby ep.12",  # cut off: it may have been 123
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
def test_what_is_no_place_is_told(tmp_path: Path, content: bytes) -> None:
    """A file that holds something else is not taken for a place, and is left as it is."""
    path = tmp_path / "place"
    path.write_bytes(content)
    with pytest.raises(BadCursorFile, match=r"it does not hold ROOM EPOCH\.SEQ"):
        CursorFile(path).load(None)
    assert path.read_bytes() == content


def test_a_file_of_another_room_is_told(tmp_path: Path) -> None:
    """Nobody is brought to a room that was not asked for."""
    path = tmp_path / "place"
    path.write_text("ops ep.12\n")
    with pytest.raises(BadCursorFile, match="it is of room ops, not lobby"):
        CursorFile(path).load("lobby")


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """Keeping a place behind a symbolic link changes the file and not the link."""
    (tmp_path / "real").mkdir()
    link = tmp_path / "place"
    link.symlink_to(tmp_path / "real" / "place")
    CursorFile(link).keep("lobby", Cursor("ep", 1))
    assert link.is_symlink()
    assert (tmp_path / "real" / "place").read_text() == "lobby ep.1\n"
    assert [path.name for path in (tmp_path / "real").iterdir()] == ["place"]


def test_a_place_that_did_not_move_is_not_written(tmp_path: Path) -> None:
    """Nothing is written for a frame that holds no message."""
    file, path = CursorFile(tmp_path / "place"), tmp_path / "place"
    file.keep("lobby", Cursor("ep", 1))
    path.unlink()
    file.keep("lobby", Cursor("ep", 1))
    assert not path.exists()
    file.keep("lobby", Cursor("ep", 2))
    assert path.exists()


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    """A place that cannot be kept is told by its name and the system's reason."""
    with pytest.raises(BadCursorFile, match=r"^Could not write cursor file .*/no/place: no such"):
        CursorFile(tmp_path / "no" / "place").keep("lobby", Cursor("ep", 1))


# -- the command --


def test_each_run_goes_on_where_the_last_one_was(
    program: list[str], url: str, tmp_path: Path
) -> None:
    """The first run begins now, the next print what was said since the last: each message, once."""
    place = tmp_path / "place"
    hear = f'"$@" connect {url} --since {place} </dev/null; echo .; '
    say(url, "goes-on", "n", "1", "2", "3")
    first = shell(hear.replace("--since", "--room goes-on --since"), program)
    say(url, "goes-on", "n", "4", "5", "6")
    done = shell(hear + hear.replace(" </", " --json </"), program)
    assert (done.code, done.errors) == (0, "")
    assert first.output == ".\n"
    *plain, welcome, _ = done.output.splitlines()
    assert plain == ["n: 4", "n: 5", "n: 6", "."]
    assert '"room":"goes-on"' in welcome
    assert '"recovered":true,"missed":0' in welcome
    assert place.read_text().startswith("goes-on ")
    assert place.read_text().endswith(".6\n")


def test_what_nobody_read_comes_again(program: list[str], url: str, tmp_path: Path) -> None:
    """A reader that leaves early leaves the place before what it did not read."""
    place = tmp_path / "place"
    assert shell(f'"$@" connect {url} --room head --since {place} </dev/null', program).code == 0
    say(url, "head", "n", *["x" * 4000] * 50, "last")
    script = f"""set -o pipefail
        "$@" connect {url} --since {place} --listen | head -1 | cut -c1-9
        "$@" connect {url} --since {place} </dev/null | tail -1"""
    done = shell(script, program)
    assert done.output == "n: xxxxxx\nn: last\n"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("lobby", "it does not hold ROOM EPOCH.SEQ (without a file one begins now)"),
        ("ops ep.1\n", "it is of room ops, not lobby (give another file)"),
        (None, "is a directory"),
    ],
)
def test_a_file_that_cannot_be_used_is_told(
    tmp_path: Path, content: str | None, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A broken file, another room's and one that cannot be read are one line and exit code 2."""
    place = tmp_path / "place"
    if content is None:
        place.mkdir()
    else:
        place.write_text(content)
    assert main(["connect", "--room", "lobby", "--since", str(place)]) == 2
    error = f"broadcast-server connect: error: cursor file {place}: {why}\n"
    assert capsys.readouterr() == ("", error)


def test_a_place_that_cannot_be_kept_ends_the_run(
    program: list[str], url: str, tmp_path: Path
) -> None:
    """Who cannot keep its place says so and ends, rather than break its promise quietly."""
    place = tmp_path / "no" / "place"
    done = shell(f'"$@" connect {url} --listen --since {place} </dev/null', program)
    assert (done.code, done.output) == (1, "")
    assert done.errors == f"Could not write cursor file {place}: no such file or directory\n"


def test_a_run_that_is_killed_again_and_again_misses_nothing(
    program: list[str], url: str, tmp_path: Path
) -> None:
    """Killed by SIGKILL at any moment it leaves a whole file, and its runs together hear all.

    What was printed and not yet kept comes again, so a message may be there twice, never not.
    """
    place = tmp_path / "place"
    hear = [*program, "connect", url, "--room", "killed", "--since", str(place), "--listen"]
    heard: list[int] = []
    with running(*program, "connect", url, "--room", "killed", "--name", "n") as talker:

        def count(first: int, last: int) -> None:
            talker.say("".join(f"{number}\n" for number in range(first, last)))

        with running(*hear) as ear:
            until(place.exists, "a place")
            ear.signal(signal.SIGKILL)
        for run in range(2):
            # Some are there to be replayed, some come while it runs.
            count(1000 * run + 1, 1000 * run + 501)
            with running(*hear) as ear:
                count(1000 * run + 501, 1000 * run + 1001)
                until(lambda ear=ear: ear.output.count("n: ") > 300, "some")  # type: ignore[misc]  # bound now
                ear.process.send_signal(signal.SIGKILL)
                ear.process.wait()
                heard += numbers(ear)
            CursorFile(place).load("killed")
        assert talker.end() == 0
        with running(*hear, stdin=None) as ear:
            until(lambda: "n: 2000\n" in ear.output, "the last")
            assert ear.signal(signal.SIGTERM) == 0
            heard += numbers(ear)
        assert sorted(set(heard)) == [*range(1, 2001)]
        assert place.read_text().endswith(".2000\n")


def numbers(ear: Running) -> list[int]:
    """Return what a listener has printed, without a line that is not whole."""
    whole = ear.output.rpartition("\n")[0].split("\n")
    return [int(line.removeprefix("n: ")) for line in whole if line.startswith("n: ")]
