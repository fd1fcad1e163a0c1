"""The library where it is not installed, and where parts of Python are missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from programs import PATIENCE, ROOT

TALK = """
import asyncio, os
from broadcast_server import connect, connect_sync, serve, serve_sync

async def main():
    async with serve(port=0) as server, connect(server.url) as room:
        print((await room.send("hi")).seq, (await room.receive()).text)

asyncio.run(main())
with serve_sync(port=0) as server, connect_sync(server.url) as room:
    print(room.send("again").seq, room.receive(timeout=60).text)
"""
TALKED = ["1 hi", "1 again"]


def output_of(code: str, *options: str, path: Path | None = None, cwd: Path) -> list[str]:
    """Run *code* in a Python of its own, with *path* as its PYTHONPATH. Return what it prints."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [sys.executable, "-W", "error", *options, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=cwd,
        env=environment,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


# -- the single file on the path --


def test_the_single_file_on_the_path(zipapp_path: Path, tmp_path: Path) -> None:
    """A Python without any package needs nothing else than the file."""
    code = f"{TALK}\nimport websockets\nprint(websockets.__file__)"
    *talked, origin = output_of(code, "-S", path=zipapp_path, cwd=tmp_path)
    assert talked == TALKED
    assert origin == str(zipapp_path / "websockets" / "__init__.py")


@pytest.mark.parametrize("call", ["insert(0, ", "append("])
def test_the_single_file_beside_installed_libraries(
    call: str, zipapp_path: Path, tmp_path: Path
) -> None:
    """A program can put the file first or last. Last, it uses the whole websockets installed."""
    # An editable installation puts the sources on the path: this is about the file.
    begin = f"import sys; sys.path[:] = [each for each in sys.path if each != {str(ROOT)!r}]"
    code = f"""{begin}
sys.path.{call}{str(zipapp_path)!r})
{TALK}
import broadcast_server, websockets
print(broadcast_server.__file__, websockets.__file__.startswith({str(zipapp_path)!r}), sep="\\n")
try:
    import websockets.sync.client
except ImportError as error:
    print(error)
"""
    first, second, origin, is_from_file, *left = output_of(code, cwd=tmp_path)
    assert [first, second] == TALKED
    assert origin == str(zipapp_path / "broadcast_server" / "__init__.py")
    if call == "append(":
        assert (is_from_file, left) == ("False", [])
    else:
        assert (is_from_file, left) == ("True", ["No module named 'websockets.sync'"])


REPLACED = """
import asyncio, os, sys
from broadcast_server import connect, serve, ConnectError, MessageTooLongError

async def main():
    async with serve(port=0) as server, connect(server.url, name="ann") as room:
        await room.send("before")
        loaded = {*sys.modules}
        with open(sys.argv[1] + ".new", "wb") as file:
            file.write(b"another file")
        os.replace(sys.argv[1] + ".new", sys.argv[1])
        server._server.abort()
        print((await room.send("after")).seq, await room.rename("bob"))
        async with connect(server.url, history=2, token="t0ken", proxy="auto") as other:
            print((await other.receive()).text, (await server.broadcast("ops", "x")).seq)
        for attempt in (room.send("x" * 40_000), connect("ws://127.0.0.1:1/"), room.rename("a:b")):
            try:
                await attempt
            except Exception as error:
                print(type(error).__name__)
    print({each for each in {*sys.modules} - loaded if "broadcast" in each or "websockets" in each})

asyncio.run(main())
"""


def test_the_single_file_is_replaced(zipapp_path: Path, tmp_path: Path) -> None:
    """A program that runs needs the file no more: it reconnects, serves and reports errors."""
    copy = tmp_path / "copy.pyz"
    copy.write_bytes(zipapp_path.read_bytes())
    code = f"import sys; sys.argv = ['', {str(copy)!r}]{REPLACED}"
    assert output_of(code, "-S", path=copy, cwd=tmp_path) == [
        "2 bob",
        "before 1",
        "MessageTooLongError",
        "ConnectError",
        "RejectedError",
        "set()",
    ]


def test_an_old_python(zipapp_path: Path, tmp_path: Path) -> None:
    """Nothing keeps the file from an old Python, which gets one clear error."""
    code = """
import sys
sys.version_info = (3, 9, 18, "final", 0)
try:
    from broadcast_server import connect
except ImportError as error:
    print(error)
"""
    expected = ["broadcast_server needs Python 3.10 or newer, this is 3.9.18"]
    assert output_of(code, "-S", path=zipapp_path, cwd=tmp_path) == expected


# -- a Python that was built without something --

WITHOUT = """
import sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name in {missing!r}:
            raise ImportError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Finder())
"""

NO_TLS = "this Python has no TLS (its module ssl cannot be imported), which"


@pytest.mark.parametrize(
    "missing",
    [
        ("_ssl", "_hashlib"),
        (
            "_sqlite3",
            "_ctypes",
            "_curses",
            "readline",
            "termios",
            "fcntl",
            "resource",
            "pwd",
            "_bz2",
        ),
    ],
)
def test_a_python_without(missing: tuple[str, ...], tmp_path: Path) -> None:
    """Everything works that does not need it, and the program finds it as missing as before."""
    code = f"{WITHOUT.format(missing=missing)}{TALK}\nprint('ssl' in sys.modules)"
    assert output_of(code, path=ROOT, cwd=tmp_path) == [*TALKED, str("_ssl" not in missing)]


def test_what_needs_more_says_so(tmp_path: Path) -> None:
    """`wss://` without OpenSSL, and a log file without SQLite, are one clear error each."""
    code = f"""{WITHOUT.format(missing=("_ssl", "_hashlib", "_sqlite3"))}
import asyncio
from broadcast_server import connect, connect_sync, serve

async def fails(make):
    try:
        await make()
    except Exception as error:
        print(type(error).__name__, error)

async def main():
    await fails(lambda: connect("wss://localhost:1/"))
    await fails(lambda: connect("https://localhost:1/", tls_ca="/nowhere"))
    await fails(lambda: serve(port=0, tls_cert="/nowhere"))
    await fails(lambda: serve(port=0, log="log"))
    async with serve(unix="socket"), connect("ws://x", unix="socket") as room:
        print((await room.send("hi")).seq)

asyncio.run(main())
try:
    import ssl
except ImportError as error:
    print(error)
"""
    assert output_of(code, path=ROOT, cwd=tmp_path) == [
        f"ConnectError {NO_TLS} wss://localhost:1/ needs (use ws://, or another Python)",
        f"ConnectError {NO_TLS} https://localhost:1/ needs (use ws://, or another Python)",
        f"ServeError {NO_TLS} tls_cert= needs (let a proxy use TLS)",
        "ServeError this Python has no SQLite, which log= needs",
        "1",
        "No module named '_ssl'",
    ]
