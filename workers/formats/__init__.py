"""Networks on disk, in the four formats that techniques and engines speak.

======== ======================== ==================================================================
format   file in the folder       in memory
======== ======================== ==================================================================
module   ``module.pt``            ``nn.Module``, pickled whole: for the own store only
onnx     ``model.onnx``           ``onnx.ModelProto``; one file below 2 GB
openvino ``model.xml`` and .bin   ``openvino.Model``; weights keep their type, never shrunk to FP16
litert   ``model.tflite``         ``bytes``: the flatbuffer as it is
======== ======================== ==================================================================

Conversions go one way, module → onnx → openvino and module → litert, and fix the batch: engines plan memory and choose kernels for
static shapes.
"""

from autoopt.workers.formats.convert import convert, packages, path
from autoopt.workers.formats.files import FORMATS, engine_of, load, save
from autoopt.workers.formats.modules import Positional, call_module, example_inputs, flat_tensors

__all__ = [
    "FORMATS",
    "Positional",
    "call_module",
    "convert",
    "engine_of",
    "example_inputs",
    "flat_tensors",
    "load",
    "packages",
    "path",
    "save",
]
