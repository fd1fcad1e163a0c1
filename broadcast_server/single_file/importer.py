"""The importer: imports the modules of the single file from memory.

It is imported itself by Python's own importer of zip files, at the start of the single file, which
then calls `install`.
"""

from __future__ import annotations

import _imp
import errno
import marshal
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, cast

from .archive import Archive
from .code_cache import CodeCache, is_supported

if TYPE_CHECKING:
    from importlib.abc import Loader


class ArchiveImporter:
    """The finder and loader of all modules in the single file (see `importlib.abc`).

    It reads the file once. A file that is replaced meanwhile changes nothing, and what is compiled
    is what the key of the cache stands for.

    Args:
        path: The path of the file, as Python has it in `sys.path`.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not the single file any more.

    """

    def __init__(self, path: str) -> None:
        self.archive = path
        with open(path, "rb") as file:
            self.content = file.read()
        self._files = Archive(self.content)
        # Other Pythons than CPython may not be able to load what they have cached.
        supported = sys.implementation.name == "cpython" and is_supported()
        self._cache = CodeCache(self.content) if supported else None
        self._cached = self._cache.load() if self._cache else {}
        self._compiled: dict[str, CodeType] = {}

    def keep_compiled(self) -> None:
        """Cache what was compiled. Call it when everything is imported."""
        if self._compiled and self._cache and not sys.flags.dont_write_bytecode:
            self._cache.add({name: marshal.dumps(code) for name, code in self._compiled.items()})
        self._compiled.clear()
        self._cached.clear()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how to import a module, None if it is not in the file."""
        if self._file(fullname) is None:
            return None
        is_package = self.is_package(fullname)
        path_of_module = self.get_filename(fullname)
        # A base class from `importlib.abc` would take 2 ms to import.
        loader = cast("Loader", self)
        spec = ModuleSpec(fullname, loader, origin=path_of_module, is_package=is_package)
        spec.has_location = True  # so it has a __file__
        if is_package:
            spec.submodule_search_locations = [os.path.dirname(path_of_module)]
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Leave it to Python to make the module object."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Execute a module that Python has made."""
        exec(self.get_code(module.__name__), module.__dict__)  # noqa: S102  # an import does that

    def get_code(self, fullname: str) -> CodeType:
        """Return the code of a module, compiled or from the cache."""
        path = self.get_filename(fullname)
        cached = self._cached.pop(fullname, None)
        if cached is not None:
            code: CodeType = marshal.loads(cached)  # noqa: S302  # see CodeCache
            # As Python does with the code that it has cached, for the file may have been elsewhere.
            _imp._fix_co_filename(code, path)  # type: ignore[attr-defined]
            return code
        code = compile(self.get_data(path), path, "exec", dont_inherit=True)
        if self._cache is not None:
            self._compiled[fullname] = code
        return code

    def get_source(self, fullname: str) -> str:
        """Return the source of a module, for tracebacks."""
        return self.get_data(self.get_filename(fullname)).decode()

    def get_filename(self, fullname: str) -> str:
        """Return the `__file__` of a module. Raises ImportError if it is not in the file."""
        file = self._file(fullname)
        if file is None:
            raise ImportError(f"no module {fullname} in {self.archive}", name=fullname)
        return os.path.join(self.archive, file.replace("/", os.sep))

    def is_package(self, fullname: str) -> bool:
        """Return whether a module is a package."""
        return os.path.basename(self.get_filename(fullname)) == "__init__.py"

    def get_data(self, path: str) -> bytes:
        """Return the content of the file at *path*, which begins with that of the single file.

        Raises OSError if there is none.
        """
        name = path.removeprefix(self.archive + os.sep).replace(os.sep, "/")
        if name not in self._files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return self._files.read(name)

    def _file(self, fullname: str) -> str | None:
        name = fullname.replace(".", "/")
        for file in (f"{name}.py", f"{name}/__init__.py"):
            if file in self._files:
                return file
        return None
