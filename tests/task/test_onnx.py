from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from autoopt.errors import TaskError
from autoopt.task import PreparedTask

Prepare = Callable[..., PreparedTask]
RANDOM = np.random.default_rng(0)
WEIGHT = RANDOM.normal(size=(6, 3)).astype(np.float32)


def write(path: Path, batch: int | str = "batch", *, external: bool = False) -> Path:
    """``scores = (image * scale) @ weight`` with the inputs image (batch, 6) and scale (batch, 1)."""
    nodes = [
        helper.make_node("Mul", ["image", "scale"], ["scaled"]),
        helper.make_node("MatMul", ["scaled", "weight"], ["scores"]),
    ]
    inputs = [
        helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 6]),
        helper.make_tensor_value_info("scale", TensorProto.FLOAT, [batch, 1]),
    ]
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 3])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(WEIGHT, "weight")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path, save_as_external_data=external, location="weights.bin", size_threshold=0)
    return path


def splits(*, named: bool = False, swapped: bool = False) -> dict[str, Any]:
    def split(count: int) -> Any:
        image = RANDOM.normal(size=(count, 6)).astype(np.float32)
        scale = RANDOM.random((count, 1)).astype(np.float32)
        inputs = {"image": image, "scale": scale} if named else (image, scale)
        if swapped:
            inputs = {"scale": scale, "image": image} if named else (scale, image)
        return inputs, RANDOM.integers(0, 3, count)

    return {"validation": split(301), "test": split(50), "train": None}


@pytest.mark.parametrize("batch", ["batch", 1, 4])
@pytest.mark.parametrize("named", [False, True])
def test_an_onnx_file_is_judged_whatever_its_batch(
    prepared: Prepare, tmp_path: Path, batch: int | str, *, named: bool
) -> None:
    task = prepared(network=write(tmp_path / "net.onnx", batch), **splits(named=named, swapped=named))
    assert task.source_format == "onnx"
    assert [spec.name for spec in task.signature.tensors] == ["image", "scale"]
    image, scale = task.arrays("validation").inputs
    np.testing.assert_allclose(task.reference_outputs, (image * scale) @ WEIGHT, rtol=1e-4, atol=1e-5)
    assert (task.folder / "network" / "model.onnx").is_file()
    assert task.outputs_of_original("test").shape == (50, 3)


def test_weights_in_a_file_of_their_own_come_along(prepared: Prepare, tmp_path: Path) -> None:
    inside = prepared(network=write(tmp_path / "inside.onnx"), **splits())
    path = write(tmp_path / "outside.onnx", external=True)
    task = prepared(network=path, **splits())
    path.unlink()
    (tmp_path / "weights.bin").unlink()
    assert task.outputs_of_original("test").shape == (50, 3)
    assert task.fingerprint != inside.fingerprint


def test_data_that_do_not_fit_the_file_are_told(prepared: Prepare, tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx")
    expected = r"takes image \(\?, 6\) float32, scale \(\?, 1\) float32; the data have"
    with pytest.raises(TaskError, match=expected):
        prepared(network=path, **splits(swapped=True))
    data = splits()
    with pytest.raises(TaskError, match=expected):
        prepared(network=path, **{name: data[name] and (data[name][0][0], data[name][1]) for name in data})


def test_the_path_may_be_relative_to_the_tasks_file(tmp_path: Path) -> None:
    from autoopt.task import load_task, prepare
    from autoopt.workers.store import LocalStore

    write(tmp_path / "net.onnx")
    (tmp_path / "task.py").write_text(
        "import numpy as np\nfrom autoopt.task import Task\n"
        "def split(seed):\n"
        "    r = np.random.default_rng(seed)\n"
        "    return (r.random((9, 6), np.float32), r.random((9, 1), np.float32)), r.integers(0, 3, 9)\n"
        "task = Task('net.onnx', split(0), split(1))\n"
    )
    assert prepare(load_task(f"{tmp_path}/task.py"), LocalStore(tmp_path / "store")).source_format == "onnx"
