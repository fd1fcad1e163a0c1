"""The documents: what they say of codes, options and bounds is what the code has."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

import broadcast_server
from benchmarks.command import parser as benchmark
from broadcast_server import (
    brake,
    connection,
    conversation,
    door,
    eventstream,
    fanout,
    handler,
    history,
    openroom,
    pipe,
    post,
    protocol,
    quota,
    room,
    send,
    server,
    share,
    web,
)
from broadcast_server.options import parser
from broadcast_server.protocol import CloseCode

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(broadcast_server.__file__).parent
SOURCES = [*PACKAGE.glob("*.py"), *ROOT.glob("django_site/*.py")]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]


def text(name: str) -> str:
    """Read a document."""
    return (ROOT / name).read_text(encoding="utf-8")


def test_every_close_code_is_told() -> None:
    """Every code by which we close is in the protocol's document."""
    document = text("docs/protocol.md")
    sent = {int(code) for code in re.findall(r"^\| (\d{4}) \|", document, re.MULTILINE)}
    assert sent == {*CloseCode}


def test_every_error_code_is_told() -> None:
    """Every error code that the code can send is in the protocol's document."""
    source = "".join(path.read_text(encoding="utf-8") for path in SOURCES)
    codes = set(re.findall(r'Error\(\s*"(\w+)"', source))
    codes |= set(re.findall(r'CloseCode\.\w+, "(\w+)"', source))
    codes |= set(re.findall(r'expel\([^)]*, "(\w+)"', source))
    assert len(codes) > 10
    assert {code for code in codes if f"`{code}`" not in text("docs/protocol.md")} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_options_in_documents_exist(document: Path) -> None:
    """An option or variable that a document speaks of can be given."""
    shown = "".join(each.format_help() for each in commands())
    shown += benchmark().format_help() + text("django_site/settings.py")
    ours = re.compile(
        r"broadcast-server(?:\.pyz)? (?:start|connect|send|run)[^\n`]*|`--[a-z-]+|BROADCAST_\w+"
    )
    for mention in ours.findall(document.read_text(encoding="utf-8")):
        for word in re.findall(r"--[a-z][a-z-]+|BROADCAST_\w+", mention):
            assert re.search(rf"{word}\b", shown), word


def commands() -> list[argparse.ArgumentParser]:
    """Return the parsers of all commands."""
    whole = parser()
    (choices,) = [each.choices for each in whole._actions if isinstance(each.choices, dict)]
    return [whole, *choices.values()]


BOUNDS = {
    "the head of a request | 8 KiB": web.HEAD_BYTES == 8 * 2**10,
    "and a line break, within 20 s": (post.body_limit(9), post.PATIENCE) == (11, 20),
    "a stream that takes nothing | 64 KiB in its transport, 40 s": (
        (connection.BUFFER, eventstream.STALLED) == (2**16, 40)
    ),
    "a frame | 1 MiB": protocol.MAX_FRAME_BYTES == 2**20,
    "a message | 4,096 bytes": protocol.MAX_MESSAGE_BYTES == 4096,
    "a line for each 16": protocol.BYTES_A_LINE == 16,
    "4,096, 1 MiB of text": (fanout.EVENTS, fanout.TEXT) == (4096, 2**20),
    "who comes in a turn | 256": openroom.NEWCOMERS == 256,
    "wait for a member | 4,096": fanout.WAITING == 4096,
    "50,000 messages, 16 MiB": (history.MESSAGES, history.BYTES) == (50_000, 2**24),
    "256, 64 MiB of text": (server.EMPTY_ROOMS, server.EMPTY_BYTES) == (256, 2**26),
    "100 in a welcome, 1,000 to": (protocol.ROSTER, protocol.ROSTER_ASKED) == (100, 1000),
    "by answers to its pings | 8 MiB": connection.MOST == 2**23,
    "unsent for a socket, on Linux and macOS | 128 KiB": connection.UNSENT == 2**17,
    "without an echo | 1,000": conversation.WINDOW == 1000,
    "a line of piped input | 128 KiB": pipe.LONGEST_LINE == 2**17,
    "what `send` reads | 128 KiB": send.LONGEST == 2**17,
    "its client leaves | 5 s, and 1 s": (handler.PATIENCE, handler.MERCY) == (5, 1),
}


@pytest.mark.parametrize("words", BOUNDS)
def test_bounds_are_those_of_the_code(words: str) -> None:
    """A bound in the table of the architecture is the one that holds."""
    assert words in text("docs/architecture.md")
    assert BOUNDS[words]


def test_limits_are_those_of_the_options() -> None:
    """Every limit of `start` is in the table of limits, with its default and a reason."""
    rows = re.findall(
        r"^\| `(--[a-z-]+)` \| ([\d,]+) \| (.+) \| .+ \|$", text("docs/limits.md"), re.MULTILINE
    )
    shown = {option: int(default.replace(",", "")) for option, default, _ in rows}
    (start,) = [each for each in commands() if each.prog.endswith(" start")]
    defaults = {action.option_strings[0]: action.default for action in start._actions}
    assert shown == {option: int(defaults[option]) for option in shown}
    assert {each for each in defaults if each.startswith("--max") or each == "--rate"} <= {*shown}


def test_figures_of_the_limits_are_those_of_the_code() -> None:
    """A figure in the document of limits is the one that holds."""
    document = " ".join(text("docs/limits.md").split())
    assert f"at most {share.MESSAGES} messages or {share.BYTES // 2**10} KiB" in document
    assert f"At most {brake.WAITING} attempts" in document
    assert f"{brake.ADDRESSES:,} addresses are remembered" in document
    assert (brake.MEMORY, brake.LONGEST, brake.FIRST, brake.FREE) == (600, 8, 0.25, 1)
    assert quota.BURST == 10 and "ten times as many at once" in document
    assert door.AGAIN == 60 and "once a minute" in document


def test_figures_of_the_protocol_are_those_of_the_code() -> None:
    """A figure in the protocol's document is the one that holds."""
    document = " ".join(text("docs/protocol.md").split())
    assert f"the last {history.MESSAGES:,} messages" in document
    assert f"at most {history.BYTES // 2**20} MiB of text" in document
    assert room.FAULTS == 10 and "ten faults in a row" in document
    assert f"a string of 1 to {protocol.MAX_ID} characters" in document


def test_the_readme_begins_with_the_two_commands() -> None:
    """The two commands are the first block of the README, and CI runs the second as it stands."""
    block = text("README.md").split("```")[1].splitlines()[1:]
    assert block[0] == "python3 build_zipapp.py && python3 broadcast-server.pyz start"
    assert block[1].startswith("python3 -m venv .venv && ")
    assert block[1] in text(".ci/run")


def test_every_setting_of_the_hosted_house_is_told() -> None:
    """The table of settings has what the settings read from the environment, and no more."""
    source = text("django_site/settings.py")
    read = set(re.findall(r'env\.\w+\(\s*"(\w+)"', source))
    read |= set(re.findall(r'"(\w+)" (?:not )?in env\.ENVIRON', source))
    (table,) = re.findall(r"## Settings\n(.*?)\n## ", text("docs/hosted.md"), re.DOTALL)
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == read


def test_figures_of_the_hosted_house_are_those_of_the_code() -> None:
    """How many failures and tokens there may be is what the code has."""
    brake = text("django_site/accounts/brake.py")
    assert re.findall(r"^[A-Z]+ = (\d+)$", brake, re.MULTILINE) == ["5", "30", "100"]
    assert "WINDOW = timedelta(minutes=10)" in brake
    assert "MOST_TOKENS = 20" in text("django_site/accounts/models.py")
    document = " ".join(text("docs/hosted.md").split())
    assert "Five failures of one address at one name, thirty of one address at any" in document
    assert "a hundred at one name from anywhere, each within ten minutes" in document
    assert "An account can have 20" in document
