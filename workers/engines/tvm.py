"""TVM: a network compiled for this processor, every kernel of it tuned by MetaSchedule under a time limit.

The artifact is machine code with the weights in it; the tuning records lie beside it.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autoopt.records import Deployment, Effective, Signature, from_json, to_json
from autoopt.records.environment import cpu_flags
from autoopt.workers.engines.base import Engine, Offer, Session, Source
from autoopt.workers.engines.common import InputBuffers, precision_by_share, require_offered
from autoopt.workers.engines.tvm_lowering import computed_types, scheduled, to_tasks
from autoopt.workers.engines.tvm_runtime import aligned, open_function, pool_size, runtime, start_threads
from autoopt.workers.engines.tvm_tuning import Tuning, tune
from autoopt.workers.parameters import Parameter
from autoopt.workers.refusal import refusing, unsupported

if TYPE_CHECKING:
    from tvm.ir import IRModule
    from tvm.target import Target

LIBRARY, FACTS, RECORDS = "model.so", "build.json", "records"
TUNING_S = 120.0
"""Of processor time, which is how long a network is tuned for."""
LEAST_SHARE = 0.9
"""A network of whose arithmetic less than this was tuned is refused: untuned, TVM is slower than anything else, up to a hundredfold."""
_VECTORS = ("avx", "fma", "f16c", "asimd", "sve")


@dataclass(frozen=True)
class Built:
    """What was compiled, as the artifact tells it."""

    target: str
    instructions: tuple[str, ...]
    """The vector instruction sets of the processor that it was compiled for."""
    threads: int
    kernels: Mapping[str, int]
    """The kernels that multiply and add, by the precision that they do it in; from the program that was compiled."""
    unscheduled: int
    """Kernels that were compiled as they stand, without a tuned schedule."""
    tuning: Tuning


class Tvm(Engine):
    """Apache TVM on the CPU; it has one level of fusion."""

    name = "tvm"
    formats = ("module", "onnx")
    packages = ("apache-tvm", "apache-tvm-ffi")
    preload = ()
    trusted_only = True
    options = (
        Parameter(
            "tuning_s", TUNING_S, low=1.0, high=100_000.0, about="Seconds of processor time to tune a network for."
        ),
    )
    build_fields = ("precision", "batch", "threads", "hardware", "tuning_s")

    def offer(self) -> Offer:
        """FP32, where there is a compiler to link with."""
        offer = _offer_loaded()
        if offer.reason is None and shutil.which(_compiler()) is None:
            reason = f"TVM links its kernels with a C++ compiler; {_compiler()} is not on the PATH"
            return replace(offer, reason=reason, remedy="apt install g++ (or set CXX)")
        return offer

    def build(self, source: Source, deployment: Deployment, out: Path) -> None:
        """Import, tune for `tuning_s`, compile."""
        require_offered(self.offer(), deployment)
        from autoopt.workers.engines.tvm_import import import_network

        target = _target(deployment.threads)
        with refusing("TVM cannot compile the network"):
            tasks = to_tasks(import_network(source, deployment.batch), target)
            with tempfile.TemporaryDirectory(prefix="autoopt-tvm-") as folder:
                database, tuning = tune(tasks, target, deployment.threads, tuning_s(deployment), Path(folder))
                _require_tuned(tuning)
                program = scheduled(tasks, database, target)
                _keep(Path(folder), out / RECORDS)
                _compile(program, target, out / LIBRARY)
        (out / FACTS).write_text(json.dumps(to_json(_facts(program, target, deployment, tuning)), indent=1))

    def load(self, path: Path, deployment: Deployment, signature: Signature) -> TvmSession:
        """Open an artifact: machine code, so only what is trusted. Needs neither a compiler nor PyTorch."""
        require_offered(_offer_loaded(), deployment)
        built = from_json(Built, json.loads((path / FACTS).read_text()))
        missing = sorted(set(built.instructions) - cpu_flags())
        if missing:
            message = f"the artifact was compiled for a processor ({built.target}) with {', '.join(missing)}; this one has none"
            raise unsupported(message)
        start_threads(built.threads)
        with refusing("TVM cannot load the library"):
            return TvmSession(open_function(path / LIBRARY), built, deployment, signature)


class TvmSession(Session):
    """The compiled function, and fixed tensors for its inputs."""

    def __init__(self, function: Any, built: Built, deployment: Deployment, signature: Signature) -> None:
        ffi = runtime()
        buffers = [aligned((deployment.batch, *spec.shape), spec.dtype) for spec in signature.tensors]
        self._inputs = InputBuffers([spec.name for spec in signature.tensors], buffers)
        self._tensors = tuple(ffi.from_dlpack(buffer) for buffer in buffers)
        self._tensor_type = ffi.Tensor
        self._function = function
        self._built = built

    def __call__(self, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """One inference."""
        self._inputs.fill(inputs)
        outputs = self._function(*self._tensors)
        if isinstance(outputs, self._tensor_type):
            return (np.from_dlpack(outputs),)
        return tuple([np.from_dlpack(output) for output in outputs])

    def effective(self) -> Effective:
        """Read from what was compiled, and from the runtime's pool of threads."""
        built = self._built
        precision, words = precision_by_share(dict(built.kernels))
        return Effective(
            nodes=dict(built.kernels),
            engine_version=metadata.version("apache-tvm"),
            hardware="cpu",
            precision=precision,
            # Kernels for one thread have no parallel loops.
            threads=pool_size() if built.threads > 1 else 1,
            details={
                "compute kernels": words,
                "tuning": _words(built.tuning),
                "threads while tuning": str(built.tuning.threads),
                "kernels without a tuned schedule": str(built.unscheduled),
                "target": built.target,
            },
        )


def tuning_s(deployment: Deployment) -> float:
    """How long to tune, in seconds of processor time."""
    return float(Tvm.option(deployment, "tuning_s")) if "tuning_s" in deployment.options else TUNING_S


def _offer_loaded() -> Offer:
    """What can be run here once it is built."""
    try:
        runtime()
        version = metadata.version("apache-tvm")
    except (ImportError, OSError) as error:
        return Offer(Tvm.name, reason=str(error), remedy="pip install 'autoopt[tvm]'")
    return Offer(Tvm.name, version=version, precisions={"cpu": ("fp32",)}, slow_build=True)


def _compiler() -> str:
    """The C++ compiler to link with: what CXX says, or the first of the usual ones that there is."""
    usual = ("g++", "clang++", "c++")
    return os.environ.get("CXX") or next(filter(shutil.which, usual), usual[0])


def _target(threads: int) -> Target:
    from tvm.target import Target, codegen

    return Target({"kind": "llvm", "mcpu": codegen.llvm_get_system_cpu(), "num-cores": threads})


def _require_tuned(tuning: Tuning) -> None:
    if tuning.share < LEAST_SHARE:
        message = (
            f"TVM was tuned too little to be worth timing: {_words(tuning)}, which do {tuning.share:.0%} of the network's "
            f"arithmetic; {LEAST_SHARE:.0%} are wanted"
        )
        raise unsupported(message)


def _words(tuning: Tuning) -> str:
    return f"{tuning.tuned} of {tuning.tasks} tasks, {tuning.trials} trials, {tuning.seconds:.0f} s"


def _compile(program: IRModule, target: Target, library: Path) -> None:
    """Compile and link. The program itself becomes machine code as well ("compiled"), which saves 1 of 16 µs of a small network."""
    import tvm
    from tvm import relax

    with tvm.transform.PassContext(opt_level=3), tempfile.TemporaryDirectory(prefix="autoopt-tvm-") as folder:
        compiled = relax.build(program, target, exec_mode="compiled")
        compiled.export_library(str(library), workspace_dir=folder, cc=_compiler())


def _facts(program: IRModule, target: Target, deployment: Deployment, tuning: Tuning) -> Built:
    from tvm.tirx import PrimFunc

    functions = [function for function in program.functions.values() if isinstance(function, PrimFunc)]
    return Built(
        target=str(target.attrs["mcpu"]),
        instructions=tuple(sorted(flag for flag in cpu_flags() if flag.startswith(_VECTORS))),
        threads=deployment.threads,
        kernels=computed_types(program),
        unscheduled=sum("tirx.is_scheduled" not in (function.attrs or {}) for function in functions),
        tuning=tuning,
    )


def _keep(records: Path, folder: Path) -> None:
    """Keep MetaSchedule's JSON, a tenth as large."""
    folder.mkdir()
    for file in records.iterdir():
        with gzip.open(folder / f"{file.name}.gz", "wb") as packed:
            packed.write(file.read_bytes())
