"""The documents agree with the code: close and error codes, options, limits and links."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest
from programs import ROOT

import broadcast_server
from benchmarks.command import parser as benchmark
from benchmarks.fuzz import make_parser as make_fuzz_parser
from broadcast_server.admission import allowances, auth_throttle, message_cost, rate_limit
from broadcast_server.admission.admission import AdmissionLimits
from broadcast_server.cli import send
from broadcast_server.cli.options import make_parser
from broadcast_server.client import outbox
from broadcast_server.http import post, site, stream, upload_budget
from broadcast_server.library import event_queue, room_core
from broadcast_server.pipe import exec_sink, line_splitter
from broadcast_server.protocol import bounds, messages
from broadcast_server.protocol.messages import CloseCode
from broadcast_server.rooms import fanout, faults, live_room, message_log
from broadcast_server.server import listen_socket, read_budget, room_registry, transport, websocket

PACKAGE = Path(broadcast_server.__file__).parent
SOURCES = [*PACKAGE.rglob("*.py"), *ROOT.glob("django_site/**/*.py")]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]


def text(name: str) -> str:
    """Return the text of a file of the project."""
    return (ROOT / name).read_text(encoding="utf-8")


def test_every_close_code_is_documented() -> None:
    """docs/protocol.md lists exactly the close codes that the servers send."""
    document = text("docs/protocol.md")
    sent = {int(code) for code in re.findall(r"^\| (\d{4}) \|", document, re.MULTILINE)}
    assert sent == {*CloseCode}


def test_every_error_code_is_documented() -> None:
    """docs/protocol.md names every error code that the code can send."""
    source = "".join(path.read_text(encoding="utf-8") for path in SOURCES)
    codes = set(re.findall(r'Error\(\s*"(\w+)"', source))
    assert len(codes) > 10
    assert {code for code in codes if f"`{code}`" not in text("docs/protocol.md")} == set()


def test_the_tests_of_every_promise_exist() -> None:
    """SECURITY.md names a test, or a file of tests, for each of its promises."""
    files = [*ROOT.glob("tests/**/*.py")]
    known = {path.stem for path in files}
    for path in files:
        known |= {*re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))}
    promises = re.findall(r"^\| [A-Z`].*$", text("SECURITY.md"), re.MULTILINE)
    assert len(promises) > 30
    for promise in promises:
        tests = re.findall(r"`(test_\w+)`", promise.rpartition(" | ")[2])
        assert tests, promise
        assert {*tests} <= known, promise


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_options_in_documents_exist(document: Path) -> None:
    """Each option and variable in a document exists."""
    available = "".join(each.format_help() for each in parsers())
    available += benchmark().format_help() + make_fuzz_parser().format_help()
    available += text("django_site/settings.py")
    ours = re.compile(
        r"broadcast-server(?:\.pyz)? (?:start|connect|send|run)[^\n`]*|`--[a-z-]+|BROADCAST_\w+"
    )
    for mention in ours.findall(document.read_text(encoding="utf-8")):
        for word in re.findall(r"--[a-z][a-z-]+|BROADCAST_\w+", mention):
            assert re.search(rf"{word}\b", available), word


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_in_documents_are_valid(document: Path) -> None:
    """A link to a file of the project names an existing file and heading."""
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        path, _, heading = link.partition("#")
        if "://" in path:
            continue
        target = (document.parent / path) if path else document
        assert target.exists(), link
        assert not heading or heading in headings(target), link


def headings(document: Path) -> set[str]:
    """Return the anchors of a document's headings, in the form that repository hosts use."""
    titles = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in titles}


def parsers() -> list[argparse.ArgumentParser]:
    """Return the main parser and the parser of each command."""
    main = make_parser()
    (choices,) = [each.choices for each in main._actions if isinstance(each.choices, dict)]
    return [main, *choices.values()]


BOUNDS = {
    "the head of a request | 8 KiB": site.MAX_HEAD_BYTES == 8 * 2**10,
    "and a line break, within 20 s": (post.max_body_bytes(9), post.BODY_TIMEOUT_S) == (11, 20),
    "a stream that takes nothing | 64 KiB in its transport, 40 s": (
        (transport.PAUSE_AT_BYTES, stream.STALL_TIMEOUT_S) == (2**16, 40)
    ),
    "a frame | 1 MiB": bounds.MAX_FRAME_BYTES == 2**20,
    "a message | 32 KiB": bounds.MAX_MESSAGE_BYTES == 2**15,
    "bodies of requests that a process holds | 16 MiB": upload_budget.MAX_UPLOADED_BYTES == 2**24,
    "a line for each 16": bounds.BYTES_PER_LINE == 16,
    "4,096, 1 MiB of text": (fanout.MAX_BATCH_EVENTS, fanout.MAX_BATCH_CHARS) == (4096, 2**20),
    "joins in a batch | 512": live_room.MAX_JOINS_PER_BATCH == 512,
    "wait for a member | 4,096": fanout.MAX_WAITING_EVENTS == 4096,
    "50,000 messages, 16 MiB": (message_log.DEFAULT_MAX_MESSAGES, message_log.DEFAULT_MAX_BYTES)
    == (50_000, 2**24),
    "256, 64 MiB of text": (room_registry.MAX_IDLE_ROOMS, room_registry.MAX_IDLE_BYTES)
    == (256, 2**26),
    "100 in a welcome, 1,000 to": (messages.MAX_WELCOME_MEMBERS, messages.MAX_LISTED_MEMBERS)
    == (100, 1000),
    "by answers to its pings | 8 MiB": websocket.MAX_BUFFERED_REPLY_BYTES == 2**23,
    "unsent for a socket, on Linux and macOS | 128 KiB": transport.MAX_UNSENT_BYTES == 2**17,
    "without an echo | 250, 64 KiB": (outbox.MAX_UNCONFIRMED, outbox.MAX_UNCONFIRMED_CHARS)
    == (250, 2**16),
    "uses the library | 4,096, 1 Mi characters, and one frame | no more is read for 10 s": (
        (event_queue.MAX_WAITING_EVENTS, event_queue.MAX_WAITING_CHARS, room_core.MAX_PAUSE_S)
        == (4096, 2**20, 10)
    ),
    "a line of piped input | 128 KiB": line_splitter.MAX_LINE_BYTES == 2**17,
    "what `send` reads | 16 MiB": send.MAX_TEXT_BYTES == 2**24,
    "its client leaves | 5 s, and 1 s": (exec_sink.EXIT_TIMEOUT_S, exec_sink.KILL_AFTER_S)
    == (5, 1),
}


@pytest.mark.parametrize("words", BOUNDS)
def test_bounds_are_those_of_the_code(words: str) -> None:
    """Each limit in the table of docs/architecture.md is the one in the code."""
    assert words in text("docs/architecture.md")
    assert BOUNDS[words]


def test_limits_are_those_of_the_options() -> None:
    """docs/limits.md lists every limit of `start`, with its default and a reason."""
    rows = re.findall(
        r"^\| `(--[a-z-]+)` \| ([\d,]+) \| (.+) \| .+ \|$", text("docs/limits.md"), re.MULTILINE
    )
    shown = {option: int(default.replace(",", "")) for option, default, _ in rows}
    (start,) = [each for each in parsers() if each.prog.endswith(" start")]
    defaults = {action.option_strings[0]: action.default for action in start._actions}
    assert shown == {option: int(defaults[option]) for option in shown}
    assert {each for each in defaults if each.startswith("--max") or each == "--rate"} <= {*shown}


def test_figures_of_the_limits_are_those_of_the_code() -> None:
    """The numbers in docs/limits.md are those in the code."""
    document = " ".join(text("docs/limits.md").split())
    kibibytes = read_budget.MAX_BYTES_PER_BATCH // 2**10
    budget = f"at most {read_budget.MAX_MESSAGES_PER_BATCH} messages or {kibibytes} KiB"
    assert budget in document
    assert f"At most {auth_throttle.MAX_WAITING_PER_ADDRESS} attempts" in document
    assert f"{auth_throttle.MAX_ADDRESSES:,} addresses are remembered" in document
    assert (
        auth_throttle.FORGET_AFTER_S,
        auth_throttle.MAX_DELAY_S,
        auth_throttle.FIRST_DELAY_S,
        auth_throttle.FREE_FAILURES,
    ) == (600, 8, 0.25, 1)
    assert rate_limit.BURST_S == 10 and "ten times as many at once" in document
    rate, burst_s = AdmissionLimits().rate, allowances.MESSAGE_BURST_S
    assert (burst_s, allowances.ADDRESS_FACTOR) == (20, 4)
    assert (
        f"{rate} by default, and can save up twenty seconds' worth, {rate * burst_s:,}" in document
    )
    assert f"a token for each {message_cost.BYTES_PER_TOKEN} bytes" in document
    most = rate * (burst_s + 60)
    mebibytes = round(most * message_cost.BYTES_PER_TOKEN / 2**20)
    assert f"at most {most:,} messages and {mebibytes} MiB of text" in document
    assert f"{round(100 * most / message_log.DEFAULT_MAX_MESSAGES)} % of the 50,000" in document
    share = most * message_cost.BYTES_PER_TOKEN / message_log.DEFAULT_MAX_BYTES
    assert f"{round(100 * share)} % of the 16 MiB" in document
    assert f"{4 * rate} a second, {4 * rate * burst_s:,} at once" in document
    assert f"At most {rate_limit.MAX_KEYS:,} clients that are gone" in document
    assert listen_socket.LOG_INTERVAL_S == 60 and "once a minute" in document


def test_figures_of_the_protocol_are_those_of_the_code() -> None:
    """The numbers in docs/protocol.md are those in the code."""
    document = " ".join(text("docs/protocol.md").split())
    assert f"the last {message_log.DEFAULT_MAX_MESSAGES:,} messages" in document
    assert f"at most {message_log.DEFAULT_MAX_BYTES // 2**20} MiB of text" in document
    assert faults.MAX_CONSECUTIVE_FAULTS == 10 and "ten faults in a row" in document
    assert f"a string of 1 to {messages.MAX_ID_CHARS} characters" in document


def test_the_readme_begins_with_the_two_commands() -> None:
    """The README begins with the two commands, and CI runs the second one unchanged."""
    blocks = text("README.md").split("```")
    (run,), (work,) = (block.splitlines()[1:] for block in blocks[1:4:2])
    assert run == "python3 build_zipapp.py && python3 broadcast-server.pyz start"
    assert work.startswith("python3 -m venv .venv && ")
    assert work in text(".ci/run").splitlines()


def test_every_setting_of_the_django_deployment_is_documented() -> None:
    """docs/django.md lists exactly the variables that the settings read."""
    source = text("django_site/settings.py")
    read = set(re.findall(r'env\.\w+\(\s*"(\w+)"', source))
    (table,) = re.findall(r"## Settings\n(.*?)\n## ", text("docs/django.md"), re.DOTALL)
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == read


def test_figures_of_the_django_deployment_are_those_of_the_code() -> None:
    """The numbers of login failures and tokens in docs/django.md are those in the code."""
    throttle = text("django_site/accounts/login_throttle.py")
    limits = re.findall(r"^MAX_FAILURES_\w+ = (\d+)$", throttle, re.MULTILINE)
    assert limits == ["5", "30", "100"]
    assert "WINDOW = timedelta(minutes=10)" in throttle
    assert "MAX_TOKENS = 20" in text("django_site/accounts/models.py")
    document = " ".join(text("docs/django.md").split())
    assert (
        "counts failed logins over ten minutes: 5 from one address for one name,"
        " 30 from one address for any name, and 100 for one name from anywhere" in document
    )
    assert "MAX_MAILS_PER_RECIPIENT = 5" in throttle
    assert "to 5 for one recipient from anywhere" in document
    assert "An account can have 20" in document
