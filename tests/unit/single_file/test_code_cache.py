"""The code cache: what it keeps, and that it reads nothing which somebody else may have written."""

from __future__ import annotations

import os
import resource
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from broadcast_server.single_file import code_cache
from broadcast_server.single_file.code_cache import FOLDER, MAX_ENTRIES, CodeCache

MODULES = {"a": b"compiled", "a.b": b"", "c": b"x" * 9999}
OTHER = {"d": b"other"}


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder for caches."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    tmp_path.chmod(0o700)
    return tmp_path


@pytest.fixture
def cache() -> CodeCache:
    """A cache in which `MODULES` are."""
    cache = CodeCache(b"the single file")
    cache.add(MODULES)
    assert cache.load() == MODULES
    return cache


def entry(caches: Path) -> Path:
    """Return the only entry."""
    (path,) = (caches / FOLDER).iterdir()
    return path


def test_it_has_what_was_added(cache: CodeCache) -> None:
    """What is added is there as well, for this build only."""
    CodeCache(b"another build").add(OTHER)
    assert cache.load() == MODULES
    cache.add({**OTHER, "a": b"newer"})
    assert cache.load() == {**MODULES, **OTHER, "a": b"newer"}
    assert CodeCache(b"another build").load() == OTHER


@pytest.mark.parametrize("umask", [0, 0o777])
def test_it_is_private(caches: Path, monkeypatch: pytest.MonkeyPatch, umask: int) -> None:
    """Whatever the umask is, the folders and the entries are their owner's only, and usable."""
    monkeypatch.delenv("XDG_CACHE_HOME")
    home, before = caches / "home", os.umask(umask)
    try:
        CodeCache(b"").add(MODULES)
    finally:
        os.umask(before)
    modes = {each: stat.S_IMODE(each.stat().st_mode) for each in home.rglob("*")}
    folder = home / ".cache" / FOLDER
    assert modes == {home / ".cache": 0o700, folder: 0o700, entry(home / ".cache"): 0o600}
    assert CodeCache(b"").load() == MODULES


@pytest.mark.parametrize("name", ["XDG_CACHE_HOME", "HOME"])
@pytest.mark.parametrize("value", [None, "", ".", "relative", "\x7f/nothing"])
def test_a_folder_that_is_not_absolute(
    caches: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str | None
) -> None:
    """A relative XDG_CACHE_HOME is ignored; without a HOME that is absolute there is no cache."""
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.chdir(caches)
    (caches / "relative").mkdir()
    if value is None:
        monkeypatch.delenv(name, raising=False)
    else:
        monkeypatch.setenv(name, value)
    CodeCache(b"").add(MODULES)
    assert CodeCache(b"").load() == ({} if name == "HOME" else MODULES)
    found = {path.relative_to(caches).parts[0] for path in caches.rglob(f"*{code_cache.ENTRY}")}
    assert found == (set() if name == "HOME" else {"home"})


# -- what others may have written ---------------------------------------------


def _move(path: Path) -> Path:
    return path.rename(path.with_name(f"{path.name} elsewhere"))


def _link(path: Path) -> None:
    path.symlink_to(_move(path))


def _give_away(path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give a file away")
    os.chown(path, 1, -1)


def _make_pipe(path: Path) -> None:
    _move(path)
    os.mkfifo(path)


def _make_folder(path: Path) -> None:
    _move(path)
    path.mkdir()


def _replace_folder(path: Path) -> None:
    _move(path)
    path.touch()


TRUSTED_CHANGES: dict[str, Callable[[Path], object]] = {
    "another group reads the parent": lambda caches: caches.chmod(0o755),
    "only the owner reads": lambda caches: caches.chmod(0o500),
}
FOLDER_CHANGES: dict[str, Callable[[Path], object]] = {
    "others read the folder": lambda caches: (caches / FOLDER).chmod(0o755),
    "the group writes into it": lambda caches: (caches / FOLDER).chmod(0o720),
    "others write into it": lambda caches: (caches / FOLDER).chmod(0o777),
    "it is sticky": lambda caches: (caches / FOLDER).chmod(0o1777),
    "it is a link": lambda caches: _link(caches / FOLDER),
    "it is another user's": lambda caches: _give_away(caches / FOLDER),
    "it is a file": lambda caches: _replace_folder(caches / FOLDER),
    "the group writes into the parent": lambda caches: caches.chmod(0o770),
    "others write into the parent": lambda caches: caches.chmod(0o707),
    "the parent is sticky, as /tmp": lambda caches: caches.chmod(0o1777),
    "the parent is another user's": _give_away,
}
ENTRY_CHANGES: dict[str, Callable[[Path], object]] = {
    "others write": lambda path: path.chmod(0o602),
    "the group writes": lambda path: path.chmod(0o620),
    "another user's": _give_away,
    "a link": _link,
    "a pipe": _make_pipe,
    "a folder": _make_folder,
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "one byte less": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "one byte more": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "text": lambda path: path.write_text("import os\n"),
    "huge": lambda path: os.truncate(path, code_cache.MAX_ENTRY_BYTES + 1),
}


@pytest.mark.parametrize("change", TRUSTED_CHANGES)
def test_a_folder_that_others_cannot_write_into(
    cache: CodeCache, caches: Path, change: str
) -> None:
    """A folder that others can at most see is used."""
    TRUSTED_CHANGES[change](caches)
    assert cache.load() == MODULES


@pytest.mark.parametrize("change", FOLDER_CHANGES)
def test_a_folder_that_may_be_changed_by_others(
    cache: CodeCache, caches: Path, change: str
) -> None:
    """Nothing is read from a folder that is not the user's alone, and nothing is written there."""
    FOLDER_CHANGES[change](caches)
    try:
        before = sorted(caches.rglob("*"))
        assert cache.load() == {}
        cache.add(OTHER)
        assert sorted(caches.rglob("*")) == before
        assert cache.load() == {}
    finally:
        caches.chmod(0o700)


@pytest.mark.parametrize("change", ENTRY_CHANGES)
def test_an_entry_that_is_not_whole(cache: CodeCache, caches: Path, change: str) -> None:
    """An entry that is damaged, or that others can change, is not read, and is written anew."""
    path = entry(caches)
    ENTRY_CHANGES[change](path)
    assert cache.load() == {}
    cache.add(OTHER)
    assert cache.load() == ({} if change == "a folder" else OTHER)


def test_every_byte_counts(cache: CodeCache, caches: Path) -> None:
    """An entry with any byte changed is not read: Python could crash on it."""
    path = entry(caches)
    whole = path.read_bytes()
    for index in [*range(200), *range(200, len(whole), 97)]:
        path.write_bytes(whole[:index] + bytes([whole[index] ^ 1]) + whole[index + 1 :])
        assert cache.load() == {}
    path.write_bytes(whole)
    assert cache.load() == MODULES


@pytest.mark.parametrize("other", ["another build", "another Python", "with -O"])
def test_an_entry_of_another(
    cache: CodeCache, caches: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    """An entry is for one build, one version of Python and its options, also if it is renamed."""
    path, content = entry(caches), b"the single file"
    if other == "another build":
        content += b"."
    elif other == "with -O":
        monkeypatch.setattr(code_cache, "sys", _Python(sys.implementation.cache_tag, 1))
    else:
        monkeypatch.setattr(code_cache, "sys", _Python("cpython-309", 0))
    changed = CodeCache(content)
    assert changed.load() == {}
    path.rename(path.with_name(changed._name))
    assert changed.load() == {}
    assert cache.load() == {}


class _Python:
    """What the cache asks `sys` for."""

    def __init__(self, cache_tag: str | None, optimize: int) -> None:
        self.cache_tag, self.optimize = cache_tag, optimize
        self.implementation = self.flags = self


# -- trouble while it is written ----------------------------------------------


def test_a_full_disk(cache: CodeCache, caches: Path) -> None:
    """If an entry cannot be written whole, the one before stays, and no part of the new one."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))  # Python ignores SIGXFSZ
    try:
        cache.add(OTHER)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert cache.load() == MODULES
    assert entry(caches)


@pytest.mark.skipif(not os.geteuid(), reason="root may write everywhere")
def test_a_read_only_folder(caches: Path) -> None:
    """A folder that cannot be written to is no error."""
    caches.chmod(0o500)
    CodeCache(b"").add(MODULES)
    assert CodeCache(b"").load() == {}
    caches.chmod(0o700)


def test_many_at_once(caches: Path) -> None:
    """Whoever adds at the same time, each reader finds a whole entry, and no part is left over."""

    def add(number: int) -> None:
        for _ in range(20):
            CodeCache(b"").add({f"module{number}": bytes([number]) * 50_000})
            found.append(CodeCache(b"").load())

    found: list[dict[str, bytes]] = []
    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80
    for modules in found:
        assert modules
        assert all(code == bytes([int(name[6:])]) * 50_000 for name, code in modules.items())
    assert entry(caches)


def test_old_entries_are_removed(caches: Path) -> None:
    """Only the newest builds are kept, and what a killed process has left behind is removed."""
    builds = [CodeCache(bytes([number])) for number in range(MAX_ENTRIES + 2)]
    for age, build in enumerate(builds):
        build.add(OTHER)
        for path in (caches / FOLDER).iterdir():
            if path.name == build._name:
                os.utime(path, (age, age))
    (caches / FOLDER / f"old{code_cache.TEMPORARY}").touch()
    os.utime(caches / FOLDER / f"old{code_cache.TEMPORARY}", (0, 0))
    (caches / FOLDER / f"young{code_cache.TEMPORARY}").touch()
    (caches / FOLDER / "a file of the user").touch()
    builds[0].add(MODULES)
    assert [bool(build.load()) for build in builds] == [True, False, False, True, True]
    left = {path.name for path in (caches / FOLDER).iterdir()} - {each._name for each in builds}
    assert left == {f"young{code_cache.TEMPORARY}", "a file of the user"}
