"""The original network as an ONNX file."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autoopt.errors import TaskError
from autoopt.task.network import Original

if TYPE_CHECKING:
    from autoopt.records import Signature

ONNX_FILE = "model.onnx"


@dataclass(frozen=True)
class OnnxInput:
    """An input as the file declares it; dimensions that are free are None."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


class OnnxOriginal(Original):
    """An ONNX file, run by ONNX Runtime on the CPU."""

    format = "onnx"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._session: Any = None

    @classmethod
    def open(cls, folder: Path) -> OnnxOriginal:
        """What `save` has written."""
        return cls(folder / ONNX_FILE)

    def inputs(self) -> tuple[OnnxInput, ...]:
        """The inputs that are no weights, in the file's order.

        Raises:
            TaskError: no ONNX file.
        """
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped] # it has no type hints

        try:
            graph = onnx.load(self.path, load_external_data=False).graph
        except (OSError, DecodeError) as error:
            message = f"{self.path} cannot be read as ONNX: {error}. Give a module, or the path of an .onnx file."
            raise TaskError(message) from error
        weights = {tensor.name for tensor in graph.initializer}
        found = tuple(_input(each) for each in graph.input if each.name not in weights)
        if not found:
            message = f"{self.path} is no ONNX network with inputs. Give a module, or the path of an .onnx file."
            raise TaskError(message)
        return found

    def identity(self) -> str:
        """A digest of the file, and of the files with its weights."""
        whole = hashlib.sha256()
        for path in (self.path, *self._external()):
            whole.update(path.read_bytes())
        return whole.hexdigest()

    def save(self, folder: Path) -> None:
        """Copied, with the files of its weights beside it."""
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.path, folder / ONNX_FILE)
        for path in self._external():
            target = folder / path.relative_to(self.path.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)

    def run(self, inputs: tuple[np.ndarray, ...], signature: Signature) -> np.ndarray:
        """ONNX Runtime's defaults; where the file fixes the batch, in batches of that size."""
        session = self._opened()
        names = [spec.name for spec in signature.tensors]
        fixed = next((each.shape[0] for each in session.get_inputs() if each.shape), None)
        count = len(inputs[0])
        step = fixed if isinstance(fixed, int) and fixed > 0 else count
        outputs = []
        for start in range(0, count, step):
            rows = np.minimum(np.arange(start, start + step), count - 1)  # the last sample fills the last batch
            feeds = {name: np.ascontiguousarray(array[rows]) for name, array in zip(names, inputs, strict=True)}
            outputs.append(session.run([session.get_outputs()[0].name], feeds)[0])
        whole = np.concatenate(outputs) if len(outputs) > 1 else np.asarray(outputs[0])
        return whole[:count] if isinstance(fixed, int) else whole

    def _opened(self) -> Any:
        if self._session is None:
            try:
                import onnxruntime
            except ImportError as error:
                message = "a task from an .onnx file needs ONNX Runtime: pip install 'autoopt[onnxruntime]'"
                raise TaskError(message) from error
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3  # errors only
            self._session = onnxruntime.InferenceSession(self.path, options, providers=["CPUExecutionProvider"])
        return self._session

    def _external(self) -> list[Path]:
        import onnx
        from onnx import external_data_helper as external

        model = onnx.load(self.path, load_external_data=False)
        names = {
            external.ExternalDataInfo(tensor).location
            for tensor in model.graph.initializer
            if external.uses_external_data(tensor)
        }
        return [self.path.parent / name for name in sorted(names)]


def _input(declared: Any) -> OnnxInput:
    import onnx

    tensor = declared.type.tensor_type
    shape = tuple(each.dim_value if each.HasField("dim_value") else None for each in tensor.shape.dim)
    return OnnxInput(declared.name, shape, onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name)
