"""XLA: the network as StableHLO, compiled ahead of time by a PJRT client.

The artifact is the StableHLO with its weights as constants (see `xla_export`), and what the client compiled of it, which is machine
code: loading compiles nothing. Where that was made by another version or for another processor it is compiled anew from the
StableHLO, a second or so, since XLA would load it all the same and die of an illegal instruction.

XLA for CPUs computes BF16 in FP32 between conversions, so FP32 is all that it executes there. Its fusion levels differ in what it
leaves to YNNPACK: "default" the small matrix products, "ynnpack" also convolutions and reductions with all that they can take in,
which is XLA's own default, "native" nothing. Processor time of a call on an AMD EPYC (Zen 4) with one thread, in that order: a
ResNet-18 of 224 × 224 39.4, 66.8, 39.1 ms; transformer encoders of widths 256 and 32 10.3, 9.6, 9.4 and 0.039, 0.037, 0.049 ms;
four layers of 2048 × 2048 for 64 samples 25.6, 25.6, 20.4 ms.
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

_LIBRARY = "xla_cpu_experimental_ynn_fusion_type"
_FUSIONS = {
    "default": {_LIBRARY: "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"},
    "ynnpack": {},
    "native": {_LIBRARY: ""},
}
_REMEDY = "pip install 'autoopt[xla]'"


class Xla(Engine):
    """XLA's CPU client, and its CUDA client where there is one."""

    name = "xla"
    formats = ("module",)
    packages = ("jaxlib",)
    preload = ("jaxlib.xla_client",)
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
        return _FUSIONS[deployment.fusion]
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
