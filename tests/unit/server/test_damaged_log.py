"""A damaged log file: the rooms that it breaks are rejected in words, all others work.

Each test damages a real file, by a seed, and looks at the running server: nobody finds a traceback,
no place is lost, and no number is given twice in one epoch.
"""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import sqlite3
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from deployments import ANSWER_TIMEOUT_S, ServedDeployment
from server_harness import Part, play
from wire import Wire

from broadcast_server.admission.admission import AdmissionLimits
from broadcast_server.console.time_limit import run_within
from broadcast_server.rooms.kept_names import KeptName
from broadcast_server.rooms.log_backup import back_up
from broadcast_server.rooms.message_log import LogFileError, MessageLog
from broadcast_server.rooms.sqlite_log import SQLiteLog
from broadcast_server.server.server import Server
from broadcast_server.server.settings import Settings

ROOMS = {"lobby": 90, "ops": 40, "dev": 10}
"""The rooms in the file, and how many messages each has."""

NO_LOG = "the messages of this room cannot be read, ask who runs the server"

SEEDS = range(int(os.environ.get("DAMAGE_SEEDS", "40")))
"""Set the variable to damage more files than the tests do by default."""


@pytest.fixture(scope="module")
def undamaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a log file that has messages, and what lies beside it."""
    path = tmp_path_factory.mktemp("undamaged") / "rooms.log"
    file = SQLiteLog(path)
    for room, count in ROOMS.items():
        log = MessageLog()
        file.restore(room, log)
        for number in range(count):
            text = f"{number + 1} " + "x" * 300
            message = log.append("bob", text, "2026-11-30T09:00:00.000Z", None, "scope")
            file.append(room, log, message, "scope")
        file.commit()
    file.close()
    return path.parent


@pytest.fixture
def path(undamaged: Path, tmp_path: Path) -> Path:
    """A log file with messages, for one test."""
    shutil.copytree(undamaged, tmp_path, dirs_exist_ok=True)
    return tmp_path / "rooms.log"


def settings_for(path: Path) -> Settings:
    """Return the settings of a server for so few clients that a lost place shows at once."""
    return Settings(port=0, log=path, limits=AdmissionLimits(clients=3))


async def post(server: Server, room: str) -> tuple[int, str]:
    """Publish a message over HTTP, and return the status and the body of the response."""
    wire = await Wire.connect(server.url)
    host = urlsplit(server.url).netloc
    wire.send(
        f"POST /?room={room} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n\r\nhi".encode()
    )
    head, _, body = (await wire.read_to_end()).decode().partition("\r\n\r\n")
    return int(head.split(" ")[1]), body.strip()


async def poll(server: Server, room: str, method: str = "GET") -> tuple[int, list[str]]:
    """Ask for the events of a room, and return the status and the lines of the response."""
    wire = await Wire.connect(server.url)
    target = f"/stream?room={room}&poll=1&history=1000"
    wire.send(f"{method} {target} HTTP/1.0\r\nHost: {urlsplit(server.url).netloc}\r\n\r\n".encode())
    head, _, body = (await wire.read_to_end()).decode().partition("\r\n\r\n")
    return int(head.split(" ")[1]), body.splitlines()


async def join(deployment: ServedDeployment, room: str) -> tuple[bool, int]:
    """Join a room. Return whether that succeeded, and the number of its last message."""
    client = await deployment.open(f"/?name=eve&room={room}", as_json=True)
    line = json.loads(await client.line())
    if line["type"] == "welcome":
        await client.close()
        return True, line["seq"]
    assert (line["type"], line["code"], line["text"]) == ("error", "no_log", NO_LOG)
    with pytest.raises(EOFError) as closed:
        await client.line()
    assert closed.value.args == (4001,)
    return False, 0


async def visit(server: Server, deployment: ServedDeployment, room: str) -> tuple[bool, int]:
    """Go into *room* in every way, twice, and check that the ways agree and no place is lost.

    Returns whether the room can be opened, and the number of its last message at the beginning.
    """
    opened, head = await join(deployment, room)
    for _ in range(2):
        assert (await join(deployment, room))[0] is opened
        status, lines = await poll(server, room)
        assert status == (200 if opened else 503) and (opened or lines == [NO_LOG])
        assert (await poll(server, room, "HEAD"))[0] == status
        status, body = await post(server, room)
        assert status == (200 if opened else 503) and (opened or body == NO_LOG)
    await places_are_free(server)
    return opened, head


async def places_are_free(server: Server) -> None:
    """Wait until the server has no connection, and assert that it counts none."""
    if server._connections:
        server._all_closed.clear()
        await run_within(server._all_closed.wait(), ANSWER_TIMEOUT_S)
    assert server._admission._connected.total == 0
    assert not server._admission._connected._by_key and not server._rooms._open


def check_log(caplog: pytest.LogCaptureFixture) -> None:
    """Assert that each damaged room has one line in the log, and that there is no traceback."""
    assert not [record for record in caplog.records if record.exc_info or record.name == "asyncio"]
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == len(set(errors)) <= len(ROOMS) + 1
    for line in errors:
        assert line.startswith("room ") and line.isprintable() and "\n" not in line
        assert line.endswith(" (restore a copy of the file, or name another one)")


def play_to_the_end(part: Part, path: Path) -> str:
    """Play *part*, and return why the log file could not be opened or closed, "" if it could."""
    try:
        play(part, settings_for(path))
    except LogFileError as error:
        return str(error)
    return ""


def check_failure(path: Path, failure: str) -> None:
    """Assert that a failure to open or close the file is one line about that file."""
    assert not failure or (failure.isprintable() and f"log file {path} " in failure)


# -- rows --

VALUES = (
    "NULL",
    "x''",
    "x'ff00fe'",
    "CAST(x'ff00fe' AS TEXT)",
    "CAST(x'eda080' AS TEXT)",  # half a surrogate pair
    "'a' || char(10) || 'eve: b'",
    "'bob:'",
    "''",
    "printf('%*c', 2000000, 'x')",
    "1.5",
    "9e999",
    "-1",
    "0",
    "5",
    "9223372036854775807",
)
"""What a cell is set to, in SQL."""

COLUMNS = {
    "room": ("name", "epoch", "head"),
    "message": ("room", "seq", "name", "text", "at", "id", "source"),
}


def damage_row(path: Path, random: random.Random) -> str:
    """Change one cell or delete one row of *path*. Return the name of its room."""
    base = sqlite3.connect(path, isolation_level=None)
    room = random.choice([*ROOMS])
    table = random.choice([*COLUMNS])
    where = f"name = '{room}'"
    if table == "message":
        where = f"room = '{room}' AND seq = {random.randint(1, ROOMS[room])}"
    column = random.choice(COLUMNS[table])
    change = f"UPDATE OR REPLACE {table} SET {column} = {random.choice(VALUES)} WHERE {where}"
    if random.random() < 0.1:
        change = f"DELETE FROM {table} WHERE {where}"
    # Constraints are part of what can be damaged.
    base.execute("PRAGMA writable_schema=ON")
    base.execute("UPDATE sqlite_master SET sql = replace(sql, ' NOT NULL', '')")
    base.execute("PRAGMA writable_schema=RESET")
    with suppress(sqlite3.IntegrityError):  # NULL in a key
        base.execute(change)
    base.close()
    return room


@pytest.mark.parametrize("seed", SEEDS)
def test_a_damaged_row_breaks_one_room(
    path: Path, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    """With one damaged row the other rooms have all their messages, and no number comes twice."""
    damaged = damage_row(path, random.Random(seed))

    async def part(server: Server, deployment: ServedDeployment) -> None:
        for room, count in ROOMS.items():
            opened, head = await visit(server, deployment, room)
            # What is left of a damaged room continues after every number that it may have had.
            assert not opened or head >= count
            if room == damaged:
                continue
            assert opened and head == count
            _, lines = await poll(server, room)
            texts = [json.loads(line)["text"] for line in lines[1 : count + 1]]
            assert [int(text.split()[0]) for text in texts] == [*range(1, count + 1)]
        assert (await visit(server, deployment, "new")) == (True, 0)

    play(part, settings_for(path))
    check_log(caplog)


def test_a_damaged_room_is_logged_once_and_read_once_a_minute(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Fifty attempts to join a damaged room cost one line of the log, and lose no place."""
    base = sqlite3.connect(path)
    base.execute("UPDATE message SET text = x'ff' WHERE room = 'ops' AND seq = 7")
    base.commit()
    base.close()

    async def part(server: Server, deployment: ServedDeployment) -> None:
        for _ in range(50):
            assert await post(server, "ops") == (503, NO_LOG)
        assert (await post(server, "lobby"))[0] == 200
        await places_are_free(server)

    play(part, settings_for(path))
    (line,) = [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]
    assert line == (
        f"room ops cannot be opened, as log file {path} is damaged: a message has a value of the"
        " wrong type (restore a copy of the file, or name another one)"
    )


# -- bytes --


def damage_bytes(path: Path, random: random.Random) -> None:
    """Change, cut off or repeat bytes of the file, mostly after the header of SQLite."""
    data = bytearray(path.read_bytes())
    for _ in range(random.choice((1, 1, 3, 20))):
        if len(data) < 3 * 4096:
            break
        start = random.randrange(0 if random.random() < 0.1 else 100, len(data))
        size = random.choice((1, 1, 8, 200, 4096))
        kind = random.random()
        if kind < 0.5:
            for index in range(start, min(start + size, len(data))):
                data[index] ^= random.randrange(1, 256)
        elif kind < 0.7:
            data[start : start + size] = bytes(len(data[start : start + size]))
        elif kind < 0.9:  # a page that was written to the wrong place
            page, other = (4096 * random.randrange(1, len(data) // 4096) for _ in range(2))
            data[page : page + 4096] = data[other : other + 4096]
        else:
            del data[start:]
    path.write_bytes(data)


@pytest.mark.parametrize("seed", SEEDS)
def test_damaged_bytes(path: Path, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    """A server with a file of damaged bytes works or does not start, and says why in one line."""
    damage_bytes(path, random.Random(seed))

    async def part(server: Server, deployment: ServedDeployment) -> None:
        for room in (*ROOMS, "new"):
            await visit(server, deployment, room)

    check_failure(path, play_to_the_end(part, path))
    check_log(caplog)


def test_an_error_that_is_not_utf8(path: Path) -> None:
    """An error of SQLite that quotes damaged bytes is one line as well."""
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE message", b"CREATE \xfdABLE message"))
    with pytest.raises(LogFileError, match=r"is not a log file, or is damaged: name another file$"):
        SQLiteLog(path)


ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"


@pytest.mark.parametrize("table", ["state", "room", "message", "session_key", "kept_name"])
@pytest.mark.parametrize(
    "change",
    [
        (
            f"ALTER TABLE TABLE_ RENAME TO other; CREATE VIEW TABLE_ AS {ENDLESS}"
            " SELECT other.* FROM n, other WHERE n.x < 0"
        ),
        (
            "CREATE TRIGGER other AFTER INSERT ON TABLE_"
            f" BEGIN DELETE FROM room WHERE head IN ({ENDLESS} SELECT x FROM n); END"
        ),
        "ALTER TABLE TABLE_ ADD COLUMN big AS (hex(zeroblob(9)))",
        "DROP TABLE TABLE_; CREATE TABLE TABLE_ (a DEFAULT (hex(zeroblob(9))))",
        "ALTER TABLE TABLE_ ADD COLUMN big CHECK (hex(zeroblob(9)) != big)",
        "DROP TABLE TABLE_; CREATE VIRTUAL TABLE TABLE_ USING fts5(a)",
        "CREATE INDEX other ON TABLE_ (hex(zeroblob(9)))",
        "CREATE INDEX other ON TABLE_ (rowid) WHERE hex(zeroblob(9)) = 'a'",
        "CREATE UNIQUE INDEX other ON TABLE_ (COLUMN_) WHERE COLUMN_ = 0",
    ],
)
def test_a_definition_that_computes(path: Path, table: str, change: str) -> None:
    """SQL of another program, which may never end, is rejected in one line, and not run."""
    base = sqlite3.connect(path)
    column = base.execute(f"PRAGMA table_info({table})").fetchone()[1]
    change = change.replace("TABLE_", table).replace("COLUMN_", column).replace("rowid", column)
    base.executescript(f"PRAGMA foreign_keys=OFF; PRAGMA legacy_alter_table=ON; {change}")
    base.close()
    before = path.read_bytes()
    for use in (SQLiteLog, lambda path: back_up(path, path.with_name("copy"))):
        with pytest.raises(LogFileError, match=rf"definition that computes at table {table}: name"):
            use(path)
    assert path.read_bytes() == before


def test_what_other_programs_add(path: Path) -> None:
    """Tables, views and plain indexes beside those of the log file are left alone."""
    base = sqlite3.connect(path)
    base.executescript(
        "CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER DEFAULT 1);"
        'CREATE INDEX "by_name" ON message (name, seq); CREATE VIEW rooms AS SELECT * FROM room;'
        "ANALYZE"
    )
    base.close()
    SQLiteLog(path).close()


@pytest.mark.parametrize("table", ["state", "room", "message"])
def test_a_missing_table(path: Path, table: str) -> None:
    """A file without one of the tables is rejected in one line, and not changed."""
    base = sqlite3.connect(path)
    base.execute(f"DROP TABLE {table}")
    base.commit()
    base.close()
    before = path.read_bytes()
    with pytest.raises(LogFileError, match=r"is not a log file, or is damaged: name another file$"):
        SQLiteLog(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM state",
        "INSERT INTO state SELECT * FROM state",
        "UPDATE state SET secret = 'text'",
        "UPDATE state SET secret = x'00'",
        "UPDATE state SET boot = x'ff'",
        "UPDATE state SET boot = CAST(x'ff' AS TEXT)",
        "UPDATE state SET safe = 'yes'",
    ],
)
def test_a_damaged_state_ends_the_epochs(path: Path, change: str) -> None:
    """Without a valid state, nothing shows that the file is whole: all rooms get new epochs."""
    file, log = SQLiteLog(path), MessageLog()
    file.restore("lobby", log)
    file.close()
    base = sqlite3.connect(path)
    base.execute(change)
    base.commit()
    base.close()
    file, again = SQLiteLog(path), MessageLog()
    file.restore("lobby", again)
    assert (again.epoch != log.epoch, again.head) == (True, log.head)
    file.close()


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM session_key",
        "INSERT INTO session_key SELECT * FROM session_key",
        "UPDATE session_key SET key = CAST(x'ff' AS TEXT)",
        "UPDATE session_key SET key = x'00'",
        "UPDATE session_key SET clean = 'yes'",
    ],
)
def test_a_damaged_session_key_is_replaced(path: Path, change: str) -> None:
    """Without a valid key, clients are not recognised any more, and all messages are kept."""
    base = sqlite3.connect(path)
    base.execute(change)
    base.commit()
    base.close()
    file, log = SQLiteLog(path), MessageLog()
    file.restore("lobby", log)
    assert log.head == ROOMS["lobby"]
    file.close()


@pytest.mark.parametrize("name", ["x'ff'", "CAST(x'ff' AS TEXT)", "'Not A Room'", "''", "char(10)"])
def test_the_name_of_a_room_does_not_stop_the_start(path: Path, name: str) -> None:
    """A room whose name cannot be read is never asked for, also when the epochs end."""
    base = sqlite3.connect(path)
    base.execute(f"INSERT INTO room VALUES ({name}, 'epoch', 1)")
    base.execute(f"INSERT INTO message VALUES ({name}, 1, 'bob', 'hi', 'now', NULL, 's')")
    base.commit()
    base.close()
    path.with_name("rooms.log.whole").unlink()
    file, log = SQLiteLog(path), MessageLog()
    file.restore("lobby", log)
    assert log.head == ROOMS["lobby"]
    file.close()


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO kept_name VALUES (CAST(x'ff' AS TEXT), 's', 'bob')",
        "INSERT INTO kept_name VALUES (x'ff', 7, NULL)",
        "INSERT INTO kept_name VALUES ('lobby', 's', 'a' || char(10) || 'b')",
        "DROP TABLE kept_name",
        "CREATE TABLE other (x); DROP TABLE kept_name; CREATE TABLE kept_name (x)",
    ],
)
def test_damaged_names_do_not_stop_the_start(path: Path, change: str) -> None:
    """Names that were kept for their members and are damaged are forgotten, and no more."""
    base = sqlite3.connect(path)
    base.execute("PRAGMA writable_schema=ON")
    base.execute("UPDATE sqlite_master SET sql = replace(sql, ' NOT NULL', '')")
    base.execute("PRAGMA writable_schema=RESET")
    base.executescript(change)
    base.close()
    kept = KeptName("lobby", "s", "bob", address="s")
    none: list[KeptName] = []
    for expected in ([none], [none, [kept]]):  # the table may be beyond use
        file, log = SQLiteLog(path), MessageLog()
        assert [*file.kept_names] in expected
        file.restore("lobby", log)
        assert log.head == ROOMS["lobby"]
        file.kept_names = [kept]
        file.close()


# -- while the server runs --


@pytest.mark.parametrize("how", ["truncated", "deleted", "a folder"])
def test_a_file_that_changes_under_the_server(
    path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that is cut off or replaced stops no room that is open, and loses no place."""

    def change() -> None:
        if how == "truncated":
            os.truncate(path, 100)
        else:
            path.unlink()
            if how == "a folder":
                path.mkdir()

    async def part(server: Server, deployment: ServedDeployment) -> None:
        bob = await deployment.open("/?name=bob&room=dev", as_json=True)
        await bob.line()
        change()
        for room in ROOMS:
            if room != "dev":
                await visit_any(server, deployment, room)
        await bob.send('{"type":"say","text":"still here"}')
        lines = [await bob.line()]
        while '"text":"still here"' not in lines[-1]:
            lines.append(await bob.line())
        await bob.close()
        await places_are_free(server)

    async def visit_any(server: Server, deployment: ServedDeployment, room: str) -> None:
        opened, _ = await join(deployment, room)
        status, body = await post(server, room)
        assert (opened and status == 200) or (status, body) == (503, NO_LOG)

    check_failure(path, play_to_the_end(part, path))
    assert not [record for record in caplog.records if record.exc_info or record.name == "asyncio"]
