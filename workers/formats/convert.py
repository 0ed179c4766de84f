"""From one format to the next, with a static batch: module → onnx → openvino, and module → litert."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoopt.workers.formats import litert
from autoopt.workers.formats.export import export_onnx
from autoopt.workers.formats.files import FORMATS, ONNX_FILE, load, save
from autoopt.workers.formats.onnx_batch import has_batch, with_batch
from autoopt.workers.refusal import refusing, unsupported

if TYPE_CHECKING:
    from autoopt.workers.engines.base import Source


# What each format is made from: a tree, whose root is PyTorch's module.
_MADE_FROM = {"onnx": "module", "openvino": "onnx", "litert": "module"}
_PACKAGES = {"litert": ("torch", "litert-torch", "litert-converter")}


def path(from_format: str, to_format: str) -> tuple[str, ...] | None:
    """The formats that lead from one to the other, the last included; empty where they are the same, None where none does.

    ``path("module", "openvino") == ("onnx", "openvino")``; ``path("onnx", "litert")`` is None.
    """
    if from_format not in FORMATS or to_format not in FORMATS:
        return None
    steps: tuple[str, ...] = ()
    while to_format != from_format:
        if to_format not in _MADE_FROM:
            return None
        steps = (to_format, *steps)
        to_format = _MADE_FROM[to_format]
    return steps


def packages(to_format: str) -> tuple[str, ...]:
    """The Python distributions whose versions change what a conversion to this format gives."""
    return _PACKAGES.get(to_format, ("torch", "onnx", "openvino"))


def convert(source: Source, to: str, batch: int, out: Path) -> Source:
    """The network in the format ``to``, its inputs ``(batch, *shape)``, written into the folder ``out``.

    A module has no static batch and is copied; so is whatever already is as asked.

    Raises:
        StageError: UNSUPPORTED where no conversion leads there, or the network cannot be converted.
    """
    steps = path(source.format, to)
    if steps is None:
        message = f"a network in the format {source.format!r} cannot be converted to {to!r}"
        raise unsupported(message)
    out.mkdir(parents=True, exist_ok=True)
    if len(steps) > 1:
        with tempfile.TemporaryDirectory(prefix="autoopt-convert-") as folder:
            return convert(convert(source, steps[0], batch, Path(folder)), to, batch, out)
    if not steps:
        return _with_batch(source, batch, out)
    if to == "onnx":
        export_onnx(load(source), source.signature, batch, out)
        return replace(source, format="onnx", path=out)
    if to == "litert":
        return save(litert.export_litert(load(source), source.signature, batch), to, out, source.signature)
    return _onnx_to_openvino(source, batch, out)


def _with_batch(source: Source, batch: int, out: Path) -> Source:
    if source.format == "onnx":
        model = load(source)
        if not has_batch(model, source.signature, batch):
            return save(with_batch(model, source.signature, batch), "onnx", out, source.signature)
    if source.format == "openvino":
        model = load(source)
        if _reshape(model, source, batch):
            return save(model, "openvino", out, source.signature)
    if source.format == "litert":
        litert.require_batch(source, batch)
    shutil.copytree(source.path, out, dirs_exist_ok=True)
    return replace(source, path=out)


def _onnx_to_openvino(source: Source, batch: int, out: Path) -> Source:
    import openvino

    # Not `openvino.convert_model`: it starts OpenVINO's telemetry.
    with refusing("OpenVINO cannot read the ONNX file"):
        model = openvino.Core().read_model(source.path / ONNX_FILE)
    _reshape(model, source, batch)
    return save(model, "openvino", out, source.signature)


def _reshape(model: Any, source: Source, batch: int) -> bool:
    """Give the inputs their static shapes; whether anything changed."""
    ports = {name: port for port in model.inputs for name in port.get_names()}
    wanted = {spec.name: [batch, *spec.shape] for spec in source.signature.tensors}
    if missing := wanted.keys() - ports.keys():
        message = f"the OpenVINO network has no input {missing.pop()!r}; its inputs are {', '.join(ports)}"
        raise unsupported(message)
    if all(ports[name].partial_shape.is_static and list(ports[name].shape) == wanted[name] for name in wanted):
        return False
    with refusing(f"the network cannot take batch {batch}"):
        model.reshape({ports[name]: shape for name, shape in wanted.items()})
    return True
