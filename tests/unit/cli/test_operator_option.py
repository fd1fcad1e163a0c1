"""The operator key: where it is read from, how `start` makes it, and where it must not be."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from programs import running

from broadcast_server.cli.operator_option import operator_key_from_options
from broadcast_server.cli.options import parse_options
from broadcast_server.cli.start import settings_of
from broadcast_server.cli.startup import print_startup
from broadcast_server.cli.target_option import target_from_options
from broadcast_server.console.child_environment import child_environment


def start_with(*words: object) -> str | None:
    """Return the operator key of `start` with these options."""
    return settings_of(parse_options(["start", *map(str, words)])).operator_key


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_key_is_made_once(
    log_format: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that does not exist is made, private, and its key is nowhere else.

    Standard error may be a screen that others see, or a log that others keep.
    """
    path = tmp_path / "operators"
    words = ["start", "--log-format", log_format, "--operator-file", str(path)]
    printed = []
    keys = []
    for _ in range(2):
        options = parse_options(words)
        keys.append(settings_of(options).operator_key or "")
        print_startup(options, ["ws://127.0.0.1:1/"])
        printed.append(capsys.readouterr().err)
    assert keys[0] == keys[1] and len(keys[0]) == 24
    assert path.read_text(encoding="ascii") == f"{keys[0]}\n"
    assert not any(keys[0] in text for text in printed)
    if log_format == "text":
        line = f"operator key: in {path}, which only you can read"
        assert printed[0].splitlines()[:2] == ["listening on ws://127.0.0.1:1/", line]
        assert "operator" not in printed[1]
    if sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert start_with("--operator-file", tmp_path / "other") not in keys


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "it is empty, an operator key is 1 to 1024 characters"),
        (b"x" * 1025, "it is too long, an operator key is 1 to 1024 characters"),
        (b"two words\n", "an operator key is one line of visible ASCII characters"),
        (b"\xff\n", "an operator key is one line of visible ASCII characters"),
    ],
)
def test_an_invalid_file(tmp_path: Path, content: bytes, error: str) -> None:
    """The error has the file and the rule, and not the key."""
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"operator file {path}: {error}"):
        start_with("--operator-file", path)


@pytest.mark.parametrize(
    ("name", "error"),
    [("no/folder/key", "cannot be made"), (".", "is a directory"), ("link", "no such file")],
)
def test_a_path_where_no_file_can_be(tmp_path: Path, name: str, error: str) -> None:
    """A folder is no file, and a link to nowhere is not followed to make one."""
    if sys.platform != "win32":
        (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=error):
        start_with("--operator-file", tmp_path / name)
    assert not (tmp_path / "elsewhere").exists()


def test_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is typed goes before the key in the environment, and that before its file."""
    path = tmp_path / "key"
    path.write_text("in-the-file\n", encoding="ascii")
    monkeypatch.setenv("BROADCAST_OPERATOR_FILE", str(path))
    assert start_with() == "in-the-file"
    monkeypatch.setenv("BROADCAST_OPERATOR", "in-the-variable\n")
    assert start_with() == "in-the-variable"
    assert start_with("--operator-file", path) == "in-the-file"
    assert "BROADCAST_OPERATOR" not in child_environment()
    assert child_environment()["BROADCAST_OPERATOR_FILE"] == str(path)
    with pytest.raises(ValueError, match="--operator-file is empty"):
        start_with("--operator-file", "")
    for variable in ("BROADCAST_OPERATOR", "BROADCAST_OPERATOR_FILE"):
        monkeypatch.setenv(variable, " ")
        with pytest.raises(ValueError, match=f"{variable} is set and empty"):
            start_with()
        assert start_with("--operator-file", path) == "in-the-file"
        monkeypatch.delenv(variable)


@pytest.mark.parametrize("command", ["connect OPTION", "send hi OPTION", "run OPTION -- true"])
def test_a_client_makes_no_key(tmp_path: Path, command: str) -> None:
    """The commands of clients read the key, and a file that does not exist is an error."""
    option = f"--operator-file={tmp_path / 'key'}"
    options = parse_options(command.replace("OPTION", option).split())
    with pytest.raises(ValueError, match=r"operator file .*: "):
        operator_key_from_options(options)
    (tmp_path / "key").write_text("key\n", encoding="ascii")
    target = target_from_options(options)
    assert target.operator_key == "key" and not target.exposes_token
    options.url = "ws://192.0.2.1/"
    assert target_from_options(options).exposes_token


def test_from_start_to_send(program: list[str], tmp_path: Path) -> None:
    """With the file that `start` has made, a program writes in announce mode."""
    path = tmp_path / "key"
    with running(*program, "start", "--port", "0", "--operator-file", str(path)) as server:
        client = [*program, "connect", server.url, "--json", "--operator-file", str(path)]
        joined = subprocess.run(
            [*client, "--count", "1", "--timeout", "5"],
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        welcome = json.loads(joined.stdout.splitlines()[0])
        assert welcome["operator"] is True
        path.write_text("guess\n", encoding="ascii")
        wrong = subprocess.run(
            [*program, "send", "hi", server.url, "--operator-file", str(path)],
            check=False,
            capture_output=True,
            text=True,
        )
        assert wrong.returncode == 1 and "operator key is wrong" in wrong.stderr
