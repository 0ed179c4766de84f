"""ONNX Runtime's providers for NVIDIA GPUs, and a session whose inputs and outputs lie there.

CUDA and TensorRT come with the distribution ``onnxruntime-gpu``; TensorRT for RTX is a plugin of NVIDIA's that is registered when it is wanted.
A provider takes the nodes that it can, and leaves the others to the processor without a word: what ran where is read from a profile.
(onnxruntime.ai: "Execution Providers", "I/O Binding", "Plugin Execution Provider Libraries".)
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from autoopt.records import nvidia
from autoopt.workers.engines import cuda
from autoopt.workers.engines.common import InputBuffers
from autoopt.workers.engines.cuda_driver import Buffers, driver
from autoopt.workers.parameters import Parameter
from autoopt.workers.refusal import refusing, unsupported

if TYPE_CHECKING:
    import onnxruntime

    from autoopt.records import Deployment, Signature
    from autoopt.workers.engines.base import Offer
    from autoopt.workers.engines.onnxruntime_open import Opener
    from autoopt.workers.parameters import Value

PROVIDER = Parameter(
    "provider",
    "default",
    choices=("default", "tensorrt", "tensorrt_rtx"),
    about="Who runs the nodes: CUDA (or TensorRT for RTX where that is the only one), TensorRT, or TensorRT for RTX.",
    devices=("cuda",),
)
CUDA, TENSORRT, RTX = "CUDAExecutionProvider", "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider"
DEVICE = "cuda"
_PLUGIN = "onnxruntime_ep_nv_tensorrt_rtx"
_RTX_SINCE = (8, 0)
_REMEDIES = MappingProxyType(
    {
        CUDA: "pip install 'onnxruntime-gpu[cuda,cudnn]', in the place of onnxruntime, for the CUDA of the driver",
        TENSORRT: "pip install 'onnxruntime-gpu[cuda,cudnn]' and the TensorRT that it was built with (its release notes name it)",
        RTX: "pip install onnxruntime-ep-nv-tensorrt-rtx, with a GPU of compute capability 8.0 or later",
    }
)


def with_cuda(offer: Offer) -> Offer:
    """ONNX Runtime's offer, on the GPU too where one of its providers can use it; why not, where none can."""
    import onnxruntime

    gpu, version = nvidia.gpu(), f"ONNX Runtime {offer.version}"
    lacking = cuda.unfit(version, str(onnxruntime.cuda_version or "0"))
    if lacking is None and CUDA not in onnxruntime.get_available_providers() and not _has_plugin():
        lacking = cuda.Lacking(f"{version} was built without CUDA", _REMEDIES[CUDA])
    if lacking is not None or gpu is None:
        return replace(offer, lacking={"cuda": str(lacking or cuda.NO_GPU)})
    floats = tuple(name for name in cuda.precisions(gpu) if name != "bf16")  # most of its CUDA kernels have no BF16
    return replace(offer, precisions={**offer.precisions, "cuda": floats})


@dataclass(frozen=True)
class Provider:
    """One provider with its settings."""

    name: str
    options: Mapping[str, str]
    """Of it, and of CUDA where that takes what TensorRT leaves."""
    tf32: bool = False

    @classmethod
    def of(cls, options: Mapping[str, Value]) -> Provider:
        """The one that a deployment's options ask for.

        Raises:
            StageError: UNSUPPORTED for a provider that is not installed.
        """
        import onnxruntime

        there = onnxruntime.get_available_providers()
        asked, tf32 = str(options["provider"]), bool(options["tf32"])
        if asked == "tensorrt_rtx" or (asked == "default" and CUDA not in there):
            return cls._rtx()
        name = TENSORRT if asked == "tensorrt" else CUDA
        if name not in there:
            message = f"this ONNX Runtime has no {name}; to mend it: {_REMEDIES[name]}"
            raise unsupported(message)
        if name == TENSORRT and not tf32:
            os.environ["NVIDIA_TF32_OVERRIDE"] = (
                "0"  # the provider has no option for it, and TensorRT allows TF32 by itself
            )
        return cls(name, {"device_id": "0", "user_compute_stream": str(driver().stream)}, tf32)

    @classmethod
    def _rtx(cls) -> Provider:
        if not _has_plugin():
            message = f"the plugin of TensorRT for RTX is not installed; to mend it: {_REMEDIES[RTX]}"
            raise unsupported(message)
        return cls(RTX, {})

    @property
    def cannot(self) -> str:
        """What is said where a session with it fails."""
        return (
            f"ONNX Runtime cannot load the network with {self.name} (if libraries are missing: {_REMEDIES[self.name]})"
        )

    def added_to(self, options: onnxruntime.SessionOptions) -> list[Any] | None:
        """The session's providers; None where they have been put into its options."""
        import onnxruntime

        if self.name == RTX:
            with refusing("ONNX Runtime cannot start TensorRT for RTX"):
                _register_plugin()
                devices = [each for each in onnxruntime.get_ep_devices() if each.ep_name == RTX]
                if not devices:
                    message = f"it finds no GPU that it takes; to mend it: {_REMEDIES[RTX]}"
                    raise RuntimeError(message)
                options.add_provider_for_devices(devices[:1], dict(self.options))
            return None
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find, which the system may have
            onnxruntime.preload_dlls()
        plain = (CUDA, {**self.options, "use_tf32": str(int(self.tf32))})
        return [plain] if self.name == CUDA else [(self.name, dict(self.options)), plain]

    def require_started(self, session: onnxruntime.InferenceSession) -> None:
        """ONNX Runtime leaves out a provider that it cannot load, and goes on with the processor.

        Raises:
            StageError: UNSUPPORTED where the provider is not among the session's.
        """
        if self.name not in session.get_providers():
            message = f"ONNX Runtime could not start {self.name}: its libraries are missing or do not fit; to mend it: {_REMEDIES[self.name]}"
            raise unsupported(message)


class Bound:
    """A session's inputs and outputs in pinned memory and on the GPU; everything goes through one stream, and is waited for once."""

    def __init__(self, opener: Opener, deployment: Deployment, signature: Signature) -> None:
        import onnxruntime

        self.session = opener.session()
        names = [spec.name for spec in signature.tensors]
        shapes = [(deployment.batch, *spec.shape) for spec in signature.tensors]
        types = [np.dtype(spec.dtype) for spec in signature.tensors]
        self._driver = driver()
        self._sent = Buffers(self._driver, list(zip(shapes, types, strict=True)))
        self._fetched = Buffers(self._driver, [_form(value) for value in self.session.get_outputs()])
        self.inputs = InputBuffers(names, self._sent.arrays)
        self.feed = dict(zip(names, self._sent.arrays, strict=True))
        self._binding = self.session.io_binding()
        results = [value.name for value in self.session.get_outputs()]
        for bind, tensors, buffers in (
            (self._binding.bind_input, names, self._sent),
            (self._binding.bind_output, results, self._fetched),
        ):
            for name, array, pointer in zip(tensors, buffers.arrays, buffers.pointers, strict=True):
                bind(name, DEVICE, 0, array.dtype, array.shape, pointer)
        self._unwaited = onnxruntime.RunOptions()
        self._unwaited.add_run_config_entry("disable_synchronize_execution_providers", "1")
        with refusing("the network does not run on the GPU"):
            self.call()

    def call(self) -> tuple[np.ndarray, ...]:
        """One inference of what the inputs hold."""
        self._work()
        self._driver.wait()
        return self._fetched.arrays

    def device_ms(self) -> float:
        """Its copies included."""
        return self._driver.median_ms(self._work)

    def _work(self) -> None:
        self._sent.send()
        self.session.run_with_iobinding(self._binding, self._unwaited)
        self._fetched.fetch()


def _form(value: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """An output's shape and type.

    Raises:
        StageError: UNSUPPORTED for a shape that depends on the data.
    """
    if not all(isinstance(size, int) for size in value.shape):
        message = f"the shape of the output {value.name!r} depends on the data, which takes an allocation on every call"
        raise unsupported(message)
    name = value.type.removeprefix("tensor(").removesuffix(")")
    return tuple(value.shape), np.dtype({"float": "float32", "double": "float64"}.get(name, name))


def _has_plugin() -> bool:
    return importlib.util.find_spec(_PLUGIN) is not None


def _register_plugin() -> None:
    import onnxruntime

    if any(each.ep_name == RTX for each in onnxruntime.get_ep_devices()):
        return
    plugin = importlib.import_module(_PLUGIN)
    onnxruntime.register_execution_provider_library(plugin.get_ep_name(), plugin.get_library_path())
