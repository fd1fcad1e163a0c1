"""`connect` at a terminal: what a person sees and types, in a real pseudo-terminal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import termios
import time

import pytest
from programs import PATIENCE, Running, running, say, shell
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from terminal_person import CTRL_A, CTRL_C, CTRL_D, CTRL_U, ENTER, TAB, TIME, UP, person

from broadcast_server.protocol.messages import Joined, Left, Renamed
from broadcast_server.terminal.completer import NameCompleter
from broadcast_server.terminal.known_names import MAX_NAMES, KnownNames


def test_two_people_chat(program: list[str], server: Running) -> None:
    """Both see joins, messages and leaves with the time, and their own messages marked."""
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
    """Each command works, an unknown one is an error, and ``//`` sends a slash."""
    with person(program, server.url, "--room", "commands", rows=40) as ann:
        ann.sees("-- /help for help --")
        ann.has_status("commands · 1 here · anonymous · connected")
        ann.types("/who", ENTER)
        ann.sees(TIME + r"  \* 1 here: anonymous")
        ann.types("/help", ENTER)
        ann.sees(
            r"   /who +list who is here",
            r"   /quit +leave the room",
            r"   //text +send /text as a message",
        )
        ann.types("/nikc bob", ENTER)
        ann.sees(
            r"-- unknown command /nikc \(did you mean /nick\?\): see /help, or type //nikc to sen"
        )
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
            "-- replaying up to 2 messages --",
            TIME + "  anonymous: /nick bob",
            TIME + "• ann: waves",
        )
        ann.types("still here", ENTER)
        ann.sees(TIME + "• ann: waves", TIME + "> ann: still here")
        ann.types("/exit", ENTER)
        assert ann.ends() == 0
        assert not any("left the chat" in line or "again" in line for line in ann.lines)


@pytest.mark.parametrize(
    ("count", "notice"),
    [("1", "-- replaying up to 1 message --"), ("2", "-- replaying up to 2 messages --")],
)
def test_history_does_not_promise_a_count(
    program: list[str], server: Running, count: str, notice: str
) -> None:
    """With one message in the room, /history says how many it shows at most, in the right number.

    It said "the last 1 messages", and "the last 2 messages" above a single one.
    """
    with person(program, server.url, "--room", f"history-{count}", "--name", "ann") as ann:
        ann.sees("-- /help for help --")
        ann.types("only", ENTER)
        ann.sees(TIME + "> ann: only")
        ann.types(f"/history {count}", ENTER)
        ann.sees(TIME + "> ann: only", notice, TIME + "> ann: only")
        ann.has_prompt()


def test_switching_rooms(program: list[str], server: Running) -> None:
    """/room keeps the name, and a return to a room shows what was published there meanwhile."""
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
        ann.sees("-- you are already in here --")
        ann.types("/room No!", ENTER)
        ann.sees("-- room is not 1 to 64 of .* --")
        ann.has_prompt()
        assert not any("not connected" in line for line in ann.lines)
        assert sum("/help for help" in line for line in ann.lines) == 1


def test_a_mention_is_highlighted_and_rings(program: list[str], server: Running) -> None:
    """A mention is highlighted, and rings the bell with --bell unless it is part of a replay."""
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


def test_tab_completes_and_up_recalls(program: list[str], server: Running) -> None:
    """Tab completes commands and names, also those with spaces; Up recalls a line."""
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
    """Lines pasted or typed with Alt+Enter are one message; each is shown with the name."""
    with person(program, server.url, "--room", "paste", "--name", "ann") as ann:
        ann.sees("-- /help for help --")
        ann.types("\x1b[200~one\rtwo\n\nth\x1b[201~")
        ann.sees("> one", "two", "th")
        ann.types("ree", "\x1b", ENTER, "x", ENTER)
        ann.sees(TIME + "> ann: one", TIME + "> ann: two", TIME + "> ann:", TIME + "> ann: three")
        ann.has_prompt()
        ann.types("\x1b[200~", "".join(f"  at frame {n}\r" for n in range(80)), "\x1b[201~", ENTER)
        ann.sees(TIME + "> ann:   at frame 79")
        # What is too long stays in the prompt.
        ann.types("\x1b[200~", "\r".join(["x"] * 2049), "y\x1b[201~", ENTER)
        ann.sees(r"-- not sent: message is 2049 lines, limit is 2048 \(.*")
        ann.types("\x7f\x7f\x7f", ENTER)
        ann.sees(TIME + "> ann: x")
        ann.has_prompt()
    script = f'"$@" connect {server.url} --room paste --history 9 --json'
    output = shell(script, program).output
    assert r'"text":"one\ntwo\n\nthree\nx"' in output
    assert r"  at frame 0\n  at frame 1\n" in output
    assert r"x\nx\nx\nx\nx" in output


def test_a_paste_in_plain_mode_is_complete(program: list[str], server: Running) -> None:
    """Each of its lines is a message, and none is lost, however many there are."""
    with person(program, server.url, "--room", "lines", "--name", "ann", "--plain") as ann:
        ann.sees("Connected.*")
        ann.types("".join(f"at frame {n}\r" for n in range(600)))
        ann.sees("at frame 599")
        ann.types("/quit\r")
        assert ann.ends() == 0
    script = f'"$@" connect {server.url} --room lines --history 999 | grep -c "ann: at frame"'
    assert shell(script, program).output.strip() == "600"


def test_control_characters_from_others_are_removed(program: list[str], server: Running) -> None:
    """Escape sequences, control and bidirectional characters of others are not printed."""
    with person(program, server.url, "--room", "evil", "--name", "ann") as ann:
        ann.sees("-- /help for help --")
        evil = "\x1b[2J\x1b]0;pwned\x07\x1b[31mred\u202edlrow\x9b5A\x08\x7f\rann: no"
        say(server.url, "evil", "bob", evil)
        ann.sees("-- you are ann.*", TIME + "  bob: reddlrow", TIME + "  bob: ann: no")
        for bad in ("\x1b]0;pwned", "\x1b[2J\x1b", "\u202e", "\x9b", "\x7f", "\x07"):
            assert bad not in ann.raw
        assert not any(re.match(TIME + "..ann: no", line) for line in ann.lines)


def test_no_colour(program: list[str], server: Running) -> None:
    """With NO_COLOR no colour is used."""
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
def test_wide_characters_and_a_resize(program: list[str], server: Running, columns: int) -> None:
    """The prompt stays intact in a narrow window, with wide characters, and after a resize."""
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


def test_input_during_an_outage_is_sent_after_it(program: list[str]) -> None:
    """A lost connection is reported, and what is typed meanwhile takes effect afterwards."""
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
                "-- not connected: the message will be sent once connected --",
                "-- not connected: the name will be requested once connected --",
                "-- not connected: the history will be shown once connected --",
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


def test_leaving_with_an_unsent_message(program: list[str]) -> None:
    """Leaving with an unsent message prints a warning, and the exit code is 1."""
    with running(*program, "start", "--port", "0") as server:
        with person(program, server.url) as ann:
            ann.sees("-- /help for help --")
            server.signal(signal.SIGKILL)
            ann.sees("-- connection lost, trying again in .* --")
            ann.types("lost", ENTER)
            ann.sees("-- not connected: the message will be sent .*")
            ann.types("half", CTRL_C)
            assert ann.ends() == 1
            assert ann.lines[-1] == "left before 1 message was confirmed"


def test_no_server(program: list[str]) -> None:
    """Without a server the client says so and exits with 1, and the terminal is usable again."""
    with person(program, "--port", "1", columns=120) as ann:
        assert ann.ends() == 1
        assert ann.lines[-1].startswith("Could not connect to server at ws://127.0.0.1:1/ (")


@pytest.mark.parametrize("how", [CTRL_C, CTRL_D, "INT", "TERM", "HUP"])
def test_every_way_to_leave(program: list[str], server: Running, how: str) -> None:
    """Ctrl+C, Ctrl+D and signals end the client with 0, and no prompt is left behind."""
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
    """A terminal that disappears without a SIGHUP ends the client at once, without output."""
    master, slave = os.openpty()
    process = subprocess.Popen(
        [*program, "connect", server.url, "--room", "gone"],
        stdin=slave,
        stdout=slave,
        stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm"},
        start_new_session=True,  # otherwise closing the terminal would send a SIGHUP
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
    """With TERM=dumb the client uses the plain mode, and Ctrl+D leaves."""
    with person(program, server.url, "--room", "dumb", TERM="dumb") as ann:
        ann.sees("Each line is a message; /help for help, Ctrl\\+D leaves.")
        ann.types("hi\n", "/who\n")
        ann.sees("hi", "1 here, anonymous")
        assert ann.raw.count("hi") == 1
        ann.types(CTRL_D)
        assert ann.ends() == 0
        assert "\x1b" not in ann.raw


def test_plain(program: list[str], server: Running) -> None:
    """--plain prints whole lines of words, without colours, times or a status line."""
    at = [server.url, "--room", "plain"]
    with person(program, *at, "--name", "ann", "--plain", "--bell") as ann:
        ann.sees(
            "Connecting.",
            "Connected. You are ann in plain. 1 here, ann.",
            "Each line is a message; /help for help, Ctrl\\+D leaves.",
        )
        evil = r"printf '/me \x1b[31mwaves at ann\n' | "
        shell(f'{evil}"$@" connect {" ".join(at)} --name bob', program)
        ann.sees("bob joined the chat", "bob: /me waves at ann", "bob left the chat")
        ann.hears_the_bell()
        ann.types("/who\n", "/xyz\n", "/name a:b\n", "/name anna\n", "/clear\n")
        ann.sees("1 here, ann")
        ann.sees("Unknown command /xyz, see /help, or type //xyz to send it as text.")
        ann.sees("Error, name contains a colon.", "ann is now anna")
        # Own messages are not repeated, and keys edit the line.
        ann.types("hello\n", "/nx", "\x7f", "ames\n")
        ann.sees("hello", "/names", "1 here, anna")
        assert ann.raw.count("hello") == 1
        ann.types("/history 1\n")
        ann.sees("anna: hello")
        # What arrives while something is half typed comes after it.
        rings = ann.rings()
        ann.types("half")
        ann.sees("half")
        end = time.monotonic() + PATIENCE
        while ann.rings() == rings:  # it rings every two seconds at most
            assert time.monotonic() < end, ann.lines
            say(server.url, "plain", "eve", "dear anna")
            ann.look(0.3)
        assert ann.lines[-1] == "half"
        ann.types(" typed\n")
        ann.sees("half typed", "eve: dear anna")
        ann.types("x", CTRL_U)
        say(server.url, "plain", "eve", "again")
        ann.sees("eve: again")
        ann.types("/msg anna psst\n")
        ann.sees("Sent to anna in private.")
        ann.types("/room other\n")
        ann.sees("Connected. You are anna in other. 1 here, anna.")
        ann.types("/quit\n")
        assert ann.ends() == 0
        assert "\x1b" not in ann.raw


def test_small_windows(program: list[str], server: Running) -> None:
    """In a window that is much too small there is a prompt, and the status line if it fits."""
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


# -- the completer --


def completed(names: NameCompleter, text: str) -> list[str]:
    """Return the completions of *text*."""
    completions = names.get_completions(Document(text), CompleteEvent())
    return [text[: len(text) + each.start_position] + each.text for each in completions]


def test_completion_of_names() -> None:
    """A name is completed from the start of any of its words, and forgotten when it has left."""
    known = KnownNames()
    names = NameCompleter(known)
    for name in ("Carol Ann", "anna", "bob"):
        known.apply(Joined(name, 2))
    assert completed(names, "carol a") == ["Carol Ann", "carol anna"]
    assert completed(names, "hi an") == ["hi anna"]
    assert completed(names, "hi, ") == []
    assert completed(names, "xan") == []
    assert completed(names, "/w") == ["/who"]
    assert completed(names, "/na") == ["/name "]
    assert completed(names, "/room ") == []
    rooms = NameCompleter(known, lambda: ["ops", "lobby"])
    assert completed(rooms, "/room o") == ["/room ops"]
    assert completed(names, "/me an") == ["/me anna"]
    assert completed(names, "/msg carol a") == ["/msg Carol Ann: "]
    assert completed(names, "/msg ") == ["/msg bob: ", "/msg anna: ", "/msg Carol Ann: "]
    assert completed(names, "/msg bob: ann") == []
    assert completed(names, " /W carol a") == [" /W Carol Ann: "]
    assert completed(names, "/report Carol") == ["/report Carol Ann: "]
    for command in ("/kick", "/mute", "/unmute", "/ignore"):
        assert completed(names, f"{command} carol a") == [f"{command} Carol Ann"]
        assert completed(names, f"{command} ann") == [f"{command} anna"]
    known.apply(Left("anna", 2))
    assert completed(names, "hi an") == []
    assert completed(names, "/kick ") == ["/kick bob", "/kick Carol Ann", "/kick anna"]
    assert {*known.all} == {"Carol Ann", "anna", "bob"}
    known.apply(Joined("anna", 3))
    known.apply(Renamed("bob", "rob"))
    assert [*known] == ["Carol Ann", "anna", "rob"]
    assert known.all == ("Carol Ann", "anna", "rob", "bob")


def test_known_names_are_bounded() -> None:
    """Of too many names, the ones seen last are kept, of those who have left as well."""
    known = KnownNames()
    names = NameCompleter(known)
    for number in range(MAX_NAMES + 10):
        known.apply(Joined(f"n{number}", number))
    assert completed(names, "n9 n1") != []
    assert len(completed(names, "n")) == MAX_NAMES
    assert completed(names, f"n{MAX_NAMES + 9}") == [f"n{MAX_NAMES + 9}"]
    for number in range(2 * MAX_NAMES):
        known.apply(Left(f"n{number}", number))
    assert len(known.all) == MAX_NAMES
