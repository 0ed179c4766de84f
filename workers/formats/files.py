"""Reading and writing the formats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autoopt.workers.engines.base import Source

if TYPE_CHECKING:
    from pathlib import Path

    from autoopt.records import Signature

FORMATS = ("module", "onnx", "openvino", "litert")
_ENGINES = {"litert": "litert"}
MODULE_FILE = "module.pt"
ONNX_FILE = "model.onnx"
OPENVINO_FILE = "model.xml"
LITERT_FILE = "model.tflite"

# A protobuf cannot be larger than 2 GiB; some room is left for the graph itself.
ONNX_SINGLE_FILE_BYTES = 2**31 - 2**24


def engine_of(format: str) -> str | None:  # noqa: A002 (the glossary's word)
    """The engine that a format belongs to, with which its tools are installed; None for those that several take."""
    return _ENGINES.get(format)


def load(source: Source) -> Any:
    """The network in memory: an ``nn.Module`` in eval mode, an ``onnx.ModelProto``, an ``openvino.Model``, a flatbuffer's bytes.

    A module is unpickled: the source must come from the own store, and the task's user code must be importable.

    Raises:
        ValueError: an unknown format.
    """
    if source.format == "module":
        import torch

        return torch.load(source.path / MODULE_FILE, map_location="cpu", weights_only=False).eval()
    if source.format == "onnx":
        import onnx

        return onnx.load(source.path / ONNX_FILE)
    if source.format == "openvino":
        import openvino

        return openvino.Core().read_model(source.path / OPENVINO_FILE)
    if source.format == "litert":
        return (source.path / LITERT_FILE).read_bytes()
    raise _unknown(source.format)


def save(model: Any, format: str, folder: Path, signature: Signature) -> Source:  # noqa: A002 (the glossary's word)
    """Write the network into ``folder`` (made where it is missing); the inverse of `load`.

    Raises:
        ValueError: an unknown format.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if format == "module":
        import cloudpickle
        import torch

        # cloudpickle, because a network of a notebook or script has a class that no other process could import.
        torch.save(model.eval(), folder / MODULE_FILE, pickle_module=cloudpickle)
    elif format == "onnx":
        import onnx

        large = model.ByteSize() >= ONNX_SINGLE_FILE_BYTES
        onnx.save(model, folder / ONNX_FILE, save_as_external_data=large)
    elif format == "openvino":
        import openvino

        openvino.save_model(model, folder / OPENVINO_FILE, compress_to_fp16=False)
    elif format == "litert":
        (folder / LITERT_FILE).write_bytes(model)
    else:
        raise _unknown(format)
    return Source(format, folder, signature)


def _unknown(name: str) -> ValueError:
    return ValueError(f"unknown format {name!r}; allowed are {', '.join(FORMATS)}")
