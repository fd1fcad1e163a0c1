"""Locales and encodings: what is typed arrives as it was meant, and what is printed is no error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import Processes
from programs import PATIENCE, running, said, shell, until

from broadcast_server.console.argument import argument_text
from broadcast_server.pipe.process_text import command_text

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""A locale without an encoding, which Python takes for ASCII."""

TOLD = "said already"


@pytest.fixture(scope="module")
def latin_1(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables of a locale whose encoding is ISO-8859-1."""
    folder = tmp_path_factory.mktemp("locales")
    source = Path("/usr/share/i18n/locales/POSIX")
    command = ["localedef", "-c", "-i", str(source), "-f", "ISO-8859-1", str(folder / "xx_XX")]
    try:
        subprocess.run(command, check=False, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs localedef")
    if not (folder / "xx_XX/LC_CTYPE").is_file():
        pytest.skip("needs the sources of the locales")
    return {"LOCPATH": str(folder), "LC_ALL": "xx_XX", "PYTHONUTF8": "0"}


@pytest.fixture
def url(processes: Processes, program: list[str]) -> str:
    """The address of a server."""
    return processes.url(tuple(program), ("--max-rooms", "9999"))


def run(script: str, program: list[str], encoding: str, variables: dict[str, str]) -> list[str]:
    """Run a bash script whose characters are typed and shown in *encoding*; return its lines."""
    done = subprocess.run(
        ["bash", "-c", script.encode(encoding), "bash", *program],
        check=True,
        capture_output=True,
        timeout=PATIENCE,
        env={**os.environ, **variables},
    )
    assert not done.stderr, done.stderr
    return done.stdout.decode(encoding).splitlines()


@pytest.mark.parametrize("encoding", ["iso-8859-1", "utf-8"])
def test_what_is_typed_arrives(
    request: pytest.FixtureRequest, program: list[str], url: str, encoding: str
) -> None:
    """Text, names, labels and commands are those that were typed, in every locale."""
    latin = encoding != "utf-8"
    variables = request.getfixturevalue("latin_1") if latin else ASCII
    room = f"typed-{encoding}"
    script = f"""
        "$@" send 'Grüße' {url} --room {room} --name Zoë
        "$@" send 'à toi' '{url}?name=Zoë&room={room}'
        BROADCAST_NAME=Zoë "$@" run --room {room} {url} -- echo é
        "$@" run --label 'Prüfung' --room {room} {url} -- true"""
    lines = run(script, program, encoding, variables)
    assert lines[:3] == [f"sent to 0 in {room}", f"sent to 0 in {room}", "é"]
    assert [line.partition(" after ")[0] for line in said(url, room)] == [
        "Zoë: Grüße",
        "Zoë: à toi",
        "Zoë: started: echo 'é'",
        "Zoë: echo 'é' ended with 0",
        "anonymous: started: Prüfung",
        "anonymous: Prüfung ended with 0",
    ]


def test_a_name_that_cannot_be_printed(program: list[str], url: str) -> None:
    """After a message was published nothing fails: a script would publish it again."""
    script = f"""
        "$@" send one '{url}?name=%E2%98%83'
        "$@" send two {url} --json --name ☃
        "$@" connect {url} --history 2 --listen --json </dev/null | head -1
        "$@" send three '{url}?room=☃' || echo "code $?" """
    done = shell(script, program, **ASCII)
    first, second, third, fourth = done.output.splitlines()
    assert first == "sent to 0 in lobby"
    assert json.loads(second)["name"] == "☃"
    assert json.loads(third)["type"] == "welcome"
    assert fourth == "code 1"
    assert said(url, "lobby")[-2:] == ["☃: one", "☃: two"]


@pytest.mark.parametrize(
    ("redirection", "errors"),
    [
        (">/dev/full", "Could not write to standard output: no space left on device\n"),
        (">&-", ""),
        (">/dev/full 2>&1", ""),
        (">&- 2>&-", ""),
        ("2>/dev/full >/dev/null", ""),
        ("| true", ""),
    ],
)
def test_a_message_is_said_whatever_becomes_of_the_output(
    program: list[str], url: str, redirection: str, errors: str
) -> None:
    """The exit code says whether the message was published, and not whether that was printed."""
    room = "".join(filter(str.isalnum, f"out{redirection}".lower()))
    script = f"""
        set -o pipefail
        until "$@" send '{TOLD}' {url} --room {room} --name Zoë --timeout 9 {redirection}
        do sleep 0.1; done"""
    done = shell(script, program, PYTHONIOENCODING="ascii")
    assert (done.code, done.output, done.errors) == (0, "", errors)
    assert said(url, room) == [f"Zoë: {TOLD}"]


def test_json_log_lines_are_json(program: list[str]) -> None:
    """A name that the encoding of standard error does not have is escaped as JSON has it."""
    command = *program, "start", "--port", "0", "--log-format", "json"
    with running(*command, PYTHONIOENCODING="ascii") as server:
        until(lambda: "\n" in server.errors, "a server that listens")
        url = json.loads(server.errors.splitlines()[0])["url"]
        shell(f'"$@" connect {url} --name Zoë </dev/null', program)
        until(lambda: "left" in server.errors, "a member that left")
        names = [json.loads(line).get("name") for line in server.errors.splitlines()]
        server.signal(signal.SIGTERM)
    assert names.count("Zoë") == 2


def test_bytes_that_are_no_text() -> None:
    """What neither the locale nor UTF-8 knows is replaced, and nothing else."""
    assert argument_text("Zoë ☃") == "Zoë ☃"
    assert argument_text("Zo\udcc3\udcab") == "Zoë"
    assert argument_text("a\udcff") == "a�"
    assert command_text(["echo", "a\udcff"]) == "echo 'a�'"
