"""The startup output: what `start` prints for a person at a terminal, and for a program."""

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

from broadcast_server.cli.local_addresses import local_addresses
from broadcast_server.cli.options import parse_options
from broadcast_server.cli.startup import print_startup

OUTSIDE = "ws://192.0.2.7:8765/"
BLOCK = ["listening on ws://192.0.2.7:8765/", "  page  http://192.0.2.7:8765/"]
MODULE = 3


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove environment variables that would change the output."""
    for name in list(os.environ):
        if name.startswith("BROADCAST_") or name in ("NO_COLOR", "TERM", "BROWSER"):
            monkeypatch.delenv(name)


class Terminal:
    """A pseudo-terminal as standard error, and its screen."""

    def __init__(self, columns: int, rows: int) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.end = os.fdopen(theirs, "w", encoding="utf-8", errors="backslashreplace")

    def show(self, encoding: str, urls: list[str], *options: str) -> list[str]:
        """Print the startup output for *urls*, and return the lines on the screen."""
        self.end.reconfigure(encoding=encoding)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stderr", self.end)
            print_startup(parse_options(["start", *options]), urls)
        self.end.close()
        stream = pyte.ByteStream(self.screen)
        try:
            while data := os.read(self._ours, 10_000):
                stream.feed(data)
        except OSError:  # the other end is closed
            os.close(self._ours)
        return [line.rstrip() for line in self.screen.display if line.strip()]


def photograph(screen: pyte.Screen) -> str:
    """Read the QR symbol on a screen by its colours, as a phone would."""
    rows: list[list[int]] = []
    for line in range(screen.lines):
        cells = [screen.buffer[line][column] for column in range(screen.columns)]
        for half in ("▀", "▄"):
            inks = [cell.fg if cell.data in (half, "█") else cell.bg for cell in cells]
            pixels = [255 if ink == "white" else 0 for ink in inks for _ in range(MODULE)]
            rows += [pixels] * MODULE
    data = memoryview(bytes(pixel for row in rows for pixel in row))
    image = data.cast("B", shape=[len(rows), screen.columns * MODULE])
    return "".join(barcode.text for barcode in zxingcpp.read_barcodes(image))


def test_a_terminal_gets_an_invitation() -> None:
    """At a terminal the page, a command to join and a QR symbol follow the addresses."""
    terminal = Terminal(80, 30)
    lines = terminal.show("utf-8", [OUTSIDE])
    assert lines[:2] == BLOCK
    assert lines[2].startswith("  join  broadcast-server connect ws://192.0.2.7:8765/")
    assert photograph(terminal.screen) == "http://192.0.2.7:8765/"


def test_public_url() -> None:
    """--public-url, for example of a proxy, replaces the address in the lines and the symbol."""
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
def test_no_qr_symbol_if_it_would_be_unreadable(
    columns: int, encoding: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal that cannot show the QR symbol correctly gets only the lines of text."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    terminal = Terminal(columns, 30)
    assert terminal.show(encoding, [OUTSIDE])[0][:32] == BLOCK[0][:32]
    assert not any(
        cell.bg == "white" for row in terminal.screen.buffer.values() for cell in row.values()
    )


@pytest.mark.parametrize("hidden", ["typed", "set"])
def test_a_token_is_not_printed(
    hidden: str, token_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command has --token-file, and neither the token nor, for others, the file's path."""
    if hidden == "set":
        monkeypatch.setenv("BROADCAST_TOKEN", "s3cret")
    terminal = Terminal(120, 30)
    options = ["--token-file", token_file] if hidden == "typed" else []
    lines = terminal.show("utf-8", [OUTSIDE], *options)
    assert "broadcast-server connect ws://192.0.2.7:8765/ --token-file FILE" in lines[2]
    assert token_file not in "".join(lines)
    assert "s3cret" not in "".join(lines) + photograph(terminal.screen)


def test_a_pipe_gets_the_addresses(capsys: pytest.CaptureFixture[str]) -> None:
    """If standard error is not a terminal, the output is one line per address."""
    print_startup(parse_options(["start"]), [OUTSIDE, "ws://127.0.0.1:1/"])
    expected = "listening on ws://192.0.2.7:8765/\nlistening on ws://127.0.0.1:1/\n"
    assert capsys.readouterr() == ("", expected)


def test_the_printed_addresses_work(program: list[str]) -> None:
    """The page and the command to join work as a server on all addresses prints them."""
    if not local_addresses():
        pytest.skip("this machine is on no network")
    command = [*program, "start", "--host", "0.0.0.0", "--port", "0"]
    server = pexpect.spawn(command[0], command[1:], encoding="utf-8", dimensions=(40, 200))
    try:
        server.expect(r"listening on ws://0\.0\.0\.0:(\d+)/\r\n", PATIENCE)
        server.expect(r"  page  (http://(?!127\.)\S+)\r\n", PATIENCE)
        page = urllib.request.Request(matched(server), headers={"Accept": "text/html"})
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        assert b"<html" in direct.open(page, timeout=PATIENCE).read()
        server.expect(r"  join  broadcast-server (connect \S+)\r\n", PATIENCE)
        done = shell(f'echo hi | "$@" {matched(server)}', program)
        assert (done.code, done.output, done.errors) == (0, "anonymous: hi\n", "")
        server.sendintr()
        server.expect(pexpect.EOF, PATIENCE)
        assert server.wait() == 0
    finally:
        server.close(force=True)


def matched(server: pexpect.spawn[str]) -> str:
    """Return the first group of the last pattern that was expected."""
    assert isinstance(server.match, re.Match)
    return str(server.match[1])


def browser(folder: Path, script: str) -> str:
    """Create a script as the browser, and return the value of BROWSER for it."""
    path = folder / "browser"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return f"{shlex.quote(str(path))} %s"


def test_open(program: list[str], tmp_path: Path) -> None:
    """--open opens the page in the browser, which does not get the token.

    Its output does not mix with the server's.
    """
    seen = tmp_path / "seen"
    script = f'echo noise; echo noise >&2; echo "$1" $(env | grep -c s3cret) > {seen}.new'
    script += f"; mv {seen}.new {seen}"
    with serving(program, browser(tmp_path, script)) as server:
        until(seen.exists, "a browser")
        assert seen.read_text() == f"http://127.0.0.1:{server.port}/ 0\n"
        assert server.errors == f"listening on {server.url}\n"


def test_open_shows_the_address_for_others(program: list[str], tmp_path: Path) -> None:
    """If other machines can reach the server, --open opens the address that they can use."""
    seen = tmp_path / "seen"
    script = f'echo "$1" > {seen}.new; mv {seen}.new {seen}'
    public = "--public-url", "wss://chat.example/ops/"
    with serving(program, browser(tmp_path, script), *public):
        until(seen.exists, "a browser")
        assert seen.read_text() == "https://chat.example/ops/\n"


def test_open_without_a_browser(program: list[str], tmp_path: Path) -> None:
    """If no browser can be opened, one line says so, and the server keeps running."""
    with serving(program, browser(tmp_path, "exit 1")) as server:
        until(lambda: server.errors.count("\n") == 2, "a line")
        line = server.errors.splitlines()[1]
        page = f"http://127.0.0.1:{server.port}/"
        assert line[9:] == f"no browser could be opened (open {page} yourself)"


def serving(program: list[str], browser: str, *options: str) -> AbstractContextManager[Running]:
    """Start a server that opens its page in *browser*."""
    start = *program, "start", "--port", "0", "--open", *options
    return running(*start, BROWSER=browser, BROADCAST_TOKEN="s3cret")
