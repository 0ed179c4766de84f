"""Where the conformance suite makes its sources: each network in each format and precision, once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autoopt.records import Deployment
from autoopt.testing.engine_networks import Network
from autoopt.workers import formats
from autoopt.workers.engines.base import Source

CALIBRATION_SAMPLES = 8


class Workbench:
    """Sources in a folder, kept for as long as the object lives."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sources: dict[tuple[str, str, str, int], Source] = {}

    def source(self, network: Network, wanted: tuple[str, ...], deployment: Deployment) -> Source:
        """The network in the first of the formats ``wanted`` that leads to the deployment's precision.

        INT8 networks are ONNX with QuantizeLinear/DequantizeLinear pairs (or dynamically quantized operators), converted
        further where the engine wants OpenVINO; for LiteRT, to which no way leads from there, its own quantizer's.
        """
        if deployment.precision.startswith("int8"):
            start = self._quantized(network, "litert" if "litert" in wanted else "onnx", deployment)
        else:
            start = self._module(network)
        target = next(name for name in wanted if formats.path(start.format, name) is not None)
        return start if target == start.format else self._converted(start, target, network, deployment)

    def reference(self, network: Network, batch: int) -> tuple[np.ndarray, ...]:
        """The outputs of the network itself on ``network.inputs(batch)``."""
        inputs = tuple(torch.from_numpy(array) for array in network.inputs(batch))
        with torch.inference_mode():
            outputs = formats.call_module(network.module(), inputs, network.signature)
        return tuple(output.numpy() for output in outputs)

    def _module(self, network: Network) -> Source:
        key = (network.name, "module", "float", 0)
        if key not in self._sources:
            self._sources[key] = formats.save(network.module(), "module", self._place(key), network.signature)
        return self._sources[key]

    def _quantized(self, network: Network, as_format: str, deployment: Deployment) -> Source:
        key = (network.name, as_format, deployment.precision, deployment.batch)
        if key not in self._sources:
            plain = self._converted(self._module(network), as_format, network, replace(deployment, precision="fp32"))
            place = self._place(key)
            place.mkdir(parents=True)
            quantize = _quantize_litert if as_format == "litert" else _quantize_onnx
            quantize(plain, network, deployment, place)
            self._sources[key] = Source(as_format, place, network.signature)
        return self._sources[key]

    def _converted(self, start: Source, target: str, network: Network, deployment: Deployment) -> Source:
        precision = deployment.precision if deployment.precision.startswith("int8") else "float"
        key = (network.name, target, precision, deployment.batch)
        if key not in self._sources:
            self._sources[key] = formats.convert(start, target, deployment.batch, self._place(key))
        return self._sources[key]

    def _place(self, key: tuple[str, str, str, int]) -> Path:
        return self._folder / "-".join(map(str, key))


def _quantize_litert(plain: Source, network: Network, deployment: Deployment, folder: Path) -> None:
    from autoopt.workers.techniques import _litert

    content = formats.load(plain)
    if deployment.precision == "int8_dynamic":
        quantized, _ = _litert.dynamic(content, convolutions=True, per_channel=True)
    else:
        samples = [network.inputs(deployment.batch, seed) for seed in range(CALIBRATION_SAMPLES)]
        quantized, _ = _litert.static(content, samples, transformer="auto")
    formats.save(quantized, "litert", folder, network.signature)


def _quantize_onnx(plain: Source, network: Network, deployment: Deployment, folder: Path) -> None:
    from onnxruntime import quantization

    before, after = plain.path / "model.onnx", folder / "model.onnx"
    if deployment.precision == "int8_dynamic":
        quantization.quantize_dynamic(before, after)
        return

    class _Reader(quantization.CalibrationDataReader):  # type: ignore[misc] # untyped
        def __init__(self) -> None:
            names = [spec.name for spec in network.signature.tensors]
            batches = (network.inputs(deployment.batch, seed) for seed in range(CALIBRATION_SAMPLES))
            self._feeds = iter([dict(zip(names, batch, strict=True)) for batch in batches])

        def get_next(self) -> dict[str, Any] | None:
            return next(self._feeds, None)

    # Unsigned activations: next to signed ones ONNX Runtime falls back to convolutions in FP32.
    unsigned, signed = quantization.QuantType.QUInt8, quantization.QuantType.QInt8
    quantization.quantize_static(
        before, after, _Reader(), per_channel=True, activation_type=unsigned, weight_type=signed
    )
