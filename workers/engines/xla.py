"""XLA: the network as StableHLO, compiled ahead of time by a PJRT client.

The artifact is the StableHLO with its weights as constants (see `xla_export`), and what the client compiled of it, which is machine
code: loading compiles nothing. Both hold the weights, so it is twice as large as other engines'. Where the machine code is another
version's or for another processor the StableHLO is compiled anew, in a second or so: XLA itself would only warn that such code may
end in an illegal instruction.

XLA for CPUs computes BF16 in FP32 between conversions, so FP32 is all that it executes there. "default" leaves matrix products and
convolutions to YNNPACK's kernels, "native" none: a MobileNet of 128 × 128 takes 20 ms with them and 38 without, one encoder layer of
width 32 twice over 0.038 and 0.050, a ResNet-18 of 224 × 224 43 and 39, four layers of 2048 × 2048 for 64 samples 26 and 20 (an AMD
EPYC of Zen 4, processor time of one thread). XLA's own choice leaves reductions to YNNPACK too, with all that stands before them:
the ResNet-18 takes 67 ms then, and nothing gains more than 3 %. Its fast mathematics changed nothing on these.

With one thread the caller computes alone. With more there is a pool of so many, which takes over from the caller; YNNPACK would let it
go on computing beside them, three threads where two were asked for, so with more than one thread the levels are the same. Where
operations are short the caller still does much of the work, and measuring refuses that as a thread too many: of an LSTM of 50 steps
17 % beside the pool's 41 and 41, of a ResNet-18 1 %.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from autoopt.records import Deployment, Signature
from autoopt.workers.engines.base import Engine, Offer, Session, Source
from autoopt.workers.engines.common import require_offered
from autoopt.workers.engines.xla_client import Client, cuda_is_here, jaxlib_version, open_client
from autoopt.workers.engines.xla_session import XlaDeviceSession, XlaHostSession
from autoopt.workers.refusal import refusing, sentence, unsupported

PROGRAM = "model.stablehlo"
EXECUTABLE = "model.executable"
MADE_FOR = "made_for.json"
"""The machine and version that the executable is for."""

_FUSIONS = {
    "default": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION",
    "native": "",
}
"""What YNNPACK may take with one thread, by XLA's names."""
_ONE_AFTER_THE_OTHER = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
"""Operations share memory and so wait for each other; else a network of twenty branches ran in two threads where one was asked for."""
_REMEDY = "pip install 'autoopt[xla]'"


class Xla(Engine):
    """XLA's CPU client, and its CUDA client where there is one."""

    name = "xla"
    formats = ("module",)
    packages = ("jaxlib",)
    preload = ()  # 0.03 s, and it reads only once how much to log
    trusted_only = True
    build_fields = ("precision", "fusion", "batch", "threads", "hardware")

    def offer(self) -> Offer:
        """FP32 on the CPU; on a GPU the shorter floats too."""
        offer = _offer_loaded()
        if offer.available and find_spec("litert_torch") is None:
            return Offer(self.name, reason="there is no module litert_torch, which exports StableHLO", remedy=_REMEDY)
        return offer

    def build(self, source: Source, deployment: Deployment, out: Path) -> None:
        """Export, compile, write both. Four seconds and more, three of them for importing the exporter."""
        from autoopt.workers import formats
        from autoopt.workers.engines.torch_common import torch_dtype
        from autoopt.workers.engines.xla_export import Cast, export_stablehlo

        require_offered(self.offer(), deployment)
        module = Cast(formats.Positional(formats.load(source), source.signature), torch_dtype(deployment.precision))
        inputs = formats.example_inputs(source.signature, deployment.batch)
        # A GPU's default for FP32 is TF32.
        highest = deployment.hardware == "cuda" and deployment.precision == "fp32"
        with refusing("the network cannot be exported to StableHLO"):
            program = export_stablehlo(module, inputs, highest=highest)
        client = open_client(deployment.hardware, deployment.threads)
        with refusing("XLA cannot compile the network"):
            code = client.serialize(client.compile(program, _options(deployment)))
        (out / PROGRAM).write_bytes(program)
        (out / EXECUTABLE).write_bytes(code)
        (out / MADE_FOR).write_text(json.dumps(client.made_for()))

    def load(self, path: Path, deployment: Deployment, signature: Signature) -> Session:
        """Open an artifact: machine code, so only what is trusted."""
        require_offered(_offer_loaded(), deployment)
        client = open_client(deployment.hardware, deployment.threads)
        executable, how = _opened(client, path, deployment)
        session = XlaHostSession if deployment.hardware == "cpu" else XlaDeviceSession
        return session(client, executable, how, signature, deployment.batch)


def _offer_loaded() -> Offer:
    """What can be run here once it is built."""
    try:
        version = jaxlib_version()
    except ImportError as error:
        return Offer(Xla.name, reason=str(error), remedy=_REMEDY)
    precisions: dict[str, tuple[str, ...]] = {"cpu": ("fp32",)}
    if cuda_is_here():
        precisions["cuda"] = ("fp32", "bf16", "fp16")
    return Offer(Xla.name, version=version, precisions=precisions, fusions=tuple(_FUSIONS))


def _options(deployment: Deployment) -> dict[str, str]:
    """XLA's flags for a deployment.

    Raises:
        StageError: UNSUPPORTED for a fusion level that a GPU has not.
    """
    if deployment.hardware == "cpu":
        library = _FUSIONS[deployment.fusion if deployment.threads == 1 else "native"]
        return {"xla_cpu_experimental_ynn_fusion_type": library, **_ONE_AFTER_THE_OTHER}
    if deployment.fusion != "default":
        message = f"XLA has the fusion level {deployment.fusion!r} on the CPU only, not on {deployment.hardware}"
        raise unsupported(message)
    return {}


def _opened(client: Client, path: Path, deployment: Deployment) -> tuple[Any, str]:
    """The executable, and how it came: as it was built, or compiled just now and why."""
    reason = _unfit(json.loads((path / MADE_FOR).read_text()), client.made_for())
    if reason is None:
        try:
            return client.deserialize((path / EXECUTABLE).read_bytes()), "as built"
        except RuntimeError as error:  # XLA's own errors are such
            reason = sentence(error)
    with refusing("XLA cannot compile the network"):
        program = (path / PROGRAM).read_bytes()
        return client.compile(program, _options(deployment)), f"compiled when it was loaded: {reason}"


def _unfit(made_for: dict[str, Any], here: dict[str, Any]) -> str | None:
    """Why what was compiled there is not to be run here."""
    if made_for["jaxlib"] != here["jaxlib"]:
        return f"it was built by jaxlib {made_for['jaxlib']}, here is {here['jaxlib']}"
    missing = sorted(set(made_for["features"]) - set(here["features"]))
    return f"it was built for a processor that has {', '.join(missing)}" if missing else None
