"""Inductor, ahead of time: the network exported, compiled to C++ with its weights frozen in, and packaged as one ``.pt2`` file.

Loading such a package compiles nothing. The number of threads is written into the generated loops, so it belongs to the build.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoopt.records import Deployment, Effective, Signature
from autoopt.workers.engines.base import Engine, Offer, Session, Source
from autoopt.workers.engines.common import float_precisions, precision_by_share, require_offered
from autoopt.workers.engines.cuda import TF32
from autoopt.workers.engines.torch_common import (
    TorchInputs,
    cast_inputs,
    devices_of,
    offer_torch,
    precision_name,
    to_arrays,
    torch_dtype,
)
from autoopt.workers.engines.torch_cuda import CudaInputs, CudaOutputs, allow_tf32, device_ms, with_cuda
from autoopt.workers.parameters import Parameter
from autoopt.workers.refusal import refusing

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

FILE = "model.pt2"
_LOOP_THREADS = re.compile(r"num_threads\((\d+)\)")
_CONSTANT = re.compile(
    r"constants_info_\[(\d+)\]\.dtype = cached_torch_dtype_(\w+);.*?constants_info_\[\1\]\.shape = \{([^}]*)\};",
    re.DOTALL,
)


class Inductor(Engine):
    """PyTorch's compiler, run ahead of time; it has one level of fusion."""

    name = "inductor"
    formats = ("module",)
    packages = ("torch",)
    preload = ("torch", "torch.export")
    trusted_only = True
    options = (
        Parameter(
            "max_autotune",
            False,  # noqa: FBT003 (a value)
            choices=(True, False),
            about="Whether matrix products' kernels are generated, timed and chosen when building.",
        ),
        TF32,
    )
    build_fields = ("precision", "batch", "threads", "hardware", "max_autotune", "tf32")

    def offer(self) -> Offer:
        """FP32 and the shorter floats that the processor, or the GPU, executes, where there is a C++ compiler."""
        offer = replace(_offer_loaded(), slow_build=True)
        compiler = os.environ.get("CXX", "g++")
        if shutil.which(compiler) is None:
            reason = f"Inductor needs a C++ compiler; {compiler} is not on the PATH"
            return replace(offer, reason=reason, remedy="apt install g++ (or set CXX)")
        return offer

    def build(self, source: Source, deployment: Deployment, out: Path) -> None:
        """Export, compile, package. Takes some ten seconds, most of them in the C++ compiler."""
        import torch
        from torch._inductor import aoti_compile_and_package, config

        from autoopt.workers import formats

        require_offered(self.offer(), deployment)
        dtype = torch_dtype(deployment.precision)
        allow_tf32(allowed=bool(self.option(deployment, "tf32")))  # the kernels are generated with it
        module = formats.Positional(formats.load(source), source.signature).to(deployment.hardware, dtype)
        examples = cast_inputs(formats.example_inputs(source.signature, deployment.batch), dtype)
        inputs = tuple(each.to(deployment.hardware) for each in examples)
        settings = {
            "freezing": True,
            "cpp.threads": deployment.threads,
            "compile_threads": 1,  # a pool of compile workers would outlive the build
            "cpp_cache_precompile_headers": False,  # they save a build no time, and leave 300 MB
            "max_autotune": bool(self.option(deployment, "max_autotune")),
            "max_autotune_gemm_backends": "ATEN,TRITON" if deployment.hardware == "cuda" else "ATEN,CPP",
        }
        with refusing("Inductor cannot compile the network"), torch.no_grad(), config.patch(settings), _quiet():
            exported = torch.export.export(module, inputs, strict=False)
            aoti_compile_and_package(exported, package_path=str(out / FILE))

    def load(self, path: Path, deployment: Deployment, signature: Signature) -> InductorSession:
        """Open an artifact: machine code, so only what is trusted. Needs no compiler."""
        import torch

        require_offered(_offer_loaded(), deployment)
        torch.set_num_threads(deployment.threads)
        allow_tf32(allowed=bool(self.option(deployment, "tf32")))  # and so are the libraries' chosen
        return InductorSession(path / FILE, deployment, signature)


class InductorSession(Session):
    """The compiled program, and fixed tensors for its inputs."""

    def __init__(self, package: Path, deployment: Deployment, signature: Signature) -> None:
        import torch
        from torch._inductor import aoti_load_package

        with refusing("Inductor cannot load the package"), _quiet():
            # The loader's own `run` takes a list: half of a call's overhead is the wrapper's way from trees to lists.
            self._run = aoti_load_package(str(package), run_single_threaded=True).loader.run
        self._package = package
        dtype = torch_dtype(deployment.precision)
        self._inputs: CudaInputs | TorchInputs
        if deployment.hardware == "cuda":
            self._inputs, self._fetched = CudaInputs(signature, deployment.batch, dtype), CudaOutputs()
            self._to_arrays = self._fetched.arrays
        else:
            self._inputs, self._to_arrays = TorchInputs(signature, deployment.batch, dtype), to_arrays
        self._inference_mode = torch.inference_mode

    def __call__(self, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """One inference."""
        with self._inference_mode():
            return self._to_arrays(self._outputs(self._inputs.tensors(inputs)))

    def _outputs(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(self._run(list(tensors)))

    def device_ms(self) -> float | None:
        """On a GPU; its copies included."""
        if not isinstance(self._inputs, CudaInputs):
            return None
        with self._inference_mode():
            return device_ms(self._inputs, self._outputs, self._fetched)

    def effective(self) -> Effective:
        """Read from the program that the package holds: the types of its weights, the threads of its loops; and from its outputs."""
        import torch

        with self._inference_mode():
            hardware = devices_of(self._outputs(self._inputs.last()))
        sources = _sources(self._package)
        weights = weight_types(sources)
        precision, words = precision_by_share(weights)
        loops = {int(count) for count in _LOOP_THREADS.findall(sources)}
        threads = torch.get_num_threads()
        return Effective(
            nodes=weights,
            engine_version=str(torch.__version__),
            hardware=hardware,
            precision=precision,
            threads=next(iter(loops - {threads}), threads),
            details={
                "weight matrices": words,
                "threads of loops": ", ".join(map(str, sorted(loops))) or "1",
                "threads of library calls": str(threads),
            },
        )


def _offer_loaded() -> Offer:
    """What can be run here once it is built."""
    return with_cuda(offer_torch(Inductor.name, float_precisions(), ("default",)))


def _sources(package: Path) -> str:
    with zipfile.ZipFile(package) as archive:
        names = [name for name in archive.namelist() if name.endswith(".cpp")]
        return "\n".join(archive.read(name).decode() for name in names)


def weight_types(sources: str) -> dict[str, int]:
    """How many weight matrices a generated C++ program holds, by the precision that they are stored and computed in.

    Without vectors: there is one for nearly every matrix, and those of a layer that was written out as loops are FP32 with it.
    """
    import torch

    matrices = [getattr(torch, name) for _, name, shape in _CONSTANT.findall(sources) if "," in shape]
    return dict(Counter(precision_name(dtype) for dtype in matrices if dtype.is_floating_point))


@contextlib.contextmanager
def _quiet() -> Iterator[Any]:
    """The exporter's and compiler's warnings; whether the result is right is checked on its outputs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
