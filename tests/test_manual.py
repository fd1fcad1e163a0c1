"""The manual: what a person reads with man."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from programs import PATIENCE

from broadcast_server.cli import main
from broadcast_server.options import parser
from broadcast_server.synopsis import commands


@pytest.fixture
def page(capsys: pytest.CaptureFixture[str]) -> str:
    """The page as it is printed."""
    assert main(["manual"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    return shown.out


def pipe(page: str, *command: str) -> str:
    """Give the page to a program, and return what it says."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"there is no {command[0]} here")
    done = subprocess.run(
        command, check=False, input=page, capture_output=True, encoding="utf-8", timeout=PATIENCE
    )
    assert done.stderr == ""
    return done.stdout


def test_it_has_every_option(page: str) -> None:
    """As groff shows it, every command has all of its options, with what they mean."""
    shown = pipe(page, "groff", "-man", "-Tascii", "-ww", "-P-cbou")
    sections = re.split(r"^   broadcast-server (\S+)$", shown, flags=re.MULTILINE)
    said = dict(zip(sections[1::2], sections[2::2], strict=True))
    whole, *found = commands(parser())
    assert {*said} == {command.name for command in found}
    for command in (whole, *found):
        text = said.get(command.name, sections[0])
        for option in command.options:
            assert re.search(rf"^ +{', '.join(option.flags)}\b", text, re.MULTILINE), option
            assert option.help.split()[0] in text


def test_mandoc_has_nothing_against_it(page: str) -> None:
    """The page is well-formed for the man of BSD, macOS and Alpine, too; its date is not known."""
    complaints = pipe(page, "mandoc", "-T", "lint", "-W", "warning").splitlines()
    assert [each for each in complaints if "missing date" not in each] == []
