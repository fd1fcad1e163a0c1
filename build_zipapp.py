"""Build the single file: this package and its dependencies, as one zip that Python can run.

    python3 build_zipapp.py [--output PATH]

The SHA-256 of the file is written beside it, as `sha256sum -c PATH.sha256` reads it.
The first build needs a package index that pip can reach; the wheels are then stored in
build/wheels/. They are pinned by their hashes, and everything else that could differ
between builds (order, times, modes) is fixed, so that two builds of one commit are
identical, byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import io
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent
STORE = ROOT / "build" / "wheels"
OUTPUT = ROOT / "broadcast-server.pyz"


class Wheel(NamedTuple):
    """One pure wheel that goes into the file."""

    name: str
    version: str
    sha256: str

    @property
    def file(self) -> str:
        """The file name of the wheel."""
        return f"{self.name}-{self.version}-py3-none-any.whl"

    @property
    def requirement(self) -> str:
        """The line for the wheel in pip's requirements file."""
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}"


# websockets 17 needs Python 3.11, but the single file supports 3.10.
WHEELS = (
    Wheel(
        "websockets", "16.1.1", "6abbd3e82c731c8e531714466acd5d87b5e88ac3243465337ba71d68e23ae7e3"
    ),
    Wheel("h11", "0.16.0", "63cf8bbe7522de3bf65932fda1d9c2772064ffb3dae62d55932da54b31cb6c86"),
    Wheel(
        "prompt_toolkit",
        "3.0.53",
        "01c0891d7f9237d5e339f7d3e42cdae80b7534abb1c7c0e3352efba6231492f2",
    ),
    Wheel("wcwidth", "0.9.4", "901eace6d2dd25ebb917d0ce5db18e5c537e1504c905cf32f0d006c12098b05d"),
)

LEFT_OUT = {
    "websockets/legacy/*": "42 KiB: the asyncio API before websockets 13",
    "websockets/asyncio/server.py": "9 KiB: a server; ours is Sans-I/O",
    "websockets/asyncio/router.py": "2 KiB: needs that server",
    "websockets/speedups.c": "2 KiB: the source of an extension in C, which a zip cannot hold",
    "websockets/sync/*": "28 KiB: the API on threads",
    "websockets/cli.py": "2 KiB: websockets' own client, which needs sync",
    "websockets/__main__.py": "0 KiB: needs cli",
    "websockets/auth.py": "0 KiB: needs legacy, as its old name",
    "websockets/http.py": "0 KiB: needs legacy, as its old name",
    "prompt_toolkit/contrib/*": "22 KiB: telnet and ssh servers, completion by a grammar",
    "prompt_toolkit/clipboard/pyperclip.py": "1 KiB: needs a package that is not in the file",
    "prompt_toolkit/shortcuts/progress_bar/*": "7 KiB: progress bars",
    "prompt_toolkit/shortcuts/choice_input.py": "3 KiB: a choice from a list",
    "prompt_toolkit/shortcuts/dialogs.py": "2 KiB: dialogs on the whole screen",
    "prompt_toolkit/widgets/dialogs.py": "1 KiB: those dialogs",
    "prompt_toolkit/widgets/menus.py": "3 KiB: menus on the whole screen",
    "wcwidth/_clip.py": "9 KiB: needs the width of text; prompt_toolkit that of a character",
    "wcwidth/_wcswidth.py": "4 KiB: the width of text",
    "wcwidth/_width.py": "6 KiB: the same",
    "wcwidth/align.py": "2 KiB: the same",
    "wcwidth/escape_sequences.py": "3 KiB: the same",
    "wcwidth/grapheme.py": "4 KiB: the same",
    "wcwidth/hyperlink.py": "2 KiB: the same",
    "wcwidth/control_codes.py": "1 KiB: the same",
    "wcwidth/sgr_state.py": "4 KiB: the same",
    "wcwidth/table_vs1[56].py": "4 KiB: the same",
    "wcwidth/table_grapheme_overrides/*": "165 KiB: widths in particular terminals",
    "wcwidth/text_sizing.py": "3 KiB: the same",
    "wcwidth/textwrap.py": "8 KiB: the same",
    "wcwidth/wcwidth.py": "1 KiB: the same, under its old name",
    "*.dist-info/RECORD": "13 KiB: hashes of the installed files",
    "*.dist-info/WHEEL": "1 KiB: for installers only",
    "*.dist-info/top_level.txt": "1 KiB: for installers only",
    "*.dist-info/entry_points.txt": "0 KiB: for installers only",
    "*.pyi": "1 KiB: for type checkers only",
    "*/py.typed": "1 KiB: for type checkers only",
}
"""The files of the wheels that are left out: how much smaller that makes the file, and why."""

REPLACED = {
    "prompt_toolkit/shortcuts/__init__.py": (
        b"from .prompt import PromptSession, prompt\nfrom .utils import print_formatted_text\n"
    ),
    "prompt_toolkit/widgets/__init__.py": b"from .base import Frame, TextArea\n",
    "wcwidth/__init__.py": b"from ._wcwidth import wcwidth\n",
}
"""The packages of the wheels that import modules which are left out, and what is needed of them."""

MAIN = b'''\
"""The entry point of the single file."""

import sys


def install_importer():
    """Import the program from memory from now on, and compile it once and not at each start."""
    import os
    from zipimport import zipimporter

    class Importer(zipimporter):
        """Python's own importer, but it compiles no module to find its name."""

        def get_filename(self, fullname):
            end = os.sep + "__init__.py" if self.is_package(fullname) else ".py"
            name = fullname.rpartition(".")[2]
            return os.path.join(self.archive, self.prefix + name + end)

    archive = sys.path[0]
    sys.path_hooks.insert(0, Importer)
    sys.path_importer_cache.pop(archive, None)
    from broadcast_server.single_file.importer import ArchiveImporter

    importer = ArchiveImporter(archive)
    sys.meta_path.insert(0, importer)
    sys.path_hooks.remove(Importer)
    sys.path_importer_cache[archive] = None  # no module is found there any more
    return importer


def state():
    """Return what changes when this file is replaced."""
    import os

    try:
        found = os.stat(sys.path[0])
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def run_plainly(command, why):
    """Run the command of `run` in our place: nothing is left that could report it."""
    import os
    import signal

    sys.stderr.write("* nothing is reported to the room: %s\\n" % why)
    sys.stderr.flush()
    os.environ.pop("BROADCAST_TOKEN", None)
    try:
        if os.name == "nt":  # there, exec returns to the caller before the command has ended
            import subprocess

            return subprocess.call(command)
        for name in ("SIGPIPE", "SIGXFSZ"):  # which Python ignores
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_DFL)
        os.execvp(command[0], command)
    except OSError as error:
        is_missing = error.errno == 2
        reason = "command not found" if is_missing else error.strerror.lower()
        sys.stderr.write("broadcast-server run: %s: %s\\n" % (command[0], reason))
        return 127 if is_missing else 126


def give_up(why, remedy):
    """Say *why* the program cannot start, and return its exit code."""
    if sys.argv[1:2] == ["run"] and "--" in sys.argv:
        command = sys.argv[sys.argv.index("--") + 1 :]
        if command and command[0]:
            return run_plainly(command, why)
    sys.stderr.write("%s%s\\n" % (why, remedy))
    return 1


def start():
    # This syntax works in every Python 3, so that an old one can report its version.
    if sys.version_info < (3, 10):
        found = "%d.%d.%d" % sys.version_info[:3]
        return give_up("broadcast-server needs Python 3.10 or newer, this is %s" % found, "")
    archive, before = sys.path[0], state()
    try:
        try:
            importer = install_importer()
        except Exception as error:
            if state() == before:
                raise
            why = "%s was replaced before all of it was loaded (%r)" % (archive, error)
            return give_up(why, ", start it again")
        from broadcast_server.__main__ import run

        code = run()
        importer.keep_compiled()
        return code
    except KeyboardInterrupt:
        return 1


if __name__ == "__main__":
    raise SystemExit(start())
'''

SHEBANG = b"#!/usr/bin/env python3\n"


class Failure(Exception):
    """The file could not be built; the text, one line, says why and what to do."""


# -- the contents ---------------------------------------------------------------


def entries(root: Path, wheels: Sequence[bytes]) -> dict[str, bytes]:
    """Return the contents of the file, by their paths in it."""
    contents = {"__main__.py": MAIN, "LICENSE": (root / "LICENSE").read_bytes()}
    for path in _own_files(root / "broadcast_server"):
        contents[path.relative_to(root).as_posix()] = path.read_bytes()
    for wheel in wheels:
        with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
            for name in archive.namelist():
                if not name.endswith("/") and not _left_out(name):
                    contents[name] = _shortened(name, archive.read(name))
    return contents


def untracked(root: Path) -> list[str] | None:
    """Return the files of the package at *root* that would go into the file unknown to git.

    None means that git cannot tell: it is not installed, or *root* is not the top of a checkout,
    as in an unpacked archive or a container's build.
    """
    if not (root / ".git").exists():
        return None
    try:
        done = _run("git", "-C", str(root), "ls-files", "-z", "--", "broadcast_server")
    except OSError:
        return None
    if done.returncode:
        return None
    tracked = {*done.stdout.split("\0")}
    files = (path.relative_to(root).as_posix() for path in _own_files(root / "broadcast_server"))
    return sorted(file for file in files if file not in tracked)


def _own_files(package: Path) -> Iterator[Path]:
    yield from package.rglob("[!.]*.py")
    for path in (package / "page").rglob("[!.]*"):
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            yield path


def _left_out(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in LEFT_OUT)


def _shortened(name: str, data: bytes) -> bytes:
    """Return *data* without what costs something and is not needed.

    Of METADATA that is the README of a library, 14 KiB of all; fields stay. And websockets imports
    `importlib.metadata`, which takes a start 9 ms, for the version of a checkout of its own.
    """
    if name.endswith(".dist-info/METADATA"):
        return data.partition(b"\n\n")[0] + b"\n"
    if name == "prompt_toolkit/__init__.py":
        return data.replace(b"import PromptSession, choice, ", b"import PromptSession, ")
    if name == "websockets/version.py" and b"\nreleased = True\n" in data:
        return data.replace(b"\nimport importlib.metadata\n", b"\n", 1)
    return REPLACED.get(name, data)


def pack(contents: Mapping[str, bytes]) -> bytes:
    """Return the bytes of the file, which are always the same for the same *contents*."""
    buffer = io.BytesIO()
    buffer.write(SHEBANG)
    # Compressed, the file had 0.74 MiB, uncompressed 2.57, and it did not start sooner: after 156
    # ms compressed, after 160 uncompressed (medians of 21 interleaved starts each).
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system = 3  # Unix, also if built on Windows
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, contents[name], zipfile.ZIP_DEFLATED, 9)
    return buffer.getvalue()


# -- the wheels ---------------------------------------------------------------


def fetch(wheels: Sequence[Wheel], store: Path) -> list[bytes]:
    """Return the contents of the *wheels*; download those that are not intact in *store*."""
    missing = [wheel for wheel in wheels if _stored(wheel, store) is None]
    if missing:
        store.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=store) as name:
            _download(missing, Path(name))
            for wheel in missing:
                os.replace(Path(name, wheel.file), store / wheel.file)
    contents = [_stored(wheel, store) for wheel in wheels]
    return [wheel for wheel in contents if wheel is not None]


def _stored(wheel: Wheel, store: Path) -> bytes | None:
    try:
        data = (store / wheel.file).read_bytes()
    except FileNotFoundError:
        return None
    return data if hashlib.sha256(data).hexdigest() == wheel.sha256 else None


def _download(wheels: Sequence[Wheel], to: Path) -> None:
    """Download the *wheels* with pip, which checks their hashes."""
    requirements = to / "requirements.txt"
    requirements.write_text("".join(f"{wheel.requirement}\n" for wheel in wheels), encoding="utf-8")
    done = _run_python(
        *(_python_with_pip(to / "venv"), "-m", "pip", "download"),
        *("--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"),
        *("--require-hashes", "--only-binary", ":all:", "--platform", "any"),
        *("--implementation", "py", "--abi", "none", "--python-version", "3.10"),
        *("--dest", str(to), "--requirement", str(requirements)),
    )
    if done.returncode:
        raise Failure(
            f"pip could not download {', '.join(wheel.file for wheel in wheels)}"
            f" ({_reason(done.stderr)}):"
            f" let pip reach a package index, or put these files into {STORE}"
        )


def _reason(errors: str) -> str:
    """Return why pip failed, from what it printed. It reports network errors as warnings only."""
    network = re.findall(r"after connection broken by '(.*)': /", errors)
    others = re.findall(r"^ERROR: (.*)", errors, re.MULTILINE)
    return "; ".join(network[-1:] + others[-1:]) or "it gave no reason"


def _python_with_pip(venv: Path) -> str:
    """Return a Python with pip: this one, else that of a new virtual environment at *venv*."""
    if importlib.util.find_spec("pip") is not None:
        return sys.executable
    if _run_python(sys.executable, "-m", "venv", str(venv)).returncode:
        raise Failure(
            "this Python has neither pip nor all of venv: install pip"
            " (on Debian and Ubuntu: apt install python3-pip)"
        )
    return str(venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))


def _run_python(python: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Warnings in pip's code must not become errors, even if ours do.
    return _run(python, "-W", "ignore", *arguments)


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )


# -- the file -----------------------------------------------------------------


def checksum(data: bytes, path: Path) -> bytes:
    """Return what *path*.sha256 holds, in the format of sha256sum, if *path* holds *data*."""
    name = path.name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    escaped = "\\" if name != path.name else ""
    return os.fsencode(f"{escaped}{hashlib.sha256(data).hexdigest()}  {name}\n")


def write(data: bytes, path: Path, mode: int = 0o755) -> None:
    """Replace the file at *path* in one step, so that no reader sees half of it."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(handle, "wb") as file:
            file.write(data)
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return the exit code."""
    parser = argparse.ArgumentParser(description="Build the single file.")
    parser.add_argument(
        "--output",
        type=Path,
        default=OUTPUT,
        metavar="PATH",
        help=f"where to write it [default: {OUTPUT.name} beside this script]",
    )
    output: Path = parser.parse_args(arguments).output
    try:
        size = _build(output)
    except Failure as failure:
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 1
    print(f"{output}: {size / 1024:.0f} KiB")
    return 0


def _build(output: Path) -> int:
    unknown = untracked(ROOT)
    if unknown:
        raise Failure(
            f"git does not track {', '.join(unknown)}: remove it, or `git add` it if it belongs"
            " into the file"
        )
    if unknown is None and (ROOT / ".git").exists():
        print("git could not list the project's files: all of broadcast_server/ is packed")
    try:
        data = pack(entries(ROOT, fetch(WHEELS, STORE)))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise Failure(f"cannot use {error.filename}: {reason} (is this checkout whole?)") from None
    try:
        write(data, output)
        write(checksum(data, output), output.with_name(f"{output.name}.sha256"), 0o644)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise Failure(f"cannot write {output}: {reason} (choose another with --output)") from None
    return len(data)


if __name__ == "__main__":
    raise SystemExit(main())
