"""What runs in the forked process: set up, call the function, write its result.

The result is a JSON file on an anonymous memory descriptor; how the process ended is seen by its parent.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from autoopt.errors import FailureKind, StageError
from autoopt.workers.process import system
from autoopt.workers.process.limits import JSON

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "TBB_NUM_THREADS",
)
"""Read by numerical libraries when they are loaded."""

QUIET = {"ORT_DISABLE_TELEMETRY": "1", "ORT_TELEMETRY_DISABLED": "1"}
"""No telemetry: ONNX Runtime would start a thread that reports home, and a process with two threads cannot be forked."""

# Messages by which native code says that an allocation failed.
_NO_MEMORY = ("can't allocate memory", "bad_alloc", "bad allocation", "failed to allocate memory", "out of memory")


def run(parent: int, request: int, result: int, log: int) -> None:
    """Do the call and end the process; never returns.

    Args:
        parent: the process that forked this one.
        request: descriptor of the request's file, from its beginning.
        result: descriptor of an empty file for the result.
        log: descriptor that stdout and stderr go to.
    """
    code = 1
    try:
        os.setsid()
        system.die_with_parent(parent)
        _redirect(log)
        answer = _answer(_read(request))
        _write(result, answer)
        code = 0
    except BaseException:  # noqa: BLE001 (the process's boundary: what cannot even be answered is in the log)
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):  # the function may have closed them
            sys.stdout.flush()
            sys.stderr.flush()
        # Not sys.exit: that would run exit handlers which the parent registered, and native runtimes' destructors.
        os._exit(code)


def _redirect(log: int) -> None:
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    # Line by line, so that what was printed before a crash is in the log.
    sys.stdout = open(1, "w", buffering=1, errors="replace", closefd=False)  # noqa: SIM115 (for as long as the process lives)
    sys.stderr = open(2, "w", buffering=1, errors="replace", closefd=False)  # noqa: SIM115 (likewise)
    faulthandler.enable()


def _answer(request: dict[str, Any]) -> dict[str, JSON]:
    try:
        _prepare(request)
        return {"value": _function(request["function"])(request["request"])}
    except StageError as error:
        traceback.print_exc()
        return _failure(error.kind, error.message)
    except MemoryError as error:
        traceback.print_exc()
        return _failure(FailureKind.OUT_OF_MEMORY, _one_line(error))
    except BaseException as error:  # noqa: BLE001 (the process's boundary: a failure becomes a value)
        traceback.print_exc()
        exhausted = any(phrase in str(error).lower() for phrase in _NO_MEMORY)
        return _failure(FailureKind.OUT_OF_MEMORY if exhausted else FailureKind.ERROR, _one_line(error))


def _prepare(request: dict[str, Any]) -> None:
    """Take on the caller's environment, folder and import path; then the limits."""
    limits = request["limits"]
    os.environ.clear()
    os.environ.update(request["environment"] | QUIET | dict.fromkeys(THREAD_VARIABLES, str(limits["threads"])))
    tempfile.tempdir = None  # which the parent may have found already
    os.chdir(request["folder"])
    sys.path[:] = [*request["path"], *(entry for entry in sys.path if entry not in request["path"])]
    _check_cores(limits["cores"])
    if limits["background"]:
        system.give_way()
    system.prefer_as_victim()
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(limits["threads"])


def _check_cores(cores: list[int] | None) -> None:
    """The parent has put this process where it shall run; processors that do not exist it could not."""
    if cores is not None and not os.sched_getaffinity(0).issuperset(cores):
        os.sched_setaffinity(0, cores)


def _function(name: str) -> Callable[[JSON], JSON]:
    module, _, attribute = name.partition(":")
    function: Callable[[JSON], JSON] = getattr(importlib.import_module(module), attribute)
    return function


def _failure(kind: FailureKind, message: str) -> dict[str, JSON]:
    return {"failure": {"kind": kind.value, "message": message}}


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:500] if text else type(error).__name__


def _read(descriptor: int) -> dict[str, Any]:
    with os.fdopen(descriptor, "rb") as file:
        file.seek(0)
        request: dict[str, Any] = json.load(file)
        return request


def _write(descriptor: int, answer: dict[str, JSON]) -> None:
    try:
        text = json.dumps(answer)
    except (TypeError, ValueError) as error:
        traceback.print_exc()
        text = json.dumps(_failure(FailureKind.ERROR, f"the function's result is not JSON: {_one_line(error)}"))
    with os.fdopen(descriptor, "wb") as file:
        file.write(text.encode())


if __name__ == "__main__":
    run(os.getppid(), *map(int, sys.argv[1:]))
