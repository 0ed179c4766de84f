"""Who a function or class is, by what it does: its bytecode and that of everything of the user's that it calls.

Comments, names of files and line numbers do not count, so tidying a task's file keeps the cache; a changed helper does count.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from autoopt.task import imports

_PLAIN = (str, bytes, int, float, complex, bool, type(None))


def code_digest(thing: Any) -> str:
    """SHA-256 of what a function, class or callable object does; equal in every process that runs the same Python."""
    return hashlib.sha256("\n".join(_describe(thing, set())).encode()).hexdigest()


def _describe(thing: Any, seen: set[int]) -> Iterator[str]:
    if isinstance(thing, _PLAIN):
        yield repr(thing)
    elif isinstance(thing, tuple | list):
        for item in thing:
            yield from _describe(item, seen)
    elif isinstance(thing, dict):
        for key, value in thing.items():
            yield repr(key)
            yield from _describe(value, seen)
    elif id(thing) not in seen:
        seen.add(id(thing))
        yield from _describe_code(thing, seen)


def _describe_code(thing: Any, seen: set[int]) -> Iterator[str]:
    if isinstance(thing, functools.partial):
        yield from _describe((thing.func, thing.args, thing.keywords), seen)
    elif isinstance(thing, FunctionType):
        yield from _function(thing, seen)
    elif isinstance(thing, ModuleType):
        # What is taken out of a user's module is not known from here: the whole file counts.
        file = vars(thing).get("__file__")
        yield Path(file).read_text() if file and _is_users(thing.__name__) else thing.__name__
    elif isinstance(thing, type):
        yield from _class(thing, seen)
    elif inspect.ismethod(thing):
        yield from _describe((thing.__func__, thing.__self__), seen)
    else:
        yield from _class(type(thing), seen)
        yield from _describe({k: v for k, v in _attributes(thing).items() if isinstance(v, _PLAIN)}, seen)


def _attributes(thing: Any) -> dict[str, Any]:
    found: dict[str, Any] = getattr(thing, "__dict__", {})
    return found


def _function(function: FunctionType, seen: set[int]) -> Iterator[str]:
    yield function.__qualname__
    if not _is_users(function.__module__):
        return
    yield from _code(function.__code__)
    yield from _describe((function.__defaults__, function.__kwdefaults__), seen)
    for cell in function.__closure__ or ():
        yield from _describe(_content(cell), seen)
    for name in _names(function.__code__):
        if name in function.__globals__:
            yield name
            yield from _describe(function.__globals__[name], seen)


def _class(kind: type, seen: set[int]) -> Iterator[str]:
    yield kind.__qualname__
    if not _is_users(kind.__module__):
        return
    yield from _describe(kind.__bases__, seen)
    for name, value in sorted(vars(kind).items()):
        value = value.__func__ if isinstance(value, staticmethod | classmethod) else value  # noqa: PLW2901 (unwrapped)
        value = value.fget if isinstance(value, property) else value  # noqa: PLW2901 (unwrapped)
        if isinstance(value, (FunctionType, *_PLAIN)) and name not in {"__module__", "__doc__", "__firstlineno__"}:
            yield name
            yield from _describe(value, seen)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet filled: a function that refers to itself
        return None


def _code(code: CodeType) -> Iterator[str]:
    yield code.co_code.hex()
    yield repr(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code(constant)
        elif isinstance(constant, frozenset):
            yield repr(sorted(map(repr, constant)))  # a set's own order differs from process to process
        else:
            yield repr(constant)


def _names(code: CodeType) -> list[str]:
    nested = [name for constant in code.co_consts if isinstance(constant, CodeType) for name in _names(constant)]
    return list(dict.fromkeys([*code.co_names, *nested]))


def _is_users(module: str | None) -> bool:
    """Whether code is the user's own. Libraries count by name only; their versions are part of every stage's key."""
    if module is None or module.split(".")[0] == "autoopt":
        return False
    file = getattr(sys.modules.get(module), "__file__", None)
    # Without a file: a notebook or a class that was pickled by value (the user's), unless it is built in.
    if file is None:
        return module not in sys.builtin_module_names
    return not (imports.is_installed(file) or _is_recorded(Path(file), module))


def _is_recorded(file: Path, module: str) -> bool:
    """Whether a package installed elsewhere (``pip install --target``) says that the file is its own.

    Only its own record counts: code of the user's may lie beside it, and taken for a library's its changes would go unnoticed.
    """
    depth = module.count(".") + (file.stem == "__init__")
    place = file.parents[min(depth, len(file.parents) - 1)]
    return file.relative_to(place).as_posix() in _recorded(place)


@functools.cache
def _recorded(folder: Path) -> frozenset[str]:
    """The files of the packages that were installed into a folder, relative to it."""
    records = [path.read_text().splitlines() for path in folder.glob("*.dist-info/RECORD")]
    return frozenset(line.split(",", 1)[0] for lines in records for line in lines)
