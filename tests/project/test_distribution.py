"""The wheel and the source distribution: what is in them, and that they run where they are put.

Both are built once, by the build backend that pip uses, without a network. Their dependencies are
the wheels that `build_zipapp.py` has stored.
"""

from __future__ import annotations

import email
import importlib.metadata
import os
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Sequence
from email.message import Message
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import Request, urlopen

import pytest
from packaging.licenses import canonicalize_license_expression
from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename
from programs import PATIENCE, ROOT, listening, running, said, say

import broadcast_server

VERSION = broadcast_server.__version__
STEM = f"broadcast_server-{VERSION}"
STORE = ROOT / "build" / "wheels"
OFFLINE = ("--no-index", "--find-links", str(STORE))
"""Options of pip and uv: no package index, but the stored wheels."""


def run(*command: str | Path, cwd: Path | None = None, **variables: str) -> str:
    """Run a command, which must succeed, and return what it printed."""
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **variables},
        timeout=2 * PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Built(NamedTuple):
    """The two files of a release."""

    wheel: Path
    sdist: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The wheel and the source distribution, built from this checkout."""
    pytest.importorskip("hatchling", reason="hatchling is in the extra `test`")
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "--directory", folder, cwd=ROOT)
    files = sorted(path.name for path in folder.iterdir())
    assert files == [f"{STEM}-py3-none-any.whl", f"{STEM}.tar.gz"]
    return Built(folder / files[0], folder / files[1])


@pytest.fixture(scope="module")
def unpacked(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what is in the source distribution."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(built.sdist) as archive:
        archive.extractall(folder, filter="data")
    return folder / STEM


@pytest.fixture(scope="module")
def metadata(built: Built) -> Message:
    """The metadata in the wheel."""
    with zipfile.ZipFile(built.wheel) as archive:
        text = archive.read(f"{STEM}.dist-info/METADATA").decode()
    return email.message_from_string(text)


# -- what is in them --------------------------------------------------------------------------


def test_the_wheel_has_both_packages_and_nothing_else(built: Built) -> None:
    """It is pure, and has every file of the packages that git tracks, but no test."""
    _, _, _, tags = parse_wheel_filename(built.wheel.name)
    assert {str(tag) for tag in tags} == {"py3-none-any"}
    with zipfile.ZipFile(built.wheel) as archive:
        names = set(archive.namelist())
        wheel = archive.read(f"{STEM}.dist-info/WHEEL").decode()
    assert "Root-Is-Purelib: true" in wheel
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in ("broadcast_server", "django_site")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert "broadcast_server/page/index.html" in expected
    assert {"broadcast_server/py.typed", "django_site/py.typed"} < expected
    assert {each for each in names if not each.startswith(f"{STEM}.dist-info/")} == expected


def test_the_source_builds_the_same_wheel(built: Built, unpacked: Path, tmp_path: Path) -> None:
    """From the source distribution, offline: the same wheel, byte for byte."""
    run(
        *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
        *("--no-index", "--wheel-dir", tmp_path, unpacked),
    )
    assert (tmp_path / built.wheel.name).read_bytes() == built.wheel.read_bytes()


def test_the_source_has_what_a_distributor_needs(unpacked: Path) -> None:
    """It has the tests, the documents and the build of the single file, which does the same."""
    for name in ("LICENSE", "CHANGELOG.md", "docs/protocol.md", "manage.py", "tests/conftest.py"):
        assert (unpacked / name).is_file(), name
    shutil.copytree(STORE, unpacked / "build" / "wheels")
    files = []
    for root in (unpacked, ROOT):
        build = runpy.run_path(str(root / "build_zipapp.py"), run_name="build_zipapp")
        wheels = build["fetch"](build["WHEELS"], build["STORE"])
        files.append(build["pack"](build["entries"](root, wheels)))
    assert files[0] == files[1]


# -- metadata ---------------------------------------------------------------------------------


def test_the_metadata(metadata: Message) -> None:
    """Names, licence and classifiers are what package indexes accept."""
    assert metadata["Name"] == "broadcast-server"
    assert metadata["License-Expression"] == canonicalize_license_expression("MIT")
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Requires-Python"] == ">=3.10"
    assert 20 < len(metadata["Summary"]) < 120
    assert len(metadata["Keywords"].split(",")) > 3
    classifiers = metadata.get_all("Classifier") or []
    minor = sys.version_info.minor
    assert f"Programming Language :: Python :: 3.{minor}" in classifiers
    assert not any(each.startswith("License ::") for each in classifiers)
    trove = pytest.importorskip("trove_classifiers", reason="comes with hatchling")
    assert {*classifiers} <= trove.classifiers
    # There is no address of which we know that it is ours.
    assert metadata.get_all("Project-URL") is None and metadata["Home-page"] is None


def test_the_readme_renders(metadata: Message) -> None:
    """The README is the description, and a package index can show it."""
    assert metadata["Description-Content-Type"] == "text/markdown"
    readme = str(metadata.get_payload())
    assert readme.strip() == (ROOT / "README.md").read_text("utf-8").strip()
    markdown = pytest.importorskip("readme_renderer.markdown", reason="readme_renderer[md]")
    rendered = markdown.render(readme)
    assert rendered is not None and "<table" in rendered and "| instead |" not in rendered


def test_the_extras_resolve(metadata: Message) -> None:
    """Each extra exists, and so does each that another one names.

    What is installed here of the extras `django` and `test` is what they ask for.
    """
    extras = set(metadata.get_all("Provides-Extra") or [])
    assert {"django", "test", "bench"} <= extras
    wanted = [Requirement(each) for each in metadata.get_all("Requires-Dist") or []]
    for each in wanted:
        assert each.url is None, each
        assert each.name != "broadcast-server" or each.extras <= extras, each
    for extra in ("", "django", "test"):
        for each in wanted:
            if each.marker is None or each.marker.evaluate({"extra": extra}):
                version = importlib.metadata.version(each.name)
                assert each.specifier.contains(version, prereleases=True), each


def test_the_version_is_in_one_place(built: Built, zipapp_path: Path) -> None:
    """The package has it; everything else reads it there, or is compared with it here."""
    source = (ROOT / "broadcast_server" / "__init__.py").read_text("utf-8")
    assert re.findall(r'^__version__ = "(.*)"$', source, re.MULTILINE) == [VERSION]
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION)
    pyproject = (ROOT / "pyproject.toml").read_text("utf-8")
    assert 'path = "broadcast_server/__init__.py"' in pyproject and VERSION not in pyproject
    for program in ((sys.executable, "-m", "broadcast_server"), (sys.executable, zipapp_path)):
        assert run(*program, "--version").startswith(f"broadcast-server {VERSION} (")
        title = run(*program, "manual").splitlines()[0].replace("\\-", "-")
        assert f'"broadcast-server {VERSION}"' in title
    readme = (ROOT / "README.md").read_text("utf-8")
    assert {*re.findall(r"broadcast_server-([\d.]+\d)-py3", readme)} == {VERSION}
    released = re.findall(
        r"^## \[([\d.]+)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE
    )
    assert not released or released[0] == VERSION


# -- installing and running -------------------------------------------------------------------


def tool(name: str) -> str:
    """Return the path of an installer, or skip the test."""
    path = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def scripts(environment: Path) -> Path:
    """Return the folder of the commands in a virtual environment."""
    return environment / ("Scripts" if os.name == "nt" else "bin")


def with_pip(built: Built, folder: Path) -> list[Sequence[str]]:
    """Install the wheel with pip into a new virtual environment."""
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    python = scripts(folder / "venv") / "python"
    quiet = "--quiet", "--disable-pip-version-check"
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--no-compile",
        *quiet,
        *OFFLINE,
        built.wheel,
    )
    command = str(scripts(folder / "venv") / "broadcast-server")
    return [(command,), (str(python), "-m", "broadcast_server")]


def with_pipx(built: Built, folder: Path) -> list[Sequence[str]]:
    """Install the wheel with pipx and uv: with pip, pipx would download a newer pip first."""
    pipx, uv = tool("pipx"), tool("uv")
    if "--backend" not in run(pipx, "install", "--help"):
        pytest.skip("this pipx cannot install without a network")
    variables: dict[str, Any] = {
        "PIPX_HOME": str(folder / "pipx"),
        "PIPX_BIN_DIR": str(folder / "bin"),
        "PIPX_MAN_DIR": str(folder / "man"),
        "PATH": os.pathsep.join([str(Path(uv).parent), os.environ["PATH"]]),
        "UV_CACHE_DIR": str(folder / "cache"),
    }
    options = "--backend", "uv", "--python", sys.executable, "--pip-args", shlex.join(OFFLINE)
    run(pipx, "install", *options, built.wheel, **variables)
    return [(str(folder / "bin" / "broadcast-server"),)]


def with_uv(built: Built, folder: Path) -> list[Sequence[str]]:
    """Install the wheel with uv."""
    variables: dict[str, Any] = {
        "UV_TOOL_DIR": str(folder / "tools"),
        "UV_TOOL_BIN_DIR": str(folder / "bin"),
        "UV_CACHE_DIR": str(folder / "cache"),
    }
    options = "--python", sys.executable, *OFFLINE
    run(tool("uv"), "tool", "install", *options, built.wheel, **variables)
    return [(str(folder / "bin" / "broadcast-server"),)]


def page(url: str) -> str:
    """Return a page of a server, as a browser gets it."""
    request = Request(url.replace("ws", "http", 1), headers={"Accept": "text/html"})
    with urlopen(request, timeout=PATIENCE) as answer:
        body: bytes = answer.read()
    return body.decode()


INSTALLERS = {"pip": with_pip, "pipx": with_pipx, "uv": with_uv}


@pytest.mark.parametrize("installer", INSTALLERS)
def test_it_runs_where_it_is_installed(installer: str, built: Built, tmp_path: Path) -> None:
    """Installed from the wheel alone, the command and the module run a server and a client."""
    command, *module = INSTALLERS[installer](built, tmp_path)
    start = module[0] if module else command
    # In a folder without the sources, and without the packages of this environment.
    in_folder = ("sh", "-c", 'cd "$0" && exec "$@"', str(tmp_path))
    with running(*in_folder, *start, "start", "--port", "0") as server:
        say(server.url, "lobby", "ci", "hello")
        run(*command, "send", "again", "--name", "ci", server.url, cwd=tmp_path)
        assert said(server.url, "lobby") == ["ci: hello", "ci: again"]
        assert "<!doctype html>" in page(server.url)
        assert server.signal(signal.SIGTERM) == 0
    assert run(*command, "--version", cwd=tmp_path).startswith(f"broadcast-server {VERSION} (")


def test_the_django_deployment_runs_from_the_wheel(built: Built, tmp_path: Path) -> None:
    """With what the extra `django` names, the wheel is enough for a site and its commands."""
    with zipfile.ZipFile(built.wheel) as archive:
        archive.extractall(tmp_path / "installed")
    (tmp_path / "data").mkdir()
    # The dependencies are those of this environment, but not the sources: an editable
    # installation is found by a .pth file, which has no effect in a folder that is not a site's.
    folders = [str(tmp_path / "installed"), *{*map(sysconfig.get_path, ("purelib", "platlib"))}]
    variables: dict[str, Any] = {
        "PYTHONPATH": os.pathsep.join(folders),
        "BROADCAST_DATA": str(tmp_path / "data"),
        "DJANGO_SETTINGS_MODULE": "django_site.settings",
    }
    python = (sys.executable, "-S", "-c")
    start = "import os, runpy, sys; os.chdir(sys.argv.pop(1)); sys.path[0] = ''"
    daphne = f"{start}; runpy.run_module('daphne', run_name='__main__', alter_sys=True)"
    site = running(
        *(*python, daphne, str(tmp_path), "-p", "0", "django_site.asgi:application"), **variables
    )
    with site as server:
        url = listening(server)
        say(url, "lobby", "ci", "hello")
        admin = f"{start}; import django_site; print(django_site.__file__); sys.argv[0] = 'manage'"
        admin += "; from django.core.management import execute_from_command_line as run"
        admin += "; run(sys.argv)"
        words = "broadcast", "lobby", "again", "--name", "ops"
        output = run(*python, admin, tmp_path, *words, **variables)
        module, result = output.splitlines()
        assert Path(module).is_relative_to(tmp_path / "installed")
        assert result == "message 2 in lobby, as ops"
        assert said(url, "lobby") == ["ci: hello", "ops: again"]
        for path in ("", "accounts/login/"):
            assert "<!doctype html>" in page(url + path)
        assert server.signal(signal.SIGTERM) == 0
