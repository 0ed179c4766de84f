"""A bundle's artifact, run in a process of its own: a crash or a hang of an engine is an answer, not the caller's end.

`main` is what runs there, with "record" or "examine", the bundle, where to write the answer (JSON), and perhaps "--trust".
"""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autoopt import engine_environments, interpreter
from autoopt.bundle import manifest
from autoopt.bundle.compare import Comparison, compare
from autoopt.bundle.load import Model, open_unchecked
from autoopt.bundle.manifest import EXPECTED
from autoopt.bundle.timing import SimpleTiming, time_calls
from autoopt.errors import AutooptError, BundleError
from autoopt.records import Effective, from_json, to_json

LIMIT_S = 300.0
_TAIL = 1500
_FUNCTION = "autoopt.bundle.fresh:main"


@dataclass(frozen=True)
class Examination:
    """What was found when the bundle was run."""

    comparison: Comparison
    timing: SimpleTiming
    effective: Effective


def record(bundle: Path) -> None:
    """Run the expected inputs through the artifact, and write the expected outputs.

    Raises:
        BundleError: the artifact does not run.
    """
    _in_fresh_process("record", bundle, trust=True, limit_s=LIMIT_S)


def examine(bundle: Path, *, trust: bool, limit_s: float = LIMIT_S) -> Examination:
    """Run the expected inputs, compare the outputs, and time the artifact.

    Raises:
        BundleError: the bundle cannot be opened here, or its process crashed or hung.
    """
    return from_json(Examination, _in_fresh_process("examine", bundle, trust=trust, limit_s=limit_s))


def _in_fresh_process(what: str, bundle: Path, *, trust: bool, limit_s: float) -> Any:
    with tempfile.TemporaryDirectory(prefix="autoopt-") as folder:
        answer = Path(folder) / "answer.json"
        foreign = engine_environments.find(manifest.read(bundle).deployment.engine)
        python = None if foreign is None else str(foreign.python)
        command = interpreter.command(_FUNCTION, what, str(bundle.absolute()), str(answer), python=python)
        try:
            done = subprocess.run(
                [*command, "--trust"] if trust else command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=limit_s,
                check=False,
                env=interpreter.environment() if foreign is None else foreign.environment(),
            )
        except subprocess.TimeoutExpired:
            message = f"the bundle {bundle} did not answer within {limit_s:g} s; its engine hangs here"
            raise BundleError(message) from None
        if not answer.exists():
            message = (
                f"the bundle {bundle} does not run here: its process {_end(done.returncode)}. {done.stderr[-_TAIL:]}"
            )
            raise BundleError(message.rstrip())
        found = json.loads(answer.read_text())
    if "refused" in found:
        raise BundleError(found["refused"])
    return found["found"]


def _end(code: int) -> str:
    return f"died by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def _record(model: Model, bundle: Path) -> dict[str, Any]:
    for index, output in enumerate(model.outputs(expected(bundle, "inputs"))):
        np.save(bundle / EXPECTED / f"outputs_{index}.npy", output)
    return {}


def _examine(model: Model, bundle: Path) -> dict[str, Any]:
    inputs = expected(bundle, "inputs")
    outputs = model.outputs(inputs)
    one_batch = tuple(np.resize(array, (model.deployment.batch, *array.shape[1:])) for array in inputs)
    timing = time_calls(model.bare_call(one_batch))
    found = Examination(
        comparison=compare(expected(bundle, "outputs"), outputs, model.deployment.precision),
        timing=timing,
        effective=model.effective(),
    )
    answer: dict[str, Any] = to_json(found)
    return answer


def expected(bundle: Path, what: str) -> tuple[np.ndarray, ...]:
    """The recorded "inputs" or "outputs", in order, ``(samples, ...)`` each. Never unpickles."""
    folder = bundle / EXPECTED
    count = len(list(folder.glob(f"{what}_*.npy")))
    return tuple(np.load(folder / f"{what}_{index}.npy", allow_pickle=False) for index in range(count))


_FUNCTIONS: dict[str, Callable[[Model, Path], dict[str, Any]]] = {"record": _record, "examine": _examine}


def main(arguments: list[str]) -> None:
    """In the fresh process."""
    what, bundle, answer, *trusted = arguments
    try:
        with open_unchecked(Path(bundle), trust=trusted == ["--trust"]) as model:
            found: dict[str, Any] = {"found": _FUNCTIONS[what](model, Path(bundle))}
    except AutooptError as error:
        found = {"refused": str(error)}
    Path(answer).write_text(json.dumps(found))
