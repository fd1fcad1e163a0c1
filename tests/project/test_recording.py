"""The recording in the README: a session in a real pseudo-terminal, repeated in each run."""

from __future__ import annotations

import os
from pathlib import Path

from conftest import ROOT
from programs import Running
from recording import Recording
from terminal_person import ENTER, TIME, Person, person

COLUMNS, ROWS = 72, 16
TITLE = (
    "alice's terminal: bob joins and asks, she answers, and the line she is typing stays in place"
)
STATUS = "lobby · {} here · {} · connected"


def test_the_recording(program: list[str], server: Running) -> None:
    """The recording in the README shows the terminal as it is now.

    ``RECORDING=docs pytest tests/project/test_recording.py`` renews it.
    """
    recording = Recording(TITLE, COLUMNS, ROWS)
    at = [server.url, "--name"]

    def take(seconds: float, typed: str = "", here: int = 2, name: str = "alice") -> None:
        alice.has_prompt(typed)
        alice.has_status(STATUS.format(here, name))
        while alice.screen.cursor.hidden:  # it is hidden while the screen is drawn
            alice.look(0.02)
        recording.take(alice.screen, seconds)

    def types(text: str, before: str = "", name: str = "alice") -> None:
        for end in range(1, len(text) + 1):
            alice.types(text[end - 1])
            take(0.09, before + text[:end], name=name)

    def sends(member: Person, text: str) -> None:
        member.types(text, ENTER)

    with person(program, *at, "alice", columns=COLUMNS, rows=ROWS) as alice:
        alice.sees("-- you are alice in lobby, 1 here: alice --", "-- /help for help --")
        take(1.2, here=1)
        with person(program, *at, "bob") as bob:
            alice.sees(TIME + "  bob joined the chat")
            take(1.0)
            sends(bob, "is the deploy through, alice?")
            alice.sees(TIME + r"  bob: is the deploy through, alice\?")
            take(1.2)
            types("two min")
            sends(bob, "the customer is on the phone")
            alice.sees(TIME + "  bob: the customer is on the phone")
            take(1.0, "two min")
            types("utes, Zürich is done", "two min")
            alice.types(ENTER)
            alice.sees(TIME + "> alice: two minutes, Zürich is done")
            take(1.4)
            sends(bob, "/me puts the kettle on")
            alice.sees(TIME + "• bob: puts the kettle on")
            take(1.2)
            types("/name alice on call")
            alice.types(ENTER)
            alice.sees("-- you are alice on call --")
            take(1.4, name="alice on call")
            types("/who", name="alice on call")
            alice.types(ENTER)
            alice.sees(TIME + r"  \* 2 here: alice on call, bob")
            take(4.0, name="alice on call")
    target = Path(os.environ.get("RECORDING", ROOT / "docs")) / "terminal.svg"
    if "RECORDING" in os.environ:
        target.write_text(recording.svg(), encoding="utf-8")
    assert target.read_text(encoding="utf-8") == recording.svg(), "RECORDING=docs renews it"
