"""The completion scripts: what real shells offer on Tab."""

from __future__ import annotations

import argparse
import shutil
import subprocess
from pathlib import Path

import pexpect
import pytest
from programs import PATIENCE

from broadcast_server.cli.completion import SHELLS
from broadcast_server.cli.main import main
from broadcast_server.cli.options import make_parser
from broadcast_server.cli.parser_schema import parser_schema

OFFERED = {
    "": ["start", "connect"],
    "--ver": ["--version"],
    "sta": ["start"],
    "start --tls-": ["--tls-cert", "--tls-key"],
    "start --log-format ": ["text", "json"],
    "start --log-format=te": ["text"],
    "connect --name bob --js": ["--json"],
    "completion ": ["bash", "zsh", "fish"],
    "start --log roo": ["rooms log"],
    "wrap --since roo": ["rooms log"],
    "wrap -- frob": ["frobnicate"],
    "wrap --name bob -- frobnicate roo": ["rooms log"],
    "wrap --exec frob": ["frobnicate"],
    "wrap --exec frobnicate roo": ["rooms log"],
}
"""What is typed after the program's name, and what must be among the offers."""

NOT_OFFERED = {"start --hi": "--history", "start --host ": "rooms log", "sta": "connect"}

BASH = """\
source "$1"; shift
for line; do
    IFS=' ' read -ra COMP_WORDS <<<"${line//=/ = }"
    [[ $line == *' ' ]] && COMP_WORDS+=('')
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _broadcast_server
    printf '%s\\n' "${COMPREPLY[@]}" ''
done
"""

FISH = """\
source $argv[1]
for line in $argv[2..]
    complete -C $line | string split -f1 \\t
    echo
end
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the scripts, a file and a command."""
    (tmp_path / "rooms log").touch()
    program, *commands = parser_schema(parser_with_wrap())
    for shell, write in SHELLS.items():
        (tmp_path / shell).write_text(write(program, commands), encoding="utf-8")
    command = tmp_path / "bin" / "frobnicate"
    command.parent.mkdir()
    command.touch(0o755)
    return tmp_path


def parser_with_wrap() -> argparse.ArgumentParser:
    """Return our parser with an additional command `wrap`, which runs others."""
    whole = make_parser()
    (commands,) = [
        action for action in whole._actions if isinstance(action, argparse._SubParsersAction)
    ]
    wrap = commands.add_parser("wrap", description='It\'s "made": for [tests].')
    wrap.add_argument("--name", metavar="NAME", help="a name")
    wrap.add_argument("--since", metavar="CURSOR-FILE", help="a file that's \\ [here]")
    wrap.add_argument("--exec", nargs=argparse.REMAINDER, metavar="COMMAND", help="run: 'this'")
    wrap.add_argument("argv", nargs=argparse.REMAINDER, metavar="COMMAND", help="what to run")
    return whole


def find(shell: str) -> str:
    """Return a shell's path, or skip the test."""
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"there is no {shell} here")
    return path


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a shell."""
    path = f"{folder / 'bin'}:/usr/bin:/bin"
    return {"PATH": path, "HOME": str(folder), "LANG": "C.UTF-8", "TERM": "xterm"}


def offers_of(folder: Path, *command: str) -> list[list[str]]:
    """Return what a shell offers for each line, as printed by *command*."""
    lines = [f"broadcast-server {line}" for line in (*OFFERED, *NOT_OFFERED)]
    done = subprocess.run(
        [*command, *lines],
        check=True,
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
        cwd=folder,
        env=environment(folder),
    )
    assert done.stderr == ""
    return [block.replace("\\", "").splitlines() for block in done.stdout.split("\n\n")]


def check(offers: list[list[str]]) -> None:
    """Check that each line has the offers of OFFERED, and not those of NOT_OFFERED."""
    for (line, wanted), offered in zip(OFFERED.items(), offers, strict=False):
        ends = {offer.rpartition("=")[2] for offer in offered}
        assert ends.issuperset(wanted), line
    for (line, wrong), offered in zip(NOT_OFFERED.items(), offers[len(OFFERED) :], strict=False):
        assert wrong not in offered, line


def test_bash(folder: Path) -> None:
    """Bash completes commands, options, their values, and files, each where it fits."""
    check(offers_of(folder, find("bash"), "--norc", "-c", BASH, "bash", str(folder / "bash")))


def test_fish(folder: Path) -> None:
    """Fish completes commands, options, their values, and files, each where it fits."""
    check(offers_of(folder, find("fish"), "--no-config", "-c", FISH, str(folder / "fish")))


def test_zsh(folder: Path) -> None:
    """Zsh completes commands, options, their values, and files on Tab."""
    shell = pexpect.spawn(
        find("zsh"),
        ["-f", "-i"],
        cwd=str(folder),
        encoding="utf-8",
        dimensions=(24, 200),
        env=environment(folder),
    )
    shell.delaybeforesend = None
    try:
        shell.sendline(f"autoload -U compinit; compinit -D -u; source {folder / 'zsh'}")
        shell.sendline("broadcast-server() { print -r -- typed: $* }")
        for typed, completed in (
            ("sta", "start"),
            ("start --tls-c", "start --tls-cert"),
            ("start --log-format te", "start --log-format text"),
            ("start --log-format=js", "start --log-format=json"),
            ("start --log roo", "start --log rooms log"),
            ("completion fi", "completion fish"),
            ("wrap -- frob", "wrap -- frobnicate"),
            ("wrap --name bob -- frobnicate roo", "wrap --name bob -- frobnicate rooms log"),
            ("wrap --exec frob", "wrap --exec frobnicate"),
        ):
            shell.send(f"broadcast-server {typed}\t\r")
            shell.expect(f"\ntyped: {completed}\r\n", PATIENCE)
    finally:
        shell.close(force=True)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_is_printed(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`completion` prints the script and nothing else."""
    assert main(["completion", shell]) == 0
    program, *commands = parser_schema(make_parser())
    assert capsys.readouterr() == (SHELLS[shell](program, commands), "")
