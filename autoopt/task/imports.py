"""Makes the user's own code importable, under the same names in every process.

A network's classes are pickled by reference. Those in a task's file belong to a module whose name is made from the file's path;
it is imported when something asks for it, and only then (a task's file may read a data set). Modules beside it are found
because the folder comes first on ``sys.path``.
"""

from __future__ import annotations

import hashlib
import importlib.abc
import importlib.util
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

PREFIX = "autoopt_task_"


@dataclass(frozen=True)
class Imports:
    """What another process needs in order to import the same code."""

    folders: tuple[str, ...] = ()
    """To stand first on ``sys.path``."""
    modules: Mapping[str, str] = field(default_factory=dict)
    """Stable module name to the file of a task."""

    def enable(self) -> None:
        """Make the code importable in this process. Runs none of it."""
        for folder in reversed(self.folders):
            _put_first(folder)
        _finder.files.update(self.modules)
        if _finder not in sys.meta_path:
            sys.meta_path.append(_finder)


class _TaskFinder(importlib.abc.MetaPathFinder):
    """Finds the modules that stand for task files."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        file = self.files.get(fullname)
        return importlib.util.spec_from_file_location(fullname, file) if file else None


_finder = _TaskFinder()


def of_file(path: Path) -> tuple[str, Imports]:
    """The stable module name of a task's file, and how to import it and what lies beside it."""
    name = PREFIX + hashlib.sha256(str(path).encode()).hexdigest()[:16]
    return name, Imports((str(path.parent),), {name: str(path)})


def of_process() -> Imports:
    """What this process can import beyond the installed packages: for a task that was made in memory."""
    mine = (str(Path(folder or ".").resolve()) for folder in sys.path)
    return Imports(tuple(folder for folder in dict.fromkeys(mine) if not is_installed(folder)), dict(_finder.files))


def is_installed(path: str) -> bool:
    """Whether a file or folder belongs to Python or to an installed package, not to the user's own code."""
    parts = Path(path).parts
    libraries = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return (
        "site-packages" in parts
        or "dist-packages" in parts
        or path.endswith(".zip")
        or any(path.startswith(library) for library in libraries if library)
    )


def forget_namesakes(folder: Path) -> None:
    """Drop modules that another task's folder has brought and that bear the name of a module of this folder.

    Two tasks may each have a ``model.py``; without this the second would be given the first's.
    """
    others = {str(Path(file).parent) for file in _finder.files.values()} - {str(folder)}
    for name, module in list(sys.modules.items()):
        # Some libraries put objects without a __dict__ there.
        file = getattr(module, "__dict__", {}).get("__file__")
        shadowed = (folder / f"{name}.py").exists() or (folder / name / "__init__.py").exists()
        if file and shadowed and any(Path(file).is_relative_to(other) for other in others):
            del sys.modules[name]


def _put_first(folder: str) -> None:
    if folder in sys.path:
        sys.path.remove(folder)
    sys.path.insert(0, folder)
