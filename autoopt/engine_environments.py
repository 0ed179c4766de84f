"""Python environments of single engines, for those whose packages do not go together with the others'.

Such an environment is a folder of the user's, made once by ``autoopt engines install NAME``. What an engine builds and serves then runs with
its interpreter, in processes of their own as everything else; this autoopt is lent to it by a link, so that both speak the same records.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import autoopt
from autoopt.errors import EngineError

VARIABLE = "AUTOOPT_ENGINES"
"""Where they are; by default in the user's data folder."""
_MARKER = "autoopt.json"
_TAIL = 2000
# Both sides pickle arrays and networks for each other.
_SHARED = ("numpy", "cloudpickle", "torch", "onnx")
_NEEDED = ("numpy==", "cloudpickle==")


@dataclass(frozen=True)
class EngineEnvironment:
    """One that is complete."""

    engine: str
    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def packages(self) -> Path:
        """Where its packages are."""
        return next(self.folder.glob("lib/python3*/site-packages"))

    def version(self, package: str) -> str | None:
        """The version of a distribution in it; None where it has none."""
        found = importlib.metadata.distributions(name=package, path=[str(self.packages)])
        return next((each.version for each in found), None)

    def environment(self) -> dict[str, str]:
        """This process's variables, with this autoopt and the user's own modules on the path, and nothing of this environment's packages."""
        return os.environ | {"PYTHONPATH": os.pathsep.join([str(self._link()), *own_path()])}

    def _link(self) -> Path:
        """A folder with nothing but this autoopt in it."""
        package = Path(autoopt.__file__).parent
        folder = self.folder / "links" / hashlib.sha256(str(package).encode()).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            (folder / "autoopt").symlink_to(package)
        return folder


def home() -> Path:
    """The folder of all environments."""
    given = os.environ.get(VARIABLE)
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "autoopt" / "engines"


def find(engine: str) -> EngineEnvironment | None:
    """The engine's own environment; None where it has none here."""
    folder = home() / engine
    return EngineEnvironment(engine, folder) if (folder / _MARKER).is_file() else None


def every() -> tuple[EngineEnvironment, ...]:
    """All that there are here."""
    found = (find(marker.parent.name) for marker in sorted(home().glob(f"*/{_MARKER}")))
    return tuple(each for each in found if each is not None)


def requirements(engine: str) -> tuple[str, ...]:
    """What the extra of the engine's name asks for, as pip takes it.

    Raises:
        EngineError: autoopt has no such extra.
    """
    found = _declared(engine)
    if not found:
        extras = sorted(importlib.metadata.metadata("autoopt").get_all("Provides-Extra") or [])
        message = f"there is nothing to install for {engine!r}; autoopt's extras are {', '.join(extras)}"
        raise EngineError(message)
    return found


def _declared(engine: str) -> tuple[str, ...]:
    pattern = re.compile(rf"extra\s*==\s*['\"]{re.escape(engine)}['\"]")
    declared = importlib.metadata.requires("autoopt") or []
    return tuple(line.partition(";")[0].strip() for line in declared if pattern.search(line))


def install(engine: str, say: Callable[[str], None] = print) -> EngineEnvironment:
    """The engine's own environment, made where there is none that fits; one process at a time makes it.

    Args:
        engine: its name, which is that of an extra of autoopt.
        say: told what goes on.

    Raises:
        EngineError: there is no such extra, or its packages cannot be installed.
    """
    asked, pinned = requirements(engine), _pinned()
    wanted = {"requirements": list(asked), "pinned": pinned, "python": sys.version.split()[0]}
    home().mkdir(parents=True, exist_ok=True)
    with _alone(home() / f".{engine}.lock"):
        there = find(engine)
        if there is not None and json.loads((there.folder / _MARKER).read_text()) == wanted:
            say(f"{engine} has its environment already: {there.folder}")
            return there
        with tempfile.TemporaryDirectory(dir=home(), prefix=f".{engine}.") as scratch:
            made = Path(scratch, "new")
            say(f"making an environment for {engine}: {', '.join(asked)}")
            venv.create(made, with_pip=True, symlinks=True)
            _pip(made, engine, [*asked, *(line for line in pinned if line.startswith(_NEEDED))], pinned)
            (made / _MARKER).write_text(json.dumps(wanted, indent=1))
            folder = home() / engine
            if folder.exists():
                folder.rename(Path(scratch, "old"))
            made.rename(folder)
    version.cache_clear()
    say(f"{engine} is installed in {folder}")
    return EngineEnvironment(engine, folder)


def install_missing(engine: str, say: Callable[[str], None] = print) -> None:
    """Give an engine an environment of its own where neither this one nor another has its packages.

    Raises:
        EngineError: its packages cannot be installed.
    """
    names = [re.split(r"[\s<>=!~;\[]", line, maxsplit=1)[0] for line in _declared(engine)]
    if find(engine) is None and any(version(name, engine) is None for name in names):
        install(engine, say)


def remove(engine: str) -> bool:
    """Remove the engine's environment; False where there is none."""
    there = find(engine)
    if there is None:
        return False
    (there.folder / _MARKER).unlink()  # half an environment is none
    shutil.rmtree(there.folder)
    version.cache_clear()
    return True


@cache
def version(package: str, engine: str | None = None) -> str | None:
    """The version of a distribution: in the engine's own environment where it has one, else here, else in any of the others."""
    own = find(engine) if engine else None
    if own is not None and (found := own.version(package)):
        return found
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return next(filter(None, (each.version(package) for each in every())), None)


@cache
def _ours() -> tuple[Path, ...]:
    paths = [*sysconfig.get_paths().values(), sys.prefix, sys.base_prefix, sys.exec_prefix]
    return tuple(Path(path).resolve() for path in paths)


def own_path() -> list[str]:
    """The entries of the import path that are the user's: neither Python's nor of packages that are installed here."""
    entries = (str(Path(entry or ".").absolute()) for entry in sys.path)
    return [entry for entry in entries if not any(Path(entry).resolve().is_relative_to(path) for path in _ours())]


def _pinned() -> list[str]:
    found = ((package, version(package)) for package in _SHARED)
    return [f"{package}=={number.partition('+')[0]}" for package, number in found if number]


def _pip(folder: Path, engine: str, asked: list[str], pinned: list[str]) -> None:
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(pinned) + "\n")
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, "--constraint", str(constraints), *asked],
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    if done.returncode:
        message = f"the packages of {engine} cannot be installed ({', '.join(asked)}): {done.stderr.strip()[-_TAIL:]}"
        raise EngineError(message)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
