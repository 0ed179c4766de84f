"""One inference with a network in memory, in whichever format it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from autoopt.records import Signature
from autoopt.workers import formats

Outputs = tuple[np.ndarray[Any, Any], ...]


def run_model(model: Any, format: str, inputs: Outputs, signature: Signature) -> Outputs:  # noqa: A002 (the glossary's word)
    """The outputs of a module, an ONNX, an OpenVINO or a LiteRT network, on one thread.

    Args:
        model: as `autoopt.workers.formats.load` gives it.
        format: "module", "onnx", "openvino" or "litert".
        inputs: ``(batch, *shape)`` each, in the signature's order.
        signature: their names.
    """
    runs = {"module": _run_module, "onnx": _run_onnx, "openvino": _run_openvino, "litert": _run_litert}
    return runs[format](model, inputs, signature)


def _run_module(model: Any, inputs: Outputs, signature: Signature) -> Outputs:
    with torch.inference_mode():
        found = formats.call_module(model.eval(), tuple(map(torch.from_numpy, inputs)), signature)
    return tuple(tensor.numpy() for tensor in found)


def _run_onnx(model: Any, inputs: Outputs, signature: Signature) -> Outputs:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = {spec.name: array for spec, array in zip(signature.tensors, inputs, strict=True)}
    return tuple(session.run(None, feed))


def _run_openvino(model: Any, inputs: Outputs, signature: Signature) -> Outputs:
    import openvino

    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1})
    feed = {spec.name: array for spec, array in zip(signature.tensors, inputs, strict=True)}
    return tuple(np.array(output) for output in compiled(feed).values())


def _run_litert(model: Any, inputs: Outputs, signature: Signature) -> Outputs:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model)
    run = interpreter.get_signature_runner()
    feed = {
        name: array.astype(details["dtype"])
        for array, (name, details) in zip(inputs, sorted(run.get_input_details().items(), key=_number), strict=True)
    }
    assert len(feed) == len(signature.tensors)
    return tuple(output for _, output in sorted(run(**feed).items(), key=_number))


def _number(named: tuple[str, Any]) -> int:
    return int(named[0].rpartition("_")[2])
