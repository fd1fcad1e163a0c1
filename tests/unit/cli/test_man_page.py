"""The man page: its content, and that groff and mandoc accept it."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from programs import PATIENCE

from broadcast_server.cli.main import main
from broadcast_server.cli.options import make_parser
from broadcast_server.cli.parser_schema import parser_schema


@pytest.fixture
def page(capsys: pytest.CaptureFixture[str]) -> str:
    """The page as `manual` prints it."""
    assert main(["manual"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    return shown.out


def pipe(page: str, *command: str) -> str:
    """Pipe the page through a program, and return the output."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"there is no {command[0]} here")
    done = subprocess.run(
        command, check=False, input=page, capture_output=True, encoding="utf-8", timeout=PATIENCE
    )
    assert done.stderr == ""
    return done.stdout


def test_it_has_every_option(page: str) -> None:
    """Groff shows every command with all of its options and their help."""
    shown = pipe(page, "groff", "-man", "-Tascii", "-ww", "-P-cbou")
    sections = re.split(r"^   broadcast-server (\S+)$", shown, flags=re.MULTILINE)
    texts = dict(zip(sections[1::2], sections[2::2], strict=True))
    program, *commands = parser_schema(make_parser())
    assert {*texts} == {command.name for command in commands}
    for command in (program, *commands):
        text = texts.get(command.name, sections[0])
        for option in command.options:
            assert re.search(rf"^ +{', '.join(option.flags)}\b", text, re.MULTILINE), option
            assert option.help.split()[0] in text


def test_the_synopsis_has_the_command_of_run(page: str) -> None:
    """The synopsis of ``run`` has the marker and the command that follows it."""
    shown = pipe(page, "groff", "-man", "-Tascii", "-ww", "-P-cbou")
    assert "broadcast-server run [options] [URL] -- COMMAND [ARGUMENT ...]\n" in shown
    assert shown.count(" -- COMMAND") == 1
    synopsis = page.partition(".SH SYNOPSIS\n")[2].partition(".SH")[0]
    assert r"\fB\-\-\fR \fICOMMAND\fR [\fIARGUMENT\fR ...]" in synopsis


def test_mandoc_accepts_it(page: str) -> None:
    """mandoc, the man of BSD, macOS and Alpine, has no complaint but the missing date."""
    complaints = pipe(page, "mandoc", "-T", "lint", "-W", "warning").splitlines()
    assert [line for line in complaints if "missing date" not in line] == []
