"""The single file: how it is built, what it contains, and that it needs nothing else."""

from __future__ import annotations

import ast
import hashlib
import http.client
import json
import marshal
import os
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from programs import ROOT

from broadcast_server.single_file.code_cache import CodeCache

BUILD = runpy.run_path(str(ROOT / "build_zipapp.py"), run_name="build_zipapp")
STORE = Path("build", "wheels")

ISOLATED_PYTHON = (sys.executable, "-I", "-S", "-W", "error")
"""A Python without installed packages, with warnings as errors."""

PATIENCE = 30
"""Seconds that a test waits for a process before it fails."""

REPORT_MODULES = """\
import atexit, json, runpy, sys
report, *sys.argv = sys.argv[1:]
sys.path[:0] = [""]  # run_path removes the first entry at its end
atexit.register(lambda: print(json.dumps(list(sys.modules)), file=open(report, "w")))
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a file as Python would, and writes a list of the modules that it imported."""


def run_to_end(
    *command: str,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
    umask: int = -1,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=10 * PATIENCE,
        cwd=cwd,
        env=env,
        input=stdin,
        umask=umask,
    )


def build_command(*arguments: str, root: Path = ROOT) -> list[str]:
    """Return the command that runs the build, with warnings as errors."""
    return [sys.executable, "-W", "error", str(root / "build_zipapp.py"), *arguments]


@pytest.fixture
def checkout(tmp_path: Path, zipapp_path: Path) -> Path:
    """A copy of the files that the build needs, without the wheels."""
    root = tmp_path / "check out"
    shutil.copytree(
        ROOT / "broadcast_server",
        root / "broadcast_server",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for name in ("build_zipapp.py", "LICENSE"):
        shutil.copy(ROOT / name, root / name)
    return root


def environment_without_index(**more: str) -> dict[str, str]:
    """Return an environment in which pip has no package index, with the variables *more*."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    return {**kept, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", **more}


@contextmanager
def serving(*command: str) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """Run a server; yield its process, its first line, and the port in that line."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    watch = threading.Timer(PATIENCE, process.kill)
    watch.start()
    try:
        line = process.stderr.readline()
        assert line.startswith("listening on ws://127.0.0.1:"), line + process.stderr.read()
        yield process, line, int(line.rpartition(":")[2].rstrip("/\n"))
    finally:
        process.terminate()
        process.communicate()
        watch.cancel()


def fetch_program(port: int) -> tuple[int, bytes]:
    """Download the single file from a server; return the status and the body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", "/broadcast-server.pyz")
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def imported_modules(report: Path, *packages: str) -> set[str]:
    """Return the modules of *packages* that a process has imported, according to its *report*."""
    modules = json.loads(report.read_text())
    return {name for name in modules if any(f"{name}.".startswith(f"{p}.") for p in packages)}


# -- the build ----------------------------------------------------------------


def test_build_with_output(tmp_path: Path) -> None:
    """The build writes one executable file to --output, prints its size, and adds its checksum."""
    done = run_to_end(*build_command("--output", "here.pyz"), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here.pyz", "here.pyz.sha256"]
    path = tmp_path / "here.pyz"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    written = tmp_path / "here.pyz.sha256"
    assert written.read_text("utf-8") == f"{digest}  here.pyz\n"
    assert written.stat().st_mode & 0o777 == 0o644
    assert path.read_bytes().startswith(b"#!/usr/bin/env python3\n")
    assert path.stat().st_mode & 0o777 == 0o755
    assert done.stdout == f"here.pyz: {path.stat().st_size / 1024:.0f} KiB\n"


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
@pytest.mark.parametrize("name", ["plain.pyz", "with space.pyz", "back\\slash\n\r.pyz", "ü.pyz"])
def test_sha256sum_checks_the_file(tmp_path: Path, name: str) -> None:
    """`sha256sum -c` accepts the checksum, whatever the file is called, and notices a change."""
    path = tmp_path / name
    path.write_bytes(b"content")
    sums = tmp_path / "sums"
    sums.write_bytes(BUILD["checksum"](b"content", path))
    check = "sha256sum", "--check", "--strict", "sums"
    assert run_to_end(*check, cwd=tmp_path).returncode == 0
    path.write_bytes(b"changed")
    assert run_to_end(*check, cwd=tmp_path).returncode == 1


def git(root: Path, *arguments: str) -> None:
    """Run git in the checkout at *root*."""
    subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
@pytest.mark.parametrize(
    "name", ["left_over.py", "rooms/left_over.py", "page/left_over.html", "ignored.py"]
)
def test_a_file_that_git_does_not_track(checkout: Path, name: str) -> None:
    """A file that git does not track, also one that it ignores, stops the build until it is."""
    (checkout / "build/wheels").mkdir(parents=True)
    for wheel in (ROOT / STORE).iterdir():
        shutil.copy(wheel, checkout / STORE)
    (checkout / ".gitignore").write_text("ignored.py\n")
    git(checkout, "init")
    git(checkout, "add", "broadcast_server")
    command = build_command("--output", str(checkout / "here.pyz"), root=checkout)
    assert run_to_end(*command).returncode == 0
    (checkout / "here.pyz").unlink()
    (checkout / "broadcast_server" / name).write_text("")
    done = run_to_end(*command)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"git does not track broadcast_server/{name}: remove it, or `git add` it if it belongs"
        " into the file\n"
    )
    assert not (checkout / "here.pyz").exists()
    git(checkout, "add", "--force", f"broadcast_server/{name}")
    assert run_to_end(*command).returncode == 0
    with zipfile.ZipFile(checkout / "here.pyz") as archive:
        assert f"broadcast_server/{name}" in archive.namelist()


def test_git_cannot_tell(checkout: Path) -> None:
    """A checkout that git cannot read is packed as it is, and the build says so."""
    (checkout / "build/wheels").mkdir(parents=True)
    for wheel in (ROOT / STORE).iterdir():
        shutil.copy(wheel, checkout / STORE)
    (checkout / ".git").write_text("gitdir: nowhere\n")
    done = run_to_end(*build_command("--output", str(checkout / "here.pyz"), root=checkout))
    assert (done.returncode, done.stderr) == (0, "")
    note = "git could not list the project's files: all of broadcast_server/ is packed"
    assert done.stdout.splitlines()[0] == note


def test_documents_say_how_large_the_file_is(tmp_path: Path) -> None:
    """README and docs/clients.md give a bound that holds, and the tutorial a figure close to it."""
    done = run_to_end(*build_command("--output", "here.pyz"), cwd=tmp_path)
    assert done.returncode == 0
    size = (tmp_path / "here.pyz").stat().st_size
    for name in "README.md", "docs/clients.md":
        assert "less than 1 MiB" in " ".join((ROOT / name).read_text(encoding="utf-8").split())
    assert size < 2**20
    tutorial = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
    (kibibytes,) = re.findall(r"/broadcast-server\.pyz: (\d+) KiB", tutorial)
    assert abs(int(kibibytes) - size / 2**10) < 50


def test_build_without_output(checkout: Path, tmp_path: Path) -> None:
    """Without --output, the file is written beside the script, from any working directory."""
    shutil.copytree(ROOT / STORE, checkout / STORE)
    done = run_to_end(*build_command(root=checkout), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (checkout / "broadcast-server.pyz").is_file()


def test_two_builds_are_the_same(zipapp_path: Path, checkout: Path, tmp_path: Path) -> None:
    """Builds from different checkouts, directories, umasks and hash seeds are identical."""
    shutil.copytree(ROOT / STORE, checkout / STORE)
    package = checkout / "broadcast_server"
    for path in package.iterdir():
        os.utime(path, (0, 0))
        path.chmod(0o600)
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "cli.cpython-310.pyc").write_bytes(b"stale")
    (package / ".#cli.py").symlink_to("someone@editing")
    (package / "cli.py.orig").write_bytes(b"stray")
    other = tmp_path / "other.pyz"
    done = run_to_end(
        *build_command("--output", str(other), root=checkout),
        cwd=Path("/"),
        umask=0o077,
        env={**os.environ, "PYTHONHASHSEED": "1", "TZ": "Pacific/Kiritimati"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert other.read_bytes() == zipapp_path.read_bytes()
    sums = [Path(f"{path}.sha256").read_text("utf-8").split()[0] for path in (other, zipapp_path)]
    assert sums[0] == sums[1]
    assert other.stat().st_mode & 0o777 == 0o755


def test_second_build_needs_no_index(checkout: Path) -> None:
    """If all wheels are stored and intact, a build needs no network."""
    shutil.copytree(ROOT / STORE, checkout / STORE)
    assert (
        run_to_end(*build_command(root=checkout), env=environment_without_index()).returncode == 0
    )


def test_pip_that_fails_is_one_line(checkout: Path) -> None:
    """If pip cannot get the wheels, one line gives pip's reason, and nothing is written."""
    done = run_to_end(*build_command(root=checkout), env=environment_without_index())
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("pip could not download websockets-16.1.1-py3-none-any.whl, h11")
    assert "No matching distribution found for websockets==16.1.1" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (checkout / "broadcast-server.pyz").exists()
    assert list((checkout / STORE).iterdir()) == []


def test_network_that_fails_is_named(checkout: Path) -> None:
    """If pip cannot reach its index, the line says so, although pip's last error does not."""
    env = environment_without_index(PIP_INDEX_URL="http://127.0.0.1:9/", PIP_RETRIES="1")
    del env["PIP_NO_INDEX"]
    done = run_to_end(*build_command(root=checkout), env=env)
    assert done.returncode == 1
    assert "Failed to establish a new connection" in done.stderr
    assert done.stderr.count("\n") == 1


def test_damaged_wheel_is_downloaded_again(checkout: Path) -> None:
    """A stored wheel with a wrong hash is not used, and only that one is downloaded again."""
    shutil.copytree(ROOT / STORE, checkout / STORE)
    damaged = checkout / STORE / "h11-0.16.0-py3-none-any.whl"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    done = run_to_end(*build_command(root=checkout), env=environment_without_index())
    assert done.stderr.startswith("pip could not download h11-0.16.0-py3-none-any.whl (")
    done = run_to_end(
        *build_command(root=checkout),
        env=environment_without_index(PIP_FIND_LINKS=str(ROOT / STORE)),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert damaged.read_bytes() == (ROOT / STORE / damaged.name).read_bytes()


def test_python_without_pip_uses_a_venv(checkout: Path) -> None:
    """A Python without pip uses that of a temporary virtual environment."""
    script = str(checkout / "build_zipapp.py")
    done = run_to_end(
        *ISOLATED_PYTHON, script, env=environment_without_index(PIP_FIND_LINKS=str(ROOT / STORE))
    )
    assert (done.returncode, done.stderr) == (0, "")
    wheels = sorted(path.name for path in (checkout / STORE).iterdir())
    assert wheels == sorted(wheel.file for wheel in BUILD["WHEELS"])


def test_python_without_pip_and_venv_is_one_line(checkout: Path, tmp_path: Path) -> None:
    """A Python without pip and venv prints one line that says what to install."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    for name in (
        "pip",
        "venv",
    ):  # as with Debian's python3, which has neither in a usable form
        (hidden / f"{name}.py").write_text("raise SystemExit(1)")
    code = (
        "import importlib.util, runpy, sys; importlib.util.find_spec = lambda name: None;"
        " del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    script = str(checkout / "build_zipapp.py")
    done = run_to_end(
        sys.executable, "-c", code, script, env=environment_without_index(PYTHONPATH=str(hidden))
    )
    assert done.returncode == 1
    assert done.stderr.startswith("this Python has neither pip nor all of venv: install pip")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("output", "reason"),
    [("", "is a directory"), ("no/such/file", "no such file or directory")],
)
def test_output_that_cannot_be_written(zipapp_path: Path, output: str, reason: str) -> None:
    """An output that cannot be written gives one line and exit code 1, and leaves no file."""
    path = zipapp_path.parent / output
    before = sorted(zipapp_path.parent.parent.iterdir())
    done = run_to_end(*build_command("--output", str(path)))
    assert done.returncode == 1
    line = f"cannot write {path}: {reason} (choose another with --output)\n"
    assert (done.stdout, done.stderr) == ("", line)
    assert sorted(zipapp_path.parent.parent.iterdir()) == before


def test_wrong_usage_of_the_build() -> None:
    """An unknown option ends the build with exit code 2."""
    assert run_to_end(*build_command("--nonsense")).returncode == 2


# -- what is in it ------------------------------------------------------------


def test_licences_are_inside(zipapp_path: Path) -> None:
    """The file contains our licence, and that of each project whose code it contains."""
    with zipfile.ZipFile(zipapp_path) as archive:
        names = archive.namelist()
        assert archive.read("LICENSE") == (ROOT / "LICENSE").read_bytes()
        for wheel in BUILD["WHEELS"]:
            folder = f"{wheel.name}-{wheel.version}.dist-info/"
            assert folder + "METADATA" in names
            licences = [name for name in names if name.startswith(folder + "licenses/LICENSE")]
            assert licences, wheel.name
            assert all(archive.read(name) for name in licences)


def test_it_contains_no_compiled_module(zipapp_path: Path) -> None:
    """The file contains no compiled module, so it runs with every Python on every system."""
    with zipfile.ZipFile(zipapp_path) as archive:
        suffixes = {Path(name).suffix for name in archive.namelist()}
    assert not suffixes & {".pyc", ".so", ".pyd", ".dylib"}


def test_no_import_names_a_module_that_was_left_out(zipapp_path: Path) -> None:
    """No import statement in the file names a module that the build has left out."""
    with zipfile.ZipFile(zipapp_path) as archive:
        sources = {n: archive.read(n) for n in archive.namelist() if n.endswith(".py")}
    # A package may have a function of the same name: `from wcwidth import wcwidth`.
    functions = {
        ".".join([*path.split("/")[:-1], alias.name])
        for path, source in sources.items()
        if path in BUILD["REPLACED"]
        for node in ast.parse(source).body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    missed = [
        f"{path} imports {module}"
        for path, source in sources.items()
        for module in {*modules_named(path, source)} - functions
        for file in (
            f"{module.replace('.', '/')}.py",
            f"{module.replace('.', '/')}/__init__.py",
        )
        if any(fnmatchcase(file, pattern) for pattern in BUILD["LEFT_OUT"])
    ]
    assert missed == []


def modules_named(path: str, source: bytes) -> Iterator[str]:
    """Yield the modules that the import statements of the file at *path* name, at any depth."""
    package = path.split("/")[:-1]
    for node in nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *filter(None, [node.module])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk *tree*, without the blocks that only type checkers read."""
    yield tree
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield from nodes(child)


# -- running it ---------------------------------------------------------------


def test_version_names_the_contents(zipapp_path: Path) -> None:
    """--version prints the versions of the program and of the packages in the file."""
    done = run_to_end(*ISOLATED_PYTHON, str(zipapp_path), "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("broadcast-server ")
    for wheel in BUILD["WHEELS"]:
        assert f"{wheel.name} {wheel.version}" in done.stdout


def test_runs_from_a_read_only_directory_with_spaces(zipapp_path: Path, tmp_path: Path) -> None:
    """The file runs from a path with spaces, in a directory that is not writable."""
    folder = tmp_path / "my file ö"
    folder.mkdir()
    path = shutil.copy(zipapp_path, folder / "broadcast server.pyz")
    folder.chmod(0o555)
    try:
        with serving(*ISOLATED_PYTHON, str(path), "start", "--port", "0") as (_, _, port):
            assert fetch_program(port) == (200, zipapp_path.read_bytes())
        assert [each.name for each in folder.iterdir()] == ["broadcast server.pyz"]
    finally:
        folder.chmod(0o755)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_start_listens_and_stops(zipapp_path: Path, number: signal.Signals) -> None:
    """`start` first prints its address, and exits with 0 after a signal."""
    with serving(*ISOLATED_PYTHON, str(zipapp_path), "start", "--port", "0") as (
        process,
        line,
        port,
    ):
        assert line == f"listening on ws://127.0.0.1:{port}/\n"
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0


def test_running_file_serves_itself(zipapp_path: Path, tmp_path: Path) -> None:
    """A running file serves its own bytes for download, and the download runs as well."""
    copy = tmp_path / "copy.pyz"
    with serving(*ISOLATED_PYTHON, str(zipapp_path), "start", "--port", "0") as (_, _, port):
        status, data = fetch_program(port)
    assert (status, data) == (200, zipapp_path.read_bytes())
    copy.write_bytes(data)
    with serving(*ISOLATED_PYTHON, str(copy), "start", "--port", "0") as (_, _, port):
        assert fetch_program(port) == (200, data)


def test_file_is_replaced_while_it_serves(zipapp_path: Path, tmp_path: Path) -> None:
    """A server whose file is replaced or truncated continues, and serves its original bytes."""
    path = Path(shutil.copy(zipapp_path, tmp_path / "broadcast-server.pyz"))
    with serving(*ISOLATED_PYTHON, str(path), "start", "--port", "0") as (_, _, port):
        assert fetch_program(port)[0] == 200
        BUILD["write"](BUILD["pack"]({"__main__.py": b"print('newer')\n"}), path)
        assert fetch_program(port) == (200, zipapp_path.read_bytes())
        path.write_bytes(b"")  # as by `curl -O` in its folder
        assert fetch_program(port) == (200, zipapp_path.read_bytes())


@pytest.mark.parametrize("option", ["--only-failures", "--label=it"])
def test_file_is_replaced_while_a_command_runs(
    zipapp_path: Path, tmp_path: Path, option: str
) -> None:
    """`run` reports the command, and has its exit code, if the file is replaced meanwhile."""
    path = Path(shutil.copy(zipapp_path, tmp_path / "broadcast-server.pyz"))
    with serving(*ISOLATED_PYTHON, str(zipapp_path), "start", "--port", "0") as (_, line, port):
        url = line.split()[-1]
        replaced = f"echo > {shlex.quote(str(path))}; exit 3"
        command = ["run", url, "--room", "jobs", "--label", "job", option, "--"]
        done = run_to_end(*ISOLATED_PYTHON, str(path), *command, "sh", "-c", replaced)
        assert (done.returncode, done.stdout, done.stderr) == (3, "", "")
        assert path.read_text() == "\n"
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        connection.request("GET", "/stream?room=jobs&history=9&poll=1")
        events = map(json.loads, connection.getresponse().read().splitlines())
        texts = [event["text"] for event in events if event["type"] == "message"]
        connection.close()
    assert [text.rpartition(" after ")[0] for text in texts][-1].endswith("ended with 3")


def test_start_imports_nothing_of_connect(zipapp_path: Path, tmp_path: Path) -> None:
    """`start` imports nothing that only `connect` needs, even after it has served requests."""
    report = tmp_path / "modules"
    program = *ISOLATED_PYTHON, "-c", REPORT_MODULES, str(report), str(zipapp_path)
    with serving(*program, "start", "--port", "0") as (process, _, port):
        assert fetch_program(port)[0] == 200
        done = run_to_end(
            *ISOLATED_PYTHON, str(zipapp_path), *connect_arguments(port), stdin="hello\n"
        )
        assert (done.returncode, done.stdout) == (0, "bob: hello\n")
        process.terminate()
        assert process.wait(PATIENCE) == 0
    assert imported_modules(report, "broadcast_server.server.server", "h11")
    areas = (f"broadcast_server.{name}" for name in ("client", "pipe", "terminal"))
    assert (
        imported_modules(report, "prompt_toolkit", "wcwidth", "websockets.asyncio", *areas) == set()
    )


def test_connect_in_a_pipe_imports_nothing_of_start(zipapp_path: Path, tmp_path: Path) -> None:
    """`connect` in a pipe imports nothing that only `start` or a terminal needs."""
    report = tmp_path / "modules"
    with serving(*ISOLATED_PYTHON, str(zipapp_path), "start", "--port", "0") as (_, _, port):
        command = (
            *ISOLATED_PYTHON,
            "-c",
            REPORT_MODULES,
            str(report),
            str(zipapp_path),
            *connect_arguments(port),
        )
        done = run_to_end(*command, stdin="hello\n")
    assert (done.returncode, done.stdout) == (0, "bob: hello\n")
    assert imported_modules(report, "broadcast_server.client.client")
    assert server_modules(report) == set()
    assert (
        imported_modules(report, "prompt_toolkit", "wcwidth", "broadcast_server.terminal") == set()
    )


def test_connect_at_a_terminal_imports_nothing_of_start(zipapp_path: Path, tmp_path: Path) -> None:
    """`connect` in a terminal has the prompt from the file, and imports nothing of `start`."""
    pexpect = pytest.importorskip("pexpect", reason="needs a pseudo-terminal")
    report = tmp_path / "modules"
    with serving(*ISOLATED_PYTHON, str(zipapp_path), "start", "--port", "0") as (_, _, port):
        child = pexpect.spawn(
            ISOLATED_PYTHON[0],
            [
                *ISOLATED_PYTHON[1:],
                "-c",
                REPORT_MODULES,
                str(report),
                str(zipapp_path),
                *connect_arguments(port),
            ],
            env={**os.environ, "TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"},
            timeout=PATIENCE,
        )
        try:
            child.expect_exact("you are bob")
            child.send("hello\r")
            child.expect("bob.*hello")
            child.send("/quit\r")
            child.expect(pexpect.EOF)
        finally:
            child.close(force=True)
    assert child.exitstatus == 0
    assert imported_modules(report, "prompt_toolkit", "broadcast_server.terminal.prompt")
    assert server_modules(report) == set()


@pytest.mark.parametrize(
    ("command", "needed", "unneeded"),
    [
        ("send hi --timeout 1 --unix no", "client.publisher", "logging asyncio shutil"),
        ("run --timeout 1 --unix no -- true", "cli.run", "logging asyncio shutil"),
        ("start --unix no/folder", "server.server", "importlib.metadata shutil"),
    ],
)
def test_a_command_imports_nothing_that_it_does_not_need(
    zipapp_path: Path, tmp_path: Path, command: str, needed: str, unneeded: str
) -> None:
    """What takes milliseconds to import, and only others need, is not imported.

    Each command ends at once, because there is no socket or no folder for it.
    """
    report = tmp_path / "modules"
    program = *ISOLATED_PYTHON, "-c", REPORT_MODULES, str(report), str(zipapp_path)
    run_to_end(*program, *command.split(), cwd=tmp_path)
    assert imported_modules(report, f"broadcast_server.{needed}")
    assert imported_modules(report, *unneeded.split()) == set()
    if not command.startswith("start"):
        assert imported_modules(report, "broadcast_server.protocol.messages") == set()


def connect_arguments(port: int) -> tuple[str, ...]:
    """Return the arguments with which bob joins."""
    return "connect", "--port", str(port), "--name", "bob"


def server_modules(report: Path) -> set[str]:
    """Return the imported modules that only a server needs."""
    names = "admission.admission", "rooms", "server.server", "server.websocket"
    return imported_modules(
        report, "h11", "websockets.server", *(f"broadcast_server.{n}" for n in names)
    )


# -- what it caches ------------------------------------------------------------


REPORT_COMPILED = """\
import atexit, json, pathlib, runpy, sys
report, *sys.argv = sys.argv[1:]
sys.path[:0] = [""]  # run_path removes the first entry at its end
compiled = []

def audit(event, arguments):
    if event == "compile" and isinstance(arguments[1], (str, bytes)):
        compiled.append(str(arguments[1]))

sys.addaudithook(audit)
atexit.register(lambda: pathlib.Path(report).write_text(json.dumps(compiled)))
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a file as Python would, and writes a list of the files that it compiled."""


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder for caches, which is empty."""
    path = tmp_path / "caches"
    path.mkdir(0o700)
    monkeypatch.setenv("XDG_CACHE_HOME", str(path))
    return path


def compiled_modules(report: Path, archive: Path, *options: str) -> set[str]:
    """Run the file with --version, and return the modules in it that were compiled."""
    program = *ISOLATED_PYTHON, *options, "-c", REPORT_COMPILED, str(report), str(archive)
    done = run_to_end(*program, "--version")
    assert (done.returncode, done.stderr) == (0, "")
    files = json.loads(report.read_text())
    return {name.removeprefix(f"{archive}/") for name in files if name.startswith(str(archive))}


def test_a_second_start_compiles_nothing(zipapp_path: Path, tmp_path: Path, caches: Path) -> None:
    """A second start compiles only what the cache is read with, also if the file was moved."""
    report = tmp_path / "compiled"
    moved = Path(shutil.copy(zipapp_path, tmp_path / "moved.pyz"))
    first = compiled_modules(report, zipapp_path)
    assert "broadcast_server/cli/main.py" in first
    for archive in zipapp_path, moved:
        again = compiled_modules(report, archive)
        assert {str(Path(name).parent) for name in again} <= {
            *(".", "broadcast_server", "broadcast_server/single_file")
        }
        assert "broadcast_server/__main__.py" not in again
    (entry,) = caches.rglob("*.code")
    assert entry.stat().st_size < 2**20


def test_a_running_server_has_cached_its_modules(zipapp_path: Path, caches: Path) -> None:
    """A server caches what it compiled before it serves, not when it ends: it may be killed."""
    with serving(*ISOLATED_PYTHON, str(zipapp_path), "start", "--port", "0") as (process, _, port):
        assert fetch_program(port)[0] == 200
        process.kill()
        process.wait()
    (entry,) = caches.rglob("*.code")
    assert b"broadcast_server.server.http_connection" in entry.read_bytes()


def test_python_is_told_to_write_no_bytecode(
    zipapp_path: Path, tmp_path: Path, caches: Path
) -> None:
    """With -B, or PYTHONDONTWRITEBYTECODE, nothing is written, and what is there is read."""
    report = tmp_path / "compiled"
    first = compiled_modules(report, zipapp_path, "-B")
    done = run_to_end(
        sys.executable,
        str(zipapp_path),
        "--version",
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert (done.returncode, list(caches.iterdir())) == (0, [])
    compiled_modules(report, zipapp_path)
    assert len(compiled_modules(report, zipapp_path, "-B")) < len(first)


@pytest.mark.parametrize(
    ("mode", "exit_code"), [(0o700, 77), (0o770, 0), (0o707, 0), (0o1777, 0), (0o500, 77)]
)
def test_planted_code(zipapp_path: Path, caches: Path, mode: int, exit_code: int) -> None:
    """Code in a cache that others can write to does not run. In the user's own it does."""
    code = marshal.dumps(compile("raise SystemExit(77)", "planted", "exec"))
    CodeCache(zipapp_path.read_bytes()).add({"broadcast_server.cli.main": code})
    (folder,) = caches.iterdir()
    folder.chmod(mode)
    done = run_to_end(*ISOLATED_PYTHON, str(zipapp_path), "--version")
    assert (done.returncode, done.stderr) == (exit_code, "")


def test_a_damaged_cache_is_replaced(zipapp_path: Path, tmp_path: Path, caches: Path) -> None:
    """A start with a damaged entry is like one without, and writes it again."""
    compiled_modules(tmp_path / "compiled", zipapp_path)
    (entry,) = caches.rglob("*.code")
    whole = entry.read_bytes()
    for damaged in b"", whole[: len(whole) // 2], whole[:-1] + b"?", b"\0" * len(whole):
        entry.write_bytes(damaged)
        done = run_to_end(*ISOLATED_PYTHON, str(zipapp_path), "--version")
        assert (done.returncode, done.stderr) == (0, "")
        assert entry.stat().st_size > len(whole) // 2
        assert entry.read_bytes() != damaged


def test_a_cache_that_cannot_be_written(zipapp_path: Path, tmp_path: Path) -> None:
    """Without a folder for the cache, and whatever is in its place, the program runs."""
    for variables in (
        {"XDG_CACHE_HOME": "/proc/self", "HOME": str(tmp_path)},
        {"XDG_CACHE_HOME": os.devnull},
        {"HOME": "/nonexistent"},
        {},
    ):
        done = run_to_end(*ISOLATED_PYTHON, str(zipapp_path), "--version", env=variables)
        assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_cached_code_names_the_file(zipapp_path: Path, tmp_path: Path, caches: Path) -> None:
    """A traceback through cached code names the file that runs, and has its source."""
    run = "import runpy, sys, traceback; sys.path[:0] = ['']; del sys.argv[0]\n"
    run += "try: runpy.run_path(sys.argv[0], run_name='__main__')\nexcept SystemExit: pass\n"
    run += "main = sys.modules['broadcast_server.cli.main']\n"
    run += "try: main._with_target(None, None)\nexcept Exception: traceback.print_exc()"
    moved = Path(shutil.copy(zipapp_path, tmp_path / "moved.pyz"))
    for archive in zipapp_path, moved:
        done = run_to_end(*ISOLATED_PYTHON, "-c", run, str(archive), "--version")
        assert f'File "{archive}/broadcast_server/cli/main.py"' in done.stderr
        assert "target = target_from_options(options)" in done.stderr


# -- its first lines ----------------------------------------------------------


def test_main_is_valid_in_an_old_python() -> None:
    """The code that checks the version uses only syntax that every Python 3 has."""
    tree = ast.parse(BUILD["MAIN"].decode("ascii"), feature_version=(3, 7))
    unknown = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.AsyncFunctionDef)
    assert not [node for node in ast.walk(tree) if isinstance(node, unknown)]
    assert not [
        node for node in ast.walk(tree) if isinstance(node, ast.arg) and node.annotation is not None
    ]


def test_old_python_gets_one_line() -> None:
    """A Python that is too old prints one line with the needed version and its own."""
    old = b"import sys; sys.version_info = (3, 8, 10, 'final', 0)\n"
    done = run_to_end(*ISOLATED_PYTHON, "-c", (old + BUILD["MAIN"]).decode())
    line = "broadcast-server needs Python 3.10 or newer, this is 3.8.10\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", line)
    command = "run", "--label", "x", "--", "sh", "-c", "echo ran; exit 3"
    done = run_to_end(*ISOLATED_PYTHON, "-c", (old + BUILD["MAIN"]).decode(), *command)
    line = f"* nothing is reported to the room: {line}"
    assert (done.returncode, done.stdout, done.stderr) == (3, "ran\n", line)


def test_interrupt_during_the_imports_is_quiet(tmp_path: Path) -> None:
    """Ctrl+C before the program is imported ends it without a traceback."""
    package = {"broadcast_server/__init__.py": b"raise KeyboardInterrupt"}
    path = tmp_path / "interrupted.pyz"
    BUILD["write"](BUILD["pack"]({"__main__.py": BUILD["MAIN"], **package}), path)
    done = run_to_end(*ISOLATED_PYTHON, str(path))
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


def test_exit_codes_of_the_file(zipapp_path: Path) -> None:
    """The file's exit code is the program's: 2 for wrong usage, 1 for a port in use."""
    assert run_to_end(*ISOLATED_PYTHON, str(zipapp_path), "start", "--nonsense").returncode == 2
    with serving(*ISOLATED_PYTHON, str(zipapp_path), "start", "--port", "0") as (_, _, port):
        done = run_to_end(*ISOLATED_PYTHON, str(zipapp_path), "start", "--port", str(port))
    assert done.returncode == 1
    assert done.stderr.startswith(f"Address already in use: 127.0.0.1:{port} ")
