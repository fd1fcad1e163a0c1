"""The mutes in a log file: who was muted still is after a restart, and after a kill."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from pathlib import Path

import pytest
from deployments import ServedDeployment, WebSocketClient, serving
from log_files import kill

from broadcast_server.admission.admission import AdmissionLimits
from broadcast_server.protocol.operators import OPERATOR_HEADER
from broadcast_server.protocol.session_key import SESSION_HEADER
from broadcast_server.rooms.log_backup import back_up
from broadcast_server.rooms.restrictions import MUTE_S, Identity, Restrictions
from broadcast_server.rooms.sqlite_log import SQLiteLog
from broadcast_server.server.settings import Settings

BOB = Identity("=b", "bob", "192.0.2.1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the log file is to be."""
    return tmp_path / "rooms.log"


def open_log(path: Path) -> tuple[SQLiteLog, Restrictions]:
    """Open a log file, with the restrictions that a server then has."""
    file = SQLiteLog(path)
    return file, Restrictions(time.monotonic, file.mutes, file.decisions.set_mute)


def is_muted(restrictions: Restrictions, *client: str, room: str = "lobby") -> bool:
    """Return whether a client is muted."""
    return restrictions.time_left("mute", room, Identity(*client)) > 0


@pytest.mark.parametrize("end", ["closed", "killed", "copied"])
def test_mutes_survive_a_restart(path: Path, end: str) -> None:
    """By session and all names, until they end; no address is in the file, and no kick."""
    file, restrictions = open_log(path)
    restrictions.add("kick", "lobby", Identity("=k", "kim"))
    restrictions.add("mute", "lobby", BOB)
    restrictions.add_name("mute", "lobby", BOB, "rob")
    restrictions.add("mute", "lobby", Identity("#1", "eve"))
    restrictions.add("mute", "lobby", Identity("#2", "anonymous", "192.0.2.2"))  # nothing to keep
    restrictions.add("mute", "ops", Identity("=c", "cy"))
    assert file.commit() is None
    restrictions.remove("mute", "ops", Identity("=c"))
    assert file.commit() is None
    if end == "copied":
        back_up(path, path.with_name("copy"))
    if end == "killed":
        kill(file)
    else:
        file.close()
    assert b"192.0.2" not in path.read_bytes()
    again, kept = open_log(path.with_name("copy") if end == "copied" else path)
    assert len(kept) == 2 and not any("mutes of" in each for each in again.notices)
    assert is_muted(kept, "=b") and is_muted(kept, "=x", "Bob") and is_muted(kept, "", "rob")
    assert is_muted(kept, "", "EVE")
    assert not is_muted(kept, "=x", "max", "192.0.2.1") and not is_muted(kept, "=c", room="ops")
    assert not kept.time_left("kick", "lobby", Identity("=k"))
    assert MUTE_S - 60 < kept.time_left("mute", "lobby", Identity("=b")) <= MUTE_S
    kept.add("mute", "lobby", Identity("=d", "dan"))  # its number is new
    assert kept.remove("mute", "lobby", Identity(name="rob"))
    again.commit()
    again.close()
    last, kept = open_log(path.with_name("copy") if end == "copied" else path)
    assert is_muted(kept, "=d") and is_muted(kept, "", "eve") and not is_muted(kept, "=b")
    last.close()


def test_a_file_of_an_earlier_program_has_no_mutes(path: Path) -> None:
    """The table is made, and that is no damage."""
    SQLiteLog(path).close()
    base = sqlite3.connect(path, isolation_level=None)
    base.execute("DROP TABLE mute")
    base.close()
    file, restrictions = open_log(path)
    assert not len(restrictions) and not any("mutes" in each for each in file.notices)
    restrictions.add("mute", "lobby", BOB)
    assert file.commit() is None
    file.close()


@pytest.mark.parametrize(
    "row",
    [
        (7, "Lobby", "=x", "x", 0),
        (7, "ops", "", "", 0),
        (7, "ops", "=x", b"x", 0),
        (7, "ops", "=x", "x" * 2000, 0),
        (7, "ops", "=x", "\n".join("abcdefghi"), 0),
        (7, "ops", "=x", "x", 9 * 86_400),
        (7, "ops", "=x", "x", "soon"),
        (-7, "ops", "=x", "x", 0),
    ],
)
def test_a_damaged_row_is_left_out(path: Path, row: tuple[object, ...]) -> None:
    """The others are muted all the same, and whoever runs the server is told, once."""
    file, restrictions = open_log(path)
    restrictions.add("mute", "lobby", BOB)
    file.close()
    base = sqlite3.connect(path, isolation_level=None)
    until = row[4] if isinstance(row[4], str) else time.time() + 60 + float(str(row[4]))
    values = (*row[:4], until if isinstance(until, str) else int(until))
    base.execute("INSERT INTO mute VALUES (?, ?, ?, ?, ?)", values)
    base.close()
    again, kept = open_log(path)
    assert len(kept) == 1 and is_muted(kept, "=b")
    assert any("mutes of members are lost" in each for each in again.notices)
    again.close()
    last, kept = open_log(path)
    assert len(kept) == 1 and not any("mutes of" in each for each in last.notices)
    last.close()


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO mute VALUES (7, 'ops', CAST(x'80' AS TEXT), 'x', 1)",
        "ALTER TABLE mute DROP COLUMN until",
    ],
)
def test_a_table_that_cannot_be_read_is_made_anew(path: Path, statement: str) -> None:
    """The server starts, and can mute again."""
    file, restrictions = open_log(path)
    restrictions.add("mute", "lobby", BOB)
    file.close()
    base = sqlite3.connect(path, isolation_level=None)
    base.execute(statement)
    base.close()
    again, kept = open_log(path)
    assert not len(kept) and any("mutes of members are lost" in each for each in again.notices)
    kept.add("mute", "lobby", BOB)
    assert again.commit() is None
    again.close()
    last, kept = open_log(path)
    assert is_muted(kept, "=b")
    last.close()


def test_a_mute_that_has_ended_is_deleted(path: Path) -> None:
    """Whether it ends while a server runs or between two."""
    SQLiteLog(path).close()
    base = sqlite3.connect(path, isolation_level=None)
    base.execute("INSERT INTO mute VALUES (1, 'lobby', '=b', 'bob', ?)", (int(time.time()) - 1,))
    base.close()
    file, restrictions = open_log(path)
    assert not len(restrictions) and not any("mutes of" in each for each in file.notices)
    assert file._database.execute("SELECT count(*) FROM mute").fetchone() == (0,)
    file.close()


def test_a_server_that_restarts(path: Path) -> None:
    """Over the wire, who was muted gets the error again, by session and by name."""
    settings = Settings(port=0, operator_key="key", log=path, limits=AdmissionLimits(rate=0))

    async def join(deployment: ServedDeployment, name: str, **headers: str) -> WebSocketClient:
        client = await deployment.open(f"/?name={name}", as_json=True, headers=headers)
        welcome = json.loads(await client.line())
        assert welcome["name"] == name
        assert ("muted" in welcome) is (name in ("bob", "bobby"))
        return client

    async def part(*, first: bool) -> None:
        async with serving(settings) as server:
            deployment = ServedDeployment(server.url)
            if first:
                host = await join(deployment, "ann", **{OPERATOR_HEADER: "key"})
                bob = await deployment.open(
                    "/?name=bob", as_json=True, headers={SESSION_HEADER: "0123456789abcdef"}
                )
                assert json.loads(await bob.line())["type"] == "welcome"
                await host.send('{"type":"mute","name":"bob"}')
                assert json.loads(await bob.line())["type"] == "muted"
            else:
                await join(deployment, "cy")
                for name, headers in (("bobby", {SESSION_HEADER: "0123456789abcdef"}), ("bob", {})):
                    muted = await join(deployment, name, **headers)
                    await muted.send("hi")
                    await muted.send('{"type":"say","text":"hi"}')
                    events = [json.loads(await muted.line()) for _ in range(2)]
                    assert {each["type"] for each in events} == {"error"}
                    assert events[1]["code"] == "muted"
                    await muted.close()
            await deployment.close()

    for first in (True, False):
        asyncio.run(part(first=first))
