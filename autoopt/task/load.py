"""From ``"path/file.py:name"`` to a task, and back to something that another process can read.

A task made in memory (a notebook, a script) has no file; `save_task` pickles it, data and all, for the process that runs the job.
"""

from __future__ import annotations

import importlib
import pickle
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from autoopt.errors import TaskError
from autoopt.task import imports
from autoopt.task.imports import Imports
from autoopt.task.task import Task

DEFAULT_ATTRIBUTE = "task"
_USAGE = 'a task is given as a Task object or as "path/file.py:name"'


@dataclass(frozen=True)
class TaskRef:
    """How another process gets the same task. Turns into JSON and back."""

    path: str
    """A Python file, or a pickled task."""
    attribute: str | None
    """The Task's name in the file; None for a pickled task."""
    imports: Imports = field(default_factory=Imports)


@dataclass(frozen=True)
class LoadedTask:
    """A task, and where it came from."""

    task: Task
    ref: TaskRef | None
    """None for a task made in memory: `save_task` gives it one."""
    imports: Imports

    @property
    def folder(self) -> Path:
        """Where the task's relative paths begin: its file's folder, else the working directory."""
        return Path(self.ref.path).parent if self.ref and self.ref.attribute else Path.cwd()


def load_task(given: str | Path | Task | TaskRef) -> LoadedTask:
    """The task that was named or given.

    Args:
        given: a Task, ``"path/file.py:name"`` (``:task`` where no name is given), or a TaskRef.

    Raises:
        TaskError: no such file, it does not import, or the name is no Task.
    """
    if isinstance(given, Task):
        return LoadedTask(given, None, imports.of_process())
    if isinstance(given, TaskRef):
        return _from_file(Path(given.path), given.attribute) if given.attribute else _from_pickle(given)
    text = _text(given)
    if text.endswith(".py") or ":" not in text:
        return _from_file(Path(text), DEFAULT_ATTRIBUTE)
    file, _, attribute = text.rpartition(":")  # the last one: folders may have colons in their names
    return _from_file(Path(file), attribute or DEFAULT_ATTRIBUTE)


def _text(given: object) -> str:
    if not isinstance(given, str | Path):
        message = f"got a {type(given).__name__}; {_USAGE}"
        raise TaskError(message)
    return str(given)


def save_task(loaded: LoadedTask, path: Path) -> TaskRef:
    """Pickle a task with its data into a file, for another process on a machine that sees the file.

    Raises:
        TaskError: something in it cannot be pickled.
    """
    import cloudpickle

    try:
        with path.open("wb") as file:
            cloudpickle.dump(loaded.task, file)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        message = (
            f"the task cannot be handed to another process: {error}. Put it into a file and name it ('file.py:task'), "
            "or give plain arrays, modules and functions."
        )
        raise TaskError(message) from error
    return TaskRef(str(path), None, loaded.imports)


def _from_pickle(ref: TaskRef) -> LoadedTask:
    ref.imports.enable()
    try:
        task = pickle.loads(Path(ref.path).read_bytes())
    except (OSError, pickle.UnpicklingError, EOFError, ImportError, AttributeError) as error:
        message = f"the pickled task {ref.path} cannot be read: {error}. Submit the job again."
        raise TaskError(message) from error
    return LoadedTask(_checked(task, ref.path), ref, ref.imports)


def _from_file(file: Path, attribute: str) -> LoadedTask:
    path = file.expanduser().resolve()
    if not path.is_file() or path.suffix != ".py":
        message = f"{file} is not a Python file; {_USAGE}, for example examples/digits/task.py:task"
        raise TaskError(message)
    name, needed = imports.of_file(path)
    needed.enable()
    imports.forget_namesakes(path.parent)
    module = _import(name, path)
    if attribute not in vars(module):
        message = f"{file} has no {attribute!r}; it has {_tasks_in(module)}. Name one: '{file}:name'."
        raise TaskError(message)
    task = _checked(vars(module)[attribute], f"{file}:{attribute}", _tasks_in(module))
    return LoadedTask(task, TaskRef(str(path), attribute, needed), needed)


def _import(name: str, path: Path) -> ModuleType:
    sys.modules.pop(name, None)  # the file may have changed since
    try:
        return importlib.import_module(name)
    except TaskError:
        raise
    except Exception as error:  # the user's own code: whatever it raises is told in one line, with its place
        message = (
            f"{path} does not import: {_place(error, path)}{type(error).__name__}: {error}. Mend it and try again."
        )
        raise TaskError(message) from error


def _place(error: Exception, path: Path) -> str:
    """The innermost line of the user's own folder: "line 12 (`x = 1 / 0`): "."""
    if isinstance(error, SyntaxError):
        return f"{Path(error.filename or path).name}, line {error.lineno}: "
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(path.parent) and not imports.is_installed(frame.filename)
    ]
    return f"{Path(frames[-1].filename).name}, line {frames[-1].lineno} ({frames[-1].line}): " if frames else ""


def _tasks_in(module: ModuleType) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, Task)]
    return f"these Task objects: {', '.join(names)}" if names else "no Task object (write `task = autoopt.Task(...)`)"


def _checked(value: object, where: str, others: str = "") -> Task:
    if not isinstance(value, Task):
        message = f"{where} is a {type(value).__name__}, not a Task; {others or _USAGE}"
        raise TaskError(message)
    return value
