"""The announcement: what `start` says to a person, and not to a program."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import struct
import sys
import termios
import urllib.request
from contextlib import AbstractContextManager
from pathlib import Path

import pexpect
import pyte
import pytest
import zxingcpp
from programs import PATIENCE, Running, running, shell, until

from broadcast_server.announcement import announce
from broadcast_server.interfaces import addresses
from broadcast_server.options import parse

OUTSIDE = "ws://192.0.2.7:8765/"
BLOCK = ["listening on ws://192.0.2.7:8765/", "  page  http://192.0.2.7:8765/"]
MODULE = 3


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is set that could change what is said."""
    for name in list(os.environ):
        if name.startswith("BROADCAST_") or name in ("NO_COLOR", "TERM", "BROWSER"):
            monkeypatch.delenv(name)


class Terminal:
    """A pseudo-terminal as our standard error, and what it shows."""

    def __init__(self, columns: int, rows: int) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.end = os.fdopen(theirs, "w", encoding="utf-8", errors="backslashreplace")

    def show(self, encoding: str, urls: list[str], *options: str) -> list[str]:
        """Announce *urls* there, and return the lines that can be seen."""
        self.end.reconfigure(encoding=encoding)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stderr", self.end)
            announce(parse(["start", *options]), urls)
        self.end.close()
        stream = pyte.ByteStream(self.screen)
        try:
            while data := os.read(self._ours, 10_000):
                stream.feed(data)
        except OSError:  # the other end is closed
            os.close(self._ours)
        return [line.rstrip() for line in self.screen.display if line.strip()]


def photograph(screen: pyte.Screen) -> str:
    """Read the QR symbol on a screen by its colours, as a phone's camera would."""
    rows: list[list[int]] = []
    for line in range(screen.lines):
        cells = [screen.buffer[line][column] for column in range(screen.columns)]
        for half in ("▀", "▄"):
            inks = [cell.fg if cell.data in (half, "█") else cell.bg for cell in cells]
            pixels = [255 if ink == "white" else 0 for ink in inks for _ in range(MODULE)]
            rows += [pixels] * MODULE
    data = memoryview(bytes(pixel for row in rows for pixel in row))
    image = data.cast("B", shape=[len(rows), screen.columns * MODULE])
    return "".join(found.text for found in zxingcpp.read_barcodes(image))


def test_a_person_is_told_how_to_join() -> None:
    """At a terminal the addresses are followed by the page, a command, and a picture to read."""
    terminal = Terminal(80, 30)
    lines = terminal.show("utf-8", [OUTSIDE])
    assert lines[:2] == BLOCK
    assert lines[2].startswith("  join  broadcast-server connect ws://192.0.2.7:8765/")
    assert photograph(terminal.screen) == "http://192.0.2.7:8765/"


def test_an_address_that_others_use() -> None:
    """Whoever has another address for others, behind a proxy say, has it told and drawn."""
    terminal = Terminal(80, 30)
    public = "--public-url", "https://chat.example.org/a?room=ops"
    lines = terminal.show("utf-8", ["ws://127.0.0.1:8765/"], *public)
    assert lines[1] == "  page  https://chat.example.org/a/"
    assert photograph(terminal.screen) == "https://chat.example.org/a/"


@pytest.mark.parametrize(
    ("columns", "encoding", "variables"),
    [
        (32, "utf-8", {}),
        (80, "ascii", {}),
        (80, "utf-8", {"NO_COLOR": "1"}),
        (80, "utf-8", {"TERM": "dumb"}),
    ],
    ids=["narrow", "not UTF-8", "no colours", "dumb"],
)
def test_no_picture_where_it_could_not_be_read(
    columns: int, encoding: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal on which the picture would come out broken gets the words alone."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    terminal = Terminal(columns, 30)
    assert terminal.show(encoding, [OUTSIDE])[0][:32] == BLOCK[0][:32]
    assert not any(
        cell.bg == "white" for row in terminal.screen.buffer.values() for cell in row.values()
    )


@pytest.mark.parametrize("hidden", ["typed", "set"])
def test_a_token_is_not_told(hidden: str, token_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """That a token is wanted is said, and neither the token nor, to others, where it is."""
    if hidden == "set":
        monkeypatch.setenv("BROADCAST_TOKEN", "s3cret")
    terminal = Terminal(120, 30)
    options = ["--token-file", token_file] if hidden == "typed" else []
    lines = terminal.show("utf-8", [OUTSIDE], *options)
    assert "broadcast-server connect ws://192.0.2.7:8765/ --token-file FILE" in lines[2]
    assert token_file not in "".join(lines)
    assert "s3cret" not in "".join(lines) + photograph(terminal.screen)


def test_a_program_is_told_the_addresses(capsys: pytest.CaptureFixture[str]) -> None:
    """Where standard error is no terminal, nothing but a line for each address is written."""
    announce(parse(["start"]), [OUTSIDE, "ws://127.0.0.1:1/"])
    expected = "listening on ws://192.0.2.7:8765/\nlistening on ws://127.0.0.1:1/\n"
    assert capsys.readouterr() == ("", expected)


def test_what_is_told_can_be_typed(program: list[str]) -> None:
    """The page that a server for everyone names is there, and so is the room, on a network."""
    if not addresses():
        pytest.skip("this machine is on no network")
    command = [*program, "start", "--host", "0.0.0.0", "--port", "0"]
    server = pexpect.spawn(command[0], command[1:], encoding="utf-8", dimensions=(40, 200))
    try:
        server.expect(r"listening on ws://0\.0\.0\.0:(\d+)/\r\n", PATIENCE)
        server.expect(r"  page  (http://(?!127\.)\S+)\r\n", PATIENCE)
        page = urllib.request.Request(said(server), headers={"Accept": "text/html"})
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        assert b"<html" in direct.open(page, timeout=PATIENCE).read()
        server.expect(r"  join  broadcast-server (connect \S+)\r\n", PATIENCE)
        done = shell(f'echo hi | "$@" {said(server)}', program)
        assert (done.code, done.output, done.errors) == (0, "anonymous: hi\n", "")
        server.sendintr()
        server.expect(pexpect.EOF, PATIENCE)
        assert server.wait() == 0
    finally:
        server.close(force=True)


def said(server: pexpect.spawn[str]) -> str:
    """Return what was looked for last, in what a program said."""
    assert isinstance(server.match, re.Match)
    return str(server.match[1])


def browser(folder: Path, script: str) -> str:
    """Make a browser, and return how BROWSER names it."""
    path = folder / "browser"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return f"{shlex.quote(str(path))} %s"


def test_open(program: list[str], tmp_path: Path) -> None:
    """With --open the page opens in the browser, whose own output is not among the server's."""
    seen = tmp_path / "seen"
    script = f'echo noise; echo noise >&2; echo "$1" > {seen}.new; mv {seen}.new {seen}'
    with serving(program, browser(tmp_path, script)) as server:
        until(seen.exists, "a browser")
        assert seen.read_text() == f"http://127.0.0.1:{server.port}/\n"
        assert server.errors == f"listening on {server.url}\n"


def test_open_without_a_browser(program: list[str], tmp_path: Path) -> None:
    """Where no browser opens, a line says so, and the server serves."""
    with serving(program, browser(tmp_path, "exit 1")) as server:
        until(lambda: server.errors.count("\n") == 2, "a line")
        line = server.errors.splitlines()[1]
        page = f"http://127.0.0.1:{server.port}/"
        assert line[9:] == f"no browser could be opened (open {page} yourself)"


def serving(program: list[str], browser: str) -> AbstractContextManager[Running]:
    """Start a server that opens its page in *browser*."""
    return running(*program, "start", "--port", "0", "--open", BROWSER=browser)
