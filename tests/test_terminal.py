"""The terminal: what a person sees and types, in a real pseudo-terminal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pexpect
import pyte
import pytest
from programs import PATIENCE, Running, assert_quiet, running, shell
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from broadcast_server.completer import KNOWN, Names

UP, CTRL_A, CTRL_C, CTRL_D, CTRL_U, TAB, ENTER = (
    "\x1b[A",
    "\x01",
    "\x03",
    "\x04",
    "\x15",
    "\t",
    "\r",
)


class Person:
    """Someone at a terminal, who sees the screen and types."""

    def __init__(self, child: pexpect.spawn[str], columns: int, rows: int) -> None:
        self.child = child
        self.raw = ""
        self.screen = pyte.HistoryScreen(columns, rows, history=100_000, ratio=1)
        self._stream = pyte.Stream(self.screen)

    def look(self, wait: float = 0.0) -> None:
        """See what has come."""
        try:
            data = self.child.read_nonblocking(100_000, wait)
        except (pexpect.TIMEOUT, pexpect.EOF):
            return
        self.raw += data
        self._stream.feed(data)

    @property
    def lines(self) -> list[str]:
        """The screen, without what is empty and without the status."""
        return [line.rstrip() for line, bar in self._rows() if line.strip() and not bar]

    @property
    def bars(self) -> list[str]:
        """The lines of the status, of which there is to be one at most."""
        return [line.strip() for line, bar in self._rows() if bar]

    def _rows(self) -> list[tuple[str, bool]]:
        buffer = self.screen.buffer
        return [
            (line, buffer[row][0].reverse and not line.startswith(">"))
            for row, line in enumerate(self.screen.display)
        ]

    def has_status(self, text: str) -> None:
        """Wait until that is the status, in the last line that is not empty."""
        end = time.monotonic() + PATIENCE
        while self.bars != [text]:
            assert time.monotonic() < end, f"no {text} but {self.bars}"
            self.look(0.05)
        assert [line for line in self.screen.display if line.strip()][-1].strip() == text

    def rings(self) -> int:
        """Count how often the bell has rung."""
        return self.raw.count("\a")

    def hears_the_bell(self) -> None:
        """Wait until the bell has rung."""
        end = time.monotonic() + PATIENCE
        while not self.rings():
            assert time.monotonic() < end, self.lines
            self.look(0.05)

    def sees(self, *patterns: str) -> None:
        """Wait until each pattern is a line of the screen, in this order."""
        whole = re.compile("\n(?:.*\n)*?".join(f"{pattern}$" for pattern in patterns), re.MULTILINE)
        end = time.monotonic() + PATIENCE
        while not whole.search("\n".join(self.lines)):
            assert time.monotonic() < end, "\n".join([f"no {patterns} in:", *self.lines])
            self.look(0.05)

    def has_prompt(self, typed: str = "") -> None:
        """Wait until the last line is the prompt, with what was typed so far."""
        end = time.monotonic() + PATIENCE
        while not self.lines or self.lines[-1] != f"> {typed}".rstrip():
            assert time.monotonic() < end, "\n".join([f"no prompt with {typed} in:", *self.lines])
            self.look(0.05)

    def types(self, *keys: str) -> None:
        """Press keys."""
        self.child.send("".join(keys))

    def resizes(self, columns: int, rows: int) -> None:
        """Drag the window to another size."""
        self.screen.resize(rows, columns)
        self.child.setwinsize(rows, columns)

    def style(self, word: str) -> tuple[str, bool, bool]:
        """Return how a word on the screen looks: colour, bold, underlined."""
        for row, line in enumerate(self.screen.display):
            if word in line:
                char = self.screen.buffer[row][line.index(word)]
                return char.fg, char.bold, char.underscore
        raise AssertionError(f"no {word} in {self.lines}")

    def ends(self) -> int:
        """Wait for the end; return the exit code, and check that the terminal is usable again."""
        end = time.monotonic() + PATIENCE
        while self.child.isalive():
            assert time.monotonic() < end, self.lines
            self.look(0.02)
        self.look()
        assert_quiet(self.raw)
        assert self.child.signalstatus is None
        assert self.child.exitstatus is not None
        return int(self.child.exitstatus)


@contextmanager
def person(
    program: list[str], *arguments: str, columns: int = 80, rows: int = 24, **variables: str
) -> Iterator[Person]:
    """Someone at a terminal who runs ``connect``."""
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    environment |= {"TERM": "xterm-256color", **variables}
    child = pexpect.spawn(
        program[0],
        [*program[1:], "connect", *arguments],
        env=environment,
        dimensions=(rows, columns),
        encoding="utf-8",
        echo=True,
    )
    child.delaybeforesend = None
    try:
        yield Person(child, columns, rows)
    finally:
        child.close(force=True)


TIME = r"\d\d:\d\d:\d\d "


def test_a_talk(program: list[str], server: Running) -> None:
    """People see each other come, speak and leave, with the time, and their own name marked."""
    at = [server.url, "--room", "talk", "--name"]
    with person(program, *at, "ann") as ann:
        ann.sees("-- you are ann in talk, 1 here: ann --", "-- /help for help --")
        ann.has_prompt()
        with person(program, *at, "bob") as bob:
            bob.sees("-- you are bob in talk, 2 here: ann, bob --")
            ann.sees(TIME + "  bob joined the chat")
            bob.types("hi, ann", ENTER)
            bob.sees(TIME + "> bob: hi, ann")
            ann.sees(TIME + "  bob: hi, ann")
            ann.types("hi", ENTER)
            bob.sees(TIME + "  ann: hi")
            bob.types("bye", ENTER, "/quit", ENTER)
            assert bob.ends() == 0
        ann.sees(TIME + "  bob: bye", TIME + "  bob left the chat")
        ann.has_prompt()
        assert ann.style("bob: hi")[0] == ann.style("bob: bye")[0] != "default"
        assert ann.style("ann: hi")[1:] == (True, True)
        assert ann.style("bob: hi")[1:] == (False, False)
        ann.types(CTRL_D)
        assert ann.ends() == 0
        assert ">" not in ann.lines[-1]


def test_half_typed_text_survives_a_flood(program: list[str], server: Running) -> None:
    """A thousand incoming lines leave prompt, text and cursor as they are."""
    with person(program, server.url, "--room", "flood", "--name", "ann") as ann:
        ann.sees("-- /help for help --")
        ann.types("half typed")
        ann.has_prompt("half typed")
        flood = f'seq 1000 | "$@" connect {server.url} --room flood --name f >/dev/null'
        shell(flood, program)
        ann.sees(TIME + "  f: 999", TIME + "  f: 1000", TIME + "  f left the chat")
        ann.has_prompt("half typed")
        ann.types(" text", CTRL_A, "a ", ENTER)
        ann.sees(TIME + "> ann: a half typed text")
        ann.has_prompt()


def test_commands(program: list[str], server: Running) -> None:
    """Each command does what it says, an unknown one is told, ``//`` says a slash."""
    with person(program, server.url, "--room", "commands", rows=40) as ann:
        ann.sees("-- /help for help --")
        ann.has_status("commands · 1 here · anonymous · connected")
        ann.types("/who", ENTER)
        ann.sees(TIME + r"  \* 1 here: anonymous")
        ann.types("/help", ENTER)
        ann.sees(r"   /who +who is here", r"   /quit +leave", r"   //text +say /text")
        ann.types("/nick bob", ENTER)
        ann.sees("-- /nick is no command; /help lists them, //nick says it --")
        ann.types("//nick bob", ENTER, "   ", ENTER)
        ann.sees(TIME + "> anonymous: /nick bob")
        ann.types("/name a:b", ENTER)
        ann.sees(TIME + r"  \* name contains a colon")
        ann.types("/name ann", ENTER)
        ann.sees("-- you are ann --")
        ann.has_status("commands · 1 here · ann · connected")
        ann.types("/me waves", ENTER)
        ann.sees(TIME + "• ann: waves")
        ann.types("/clear", ENTER)
        while ann.lines != [">"]:
            ann.look(0.05)
        ann.types("/history 2", ENTER)
        ann.sees(
            "-- the last 2 messages --", TIME + "  anonymous: /nick bob", TIME + "• ann: waves"
        )
        ann.types("still here", ENTER)
        ann.sees(TIME + "• ann: waves", TIME + "> ann: still here")
        ann.types("/exit", ENTER)
        assert ann.ends() == 0
        assert not any("left the chat" in line or "again" in line for line in ann.lines)


def test_from_room_to_room(program: list[str], server: Running) -> None:
    """One goes to another room under the same name, and back to where one was, without a gap."""
    at = [server.url, "--name", "ann"]
    with person(program, *at, "--room", "here") as ann:
        ann.sees("-- /help for help --")
        ann.types("/room there", ENTER, "typed ahead", ENTER)
        ann.sees("-- you are ann in there, 1 here: ann --", TIME + "> ann: typed ahead")
        ann.has_status("there · 1 here · ann · connected")
        shell(f'echo meanwhile | "$@" connect {server.url} --room here --name bob', program)
        ann.types("/room h", TAB)
        ann.has_prompt("/room here")
        ann.types(ENTER)
        ann.sees("-- you are ann in here, 1 here: ann --", TIME + "  bob: meanwhile")
        ann.types("/room here", ENTER)
        ann.sees("-- you are in here --")
        ann.types("/room No", ENTER)
        ann.sees("-- room is not 1 to 64 of .* --")
        ann.has_prompt()
        assert not any("not connected" in line for line in ann.lines)
        assert sum("/help for help" in line for line in ann.lines) == 1


def test_somebody_says_my_name(program: list[str], server: Running) -> None:
    """A mention stands out and rings the bell, if that is wanted; a replay rings nothing."""
    at = [server.url, "--room", "bell"]
    shell('echo "ann, before" | "$@" connect ' + " ".join(at), program)
    with person(program, *at, "--name", "ann", "--bell", "--history", "9") as ann:
        ann.sees("-- /help for help --")
        with person(program, *at, "--name", "bob") as bob:
            bob.sees("-- /help for help --")
            ann.sees(TIME + "  anonymous: ann, before", TIME + "  bob joined the chat")
            assert ann.rings() == 0
            bob.types("anna and ann", ENTER, "bob and Ann", ENTER)
            ann.sees(TIME + "  bob: anna and ann", TIME + "  bob: bob and Ann")
            ann.hears_the_bell()
            assert ann.style("Ann")[1:] == (True, False)
            bob.sees(TIME + "> bob: bob and Ann")
            ann.types("bob!", ENTER)
            bob.sees(TIME + "  ann: bob!")
            assert bob.rings() == 0


def test_tab_and_up(program: list[str], server: Running) -> None:
    """Tab completes commands and names, with spaces too, and the up-arrow brings lines back."""
    with person(program, server.url, "--room", "tab", "--name", "Carol Ann") as carol:
        carol.sees("-- /help for help --")
        carol.types("/wh", TAB)
        carol.has_prompt("/who")
        carol.types(CTRL_U, "hello carol a", TAB)
        carol.sees("> hello Carol Ann")
        carol.types(ENTER)
        carol.sees(TIME + "> Carol Ann: hello Carol Ann")
        carol.types(UP)
        carol.has_prompt("hello Carol Ann")


def test_a_paste_of_several_lines_is_one_message(program: list[str], server: Running) -> None:
    """What is pasted or typed with Alt+Enter stays together, each line shown with the name."""
    with person(program, server.url, "--room", "paste", "--name", "ann") as ann:
        ann.sees("-- /help for help --")
        ann.types("\x1b[200~one\rtwo\n\nth\x1b[201~")
        ann.sees("> one", "two", "th")
        ann.types("ree", "\x1b", ENTER, "x", ENTER)
        ann.sees(TIME + "> ann: one", TIME + "> ann: two", TIME + "> ann:", TIME + "> ann: three")
        ann.has_prompt()
    script = f'"$@" connect {server.url} --room paste --history 9 --json'
    assert r'"text":"one\ntwo\n\nthree\nx"' in shell(script, program).output


def test_nothing_from_the_network_is_obeyed(program: list[str], server: Running) -> None:
    """Escape sequences, control and bidirectional characters of others do nothing here."""
    with person(program, server.url, "--room", "evil", "--name", "ann") as ann:
        ann.sees("-- /help for help --")
        evil = r"\x1b[2J\x1b]0;pwned\x07\x1b[31mred\xe2\x80\xaedlrow\xc2\x9b5A\x08\x7f\rann: no"
        shell(rf"printf '{evil}\n' | " + f'"$@" connect {server.url} --room evil', program)
        ann.sees("-- you are ann.*", TIME + "  anonymous: .*red.*", TIME + "  anonymous left.*")
        for bad in ("\x1b]0;pwned", "\x1b[2J\x1b", "\u202e", "\x9b", "\x7f", "\x07"):
            assert bad not in ann.raw
        assert not any(re.match(TIME + "..ann: no", line) for line in ann.lines)


def test_no_colour(program: list[str], server: Running) -> None:
    """With NO_COLOR not one colour is set."""
    with person(program, server.url, "--room", "grey", NO_COLOR="1") as ann:
        ann.sees("-- /help for help --")
        ann.types("hello /", ENTER)
        ann.sees(".*anonymous: hello /")
        ann.types("/help", ENTER, "/quit", ENTER)
        assert ann.ends() == 0
        for codes in re.findall(r"\x1b\[([\d;]*)m", ann.raw):
            for code in filter(None, codes.split(";")):
                assert int(code) < 30, codes


@pytest.mark.parametrize("columns", [12, 40])
def test_narrow_and_wide(program: list[str], server: Running, columns: int) -> None:
    """In a narrow window, with wide characters, and after a resize, the prompt is whole."""
    room = f"narrow-{columns}"
    with person(program, server.url, "--room", room, columns=columns) as ann:
        ann.has_prompt()
        ann.types("日本語 typed")
        ann.look(0.1)
        script = "printf '日本語の長い長い長い長い長い行\\n' | " + f'"$@" connect {server.url}'
        shell(f"{script} --room {room} --name b", program)
        ann.resizes(80, 24)
        shell(f'echo plain | "$@" connect {server.url} --room {room} --name c', program)
        ann.sees(TIME + "  c: plain", TIME + "  c left the chat")
        end = time.monotonic() + PATIENCE
        while "".join(ann.lines[-1].split()) != ">日本語typed":
            assert time.monotonic() < end, ann.lines
            ann.look(0.05)
        ann.types(ENTER)
        ann.sees(TIME + "> anonymous: .*typed")


def test_away_and_back(program: list[str]) -> None:
    """A lost connection is told, what is typed meanwhile is kept and sent on return."""
    with running(*program, "start", "--port", "0") as first:
        port = first.port
        with person(program, first.url, "--name", "ann") as ann:
            ann.sees("-- /help for help --")
            ann.types("half ")
            ann.has_prompt("half")
            first.signal(signal.SIGTERM)
            ann.sees(r"-- the server is stopping, trying again in \d\.\d s --")
            ann.types("typed", ENTER, "/name anna", ENTER, "/history 9", ENTER)
            ann.sees(
                "-- not connected: kept, and sent when we are --",
                "-- not connected: asked for when we are --",
                "-- not connected: shown when we are --",
            )
            ann.has_status("lobby · ann · not connected · 1 not sent")
            with running(*program, "start", "--port", port):
                ann.sees(
                    "-- connected again, you are ann in lobby --",
                    "-- messages may be missing --",
                    "-- you are anna --",
                    TIME + "> anna: half typed",
                )
                ann.has_status("lobby · 1 here · anna · connected")
                ann.has_prompt()


def test_leaving_with_something_unsent(program: list[str]) -> None:
    """Who leaves with an unsent line is told so, with exit code 1."""
    with running(*program, "start", "--port", "0") as server:
        with person(program, server.url) as ann:
            ann.sees("-- /help for help --")
            server.signal(signal.SIGKILL)
            ann.sees("-- connection lost, trying again in .* --")
            ann.types("lost", ENTER)
            ann.sees("-- not connected: kept, .*")
            ann.types("half", CTRL_C)
            assert ann.ends() == 1
            assert ann.lines[-1] == "left before 1 message came back"


def test_nobody_there(program: list[str]) -> None:
    """A terminal finds nobody, says so, and gives the shell its terminal back."""
    with person(program, "--port", "1", columns=120) as ann:
        assert ann.ends() == 1
        assert ann.lines[-1].startswith("Could not connect to server at ws://127.0.0.1:1/ (")


@pytest.mark.parametrize("how", [CTRL_C, CTRL_D, "INT", "TERM", "HUP"])
def test_every_way_to_leave(program: list[str], server: Running, how: str) -> None:
    """Ctrl+C and Ctrl+D at a half-typed line, and signals, end it with 0 and no prompt left."""
    with person(program, server.url, "--room", "ways") as ann:
        ann.sees("-- /help for help --")
        before = termios.tcgetattr(ann.child.child_fd)
        assert not before[3] & termios.ECHO
        if len(how) == 1:
            ann.types("" if how == CTRL_D else "half typed", how)
        else:
            ann.child.kill(getattr(signal, f"SIG{how}"))
        assert ann.ends() == 0
        assert ann.lines[-1] == "-- /help for help --"
        assert termios.tcgetattr(ann.child.child_fd)[3] & termios.ECHO


def test_a_terminal_that_goes_away(program: list[str], server: Running) -> None:
    """A terminal that is gone, with nobody to send a SIGHUP, ends it quietly and at once."""
    master, slave = os.openpty()
    process = subprocess.Popen(
        [*program, "connect", server.url, "--room", "gone"],
        stdin=slave,
        stdout=slave,
        stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm"},
        start_new_session=True,  # so that this terminal is not the one whose end kills it
    )
    try:
        os.close(slave)
        seen = b""
        while b"/help" not in seen:
            seen += os.read(master, 10_000)
        os.close(master)
        assert process.stderr is not None
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
        assert errors == b""
    finally:
        process.kill()
        process.wait()


def test_a_dumb_terminal(program: list[str], server: Running) -> None:
    """On a terminal that can do nothing it is plain: lines in, lines out, Ctrl+D leaves."""
    with person(program, server.url, "--room", "dumb", TERM="dumb") as ann:
        ann.sees("Each line is a message; /help for help, Ctrl\\+D leaves.")
        ann.types("hi\n")
        ann.sees("hi", "anonymous: hi")
        ann.types(CTRL_D)
        assert ann.ends() == 0
        assert "\x1b" not in ann.raw


def test_plain(program: list[str], server: Running) -> None:
    """What a screen reader reads is whole lines of words, without colours, times or a status."""
    at = [server.url, "--room", "plain"]
    with person(program, *at, "--name", "ann", "--plain", "--bell") as ann:
        ann.sees(
            "Connecting.",
            "Connected. You are ann in plain. 1 here: ann.",
            "Each line is a message; /help for help, Ctrl\\+D leaves.",
        )
        evil = r"printf '/me \x1b[31mwaves at ann\n' | "
        shell(f'{evil}"$@" connect {" ".join(at)} --name bob', program)
        ann.sees("bob joined the chat", "bob: /me waves at ann", "bob left the chat")
        ann.hears_the_bell()
        ann.types("/who\n", "/nick\n", "/name a:b\n", "/name anna\n", "/clear\n")
        ann.sees("1 here: ann")
        ann.sees("/nick is no command; /help lists them, //nick says it.")
        ann.sees("Error: name contains a colon.", "ann is now anna")
        ann.types("hi\n", "/room other\n")
        ann.sees("anna: hi", "Connected. You are anna in other. 1 here: anna.")
        ann.types("/quit\n")
        assert ann.ends() == 0
        assert "\x1b" not in ann.raw


def test_small_windows(program: list[str], server: Running) -> None:
    """In a window that is much too small the prompt is there, and the status if it fits."""
    at = [server.url, "--room", "small", "--name", "ann"]
    with person(program, *at, columns=20, rows=5) as ann:
        ann.has_status("small · 1 here")
        ann.types("h")
        ann.has_prompt("h")
        for number, (columns, rows) in enumerate(((10, 2), (2, 10), (20, 5))):
            ann.resizes(columns, rows)
            shell(f'echo x | "$@" connect {" ".join(at[:3])} --name b{number}', program)
            end = time.monotonic() + PATIENCE
            while f"b{number} left the chat" not in ann.raw or "".join(ann.lines[-2:])[-3:] not in (
                "> h",
                ">h",
            ):
                assert time.monotonic() < end, ann.lines
                ann.look(0.05)
            assert len(ann.bars) == (columns == 20)
        ann.types("i", ENTER)
        ann.sees(TIME + "> ann: hi")


# -- parts --


def completed(names: Names, text: str) -> list[str]:
    """Return what *text* may become."""
    found = names.get_completions(Document(text), CompleteEvent())
    return [text[: len(text) + each.start_position] + each.text for each in found]


def test_completion_of_names() -> None:
    """A name is completed from any of its beginnings, and forgotten when its owner leaves."""
    names = Names()
    for name in ("Carol Ann", "anna", "bob"):
        names.add(name)
    assert completed(names, "carol a") == ["Carol Ann", "carol anna"]
    assert completed(names, "hi an") == ["hi anna"]
    assert completed(names, "hi, ") == []
    assert completed(names, "xan") == []
    assert completed(names, "/w") == ["/who"]
    assert completed(names, "/na") == ["/name "]
    assert completed(names, "/room ") == []
    assert completed(Names(lambda: ["ops", "lobby"]), "/room o") == ["/room ops"]
    assert completed(names, "/me an") == ["/me anna"]
    names.remove("anna")
    assert completed(names, "hi an") == []


def test_known_names_are_bounded() -> None:
    """Of many names the latest are known."""
    names = Names()
    for number in range(KNOWN + 10):
        names.add(f"n{number}")
    assert completed(names, "n9 n1") != []
    assert len(completed(names, "n")) == KNOWN
    assert completed(names, f"n{KNOWN + 9}") == [f"n{KNOWN + 9}"]
