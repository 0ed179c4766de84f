"""Writes the user's code: the network and the functions of a task, for every process that works on it.

A pickle names classes and functions by module. Those of the task's own file would have it run again by every process that opens
the network, and such a file reads its data: seven seconds and 700 MB in each of hundreds of stages of a CIFAR-10 job. Taken along by
value they need no file, neither there nor where a bundle is opened. But what a file does besides defining them (it registers an
operator, say) would be missing, so they are taken along only where a process without the file finds the same network and functions.
"""

from __future__ import annotations

import json
import mmap
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autoopt import interpreter
from autoopt.errors import TaskError
from autoopt.records import Signature, from_json, to_json
from autoopt.task.identity import code_digest
from autoopt.task.imports import PREFIX, Imports
from autoopt.task.network import MODULE_FILE, ModuleOriginal
from autoopt.task.prepared import FUNCTIONS, NETWORK

if TYPE_CHECKING:
    from autoopt.task.draft import Draft

MOST_BYTES = 16_000_000
"""By so much a file may grow: code is small, but a function may refer to an array of the task's file."""
LIMIT_S = 120.0
_RELATIVE, _ABSOLUTE = 1e-3, 1e-5
_FILES = (f"{NETWORK}/{MODULE_FILE}", FUNCTIONS)
_REQUEST, _INPUTS, _FOUND, _OUTPUTS = "request.json", "inputs.npz", "found.json", "outputs.npy"


def write_code(draft: Draft, folder: Path) -> None:
    """The network and the functions, each by reference as far as another process can import it.

    Raises:
        TaskError: one of them cannot be pickled.
    """
    draft.network.save(folder / NETWORK)
    if not draft.functions:
        return
    import cloudpickle

    try:
        (folder / FUNCTIONS).write_bytes(cloudpickle.dumps(dict(draft.functions)))
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        message = (
            f"{', '.join(draft.functions)}: cannot be handed to another process: {error}. Write them as plain functions "
            "of a file, without open files or locks in what they refer to."
        )
        raise TaskError(message) from error


@contextmanager
def carried(draft: Draft, folder: Path, inputs: tuple[np.ndarray, ...]) -> Iterator[None]:
    """At the end of the context, the code in ``folder`` names nothing of the task's file, where that can be done.

    Another process looks meanwhile whether what was taken along is the same: digests of structure, weights and code, and outputs.

    Args:
        draft: the task.
        folder: in which `write_code` has written.
        inputs: (n, ...) each, for which the network answers ``draft.example_outputs``.
    """
    scratch = folder / "carried"
    process = _look(scratch) if _taken_along(draft, folder, scratch, inputs) else None
    try:
        yield
        if process is not None and _ends(process) and _is_the_same(draft, scratch):
            for name in filter(lambda name: (scratch / name).exists(), _FILES):
                (scratch / name).replace(folder / name)
    finally:
        if process is not None:
            process.kill()
            process.wait()
        shutil.rmtree(scratch, ignore_errors=True)


def _taken_along(draft: Draft, folder: Path, scratch: Path, inputs: tuple[np.ndarray, ...]) -> bool:
    """Write the code anew, with all that it names of the task's file; False where it names nothing, or that cannot be done."""
    if not any(_names_a_task(folder / name) for name in _FILES):
        return False
    scratch.mkdir()
    try:
        with _by_value():
            write_code(draft, scratch)
    except TaskError:
        return False
    np.savez(scratch / _INPUTS, *inputs)
    # Modules beside the task's file may still be named.
    request = {"signature": draft.signature, "imports": replace(draft.loaded.imports, modules={})}
    (scratch / _REQUEST).write_text(json.dumps(to_json(request)))
    return all(_size(scratch / name) <= _size(folder / name) + MOST_BYTES for name in _FILES)


def _look(scratch: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        interpreter.command("autoopt.task.carried:main", str(scratch)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=interpreter.environment(),
    )


def _ends(process: subprocess.Popen[bytes]) -> bool:
    """Whether the other process comes to an end."""
    with suppress(subprocess.TimeoutExpired):
        return process.wait(LIMIT_S) == 0
    return False


def _is_the_same(draft: Draft, scratch: Path) -> bool:
    if json.loads((scratch / _FOUND).read_text()) != _identities(draft.network, draft.functions):
        return False
    if draft.network.format != ModuleOriginal.format:
        return True
    outputs = np.load(scratch / _OUTPUTS)
    return np.allclose(outputs, draft.example_outputs, _RELATIVE, _ABSOLUTE, equal_nan=True)


@contextmanager
def _by_value() -> Iterator[None]:
    """Within the context, nothing of a task's file is pickled by reference."""
    import cloudpickle

    modules = [module for name, module in list(sys.modules.items()) if name.startswith(PREFIX)]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def _names_a_task(file: Path) -> bool:
    """Whether a pickle speaks of a task's file; a network's may be larger than what one wants in memory."""
    if not _size(file):
        return False
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(PREFIX.encode()) >= 0


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _identities(network: Any, functions: Mapping[str, Any]) -> dict[str, str]:
    found = {name: code_digest(value) for name, value in functions.items()}
    return found | ({"network": network.identity()} if isinstance(network, ModuleOriginal) else {})


def main(arguments: list[str]) -> None:
    """In the other process: what is it that was taken along, and what does it answer?"""
    folder = Path(arguments[0])
    request = json.loads((folder / _REQUEST).read_text())
    from_json(Imports, request["imports"]).enable()
    functions = pickle.loads((folder / FUNCTIONS).read_bytes()) if _size(folder / FUNCTIONS) else {}
    network = None
    if _size(folder / NETWORK / MODULE_FILE):
        network = ModuleOriginal.open(folder / NETWORK)
        with np.load(folder / _INPUTS) as inputs:
            answer = network.run(
                tuple(inputs[name] for name in inputs.files), from_json(Signature, request["signature"])
            )
        np.save(folder / _OUTPUTS, answer)
    (folder / _FOUND).write_text(json.dumps(_identities(network, functions)))
