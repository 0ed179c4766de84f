"""Code in a bundle runs for its exporter, and for whoever says that it may; and nothing outside the bundle is read."""

from __future__ import annotations

import shutil
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from autoopt.bundle import checksums, export, load, verify
from autoopt.errors import BundleError
from autoopt.front import Config
from autoopt.records import Candidate, Deployment
from autoopt.task import PreparedTask

FEATURES, CLASSES, BATCH = 64, 10, 4


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "autoopt" / "exported"


@pytest.fixture
def code(tmp_path: Path, config: Config, task: PreparedTask, state: Path) -> Path:
    """A bundle of the engine "pytorch", whose artifact is a pickle; exported here."""
    artifact = tmp_path / "pickled"
    artifact.mkdir()
    torch.save(nn.Linear(FEATURES, CLASSES), artifact / "module.pt", pickle_module=cloudpickle)
    served = replaced(config, Deployment("pytorch", batch=BATCH))
    return export(served, artifact, task, tmp_path / "bundle", facts={})


def replaced(config: Config, deployment: Deployment) -> Config:
    from dataclasses import replace

    return replace(config, candidate=Candidate((), deployment))


def test_what_one_has_exported_oneself_needs_no_trust(code: Path, tmp_path: Path) -> None:
    x = np.zeros((2, FEATURES), np.float32)
    with load(code) as model:
        assert model(x).shape == (2, CLASSES)  # type: ignore[union-attr]  # one output
    moved = shutil.move(code, tmp_path / "elsewhere")
    load(moved).close()
    assert verify(moved).examination.comparison.same


def test_what_another_user_or_machine_has_exported_needs_trust(code: Path, state: Path) -> None:
    shutil.rmtree(state)
    for attempt in (load, verify):
        with pytest.raises(BundleError, match=r"you have not exported it on this machine.*trust=True"):
            attempt(code)
    load(code, trust=True).close()


def test_what_was_changed_since_needs_trust(code: Path) -> None:
    torch.save(nn.Linear(FEATURES, CLASSES), code / "artifact" / "module.pt", pickle_module=cloudpickle)
    checksums.write(code)
    with pytest.raises(BundleError, match="not exported it on this machine"):
        load(code)


def test_a_list_that_others_can_write_is_not_believed(code: Path, state: Path) -> None:
    state.chmod(0o777)
    with pytest.raises(BundleError, match="not exported it on this machine"):
        load(code)


def test_a_changed_bundle_in_the_way_of_an_export_is_replaced_and_not_believed(
    code: Path, tmp_path: Path, config: Config, task: PreparedTask
) -> None:
    """Its manifest says the same, its checksums are right, and its code is another's."""
    wanted = (code / "artifact" / "module.pt").read_bytes()
    torch.save(nn.Linear(FEATURES, CLASSES), code / "artifact" / "module.pt", pickle_module=cloudpickle)
    checksums.write(code)
    export(replaced(config, Deployment("pytorch", batch=BATCH)), tmp_path / "pickled", task, code, facts={})
    assert (code / "artifact" / "module.pt").read_bytes() == wanted
    load(code).close()


def test_where_nothing_can_be_remembered_export_works_and_loading_asks(
    tmp_path: Path, config: Config, task: PreparedTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "a file"))
    artifact = tmp_path / "pickled"
    artifact.mkdir()
    torch.save(nn.Linear(FEATURES, CLASSES), artifact / "module.pt", pickle_module=cloudpickle)
    bundle = export(replaced(config, Deployment("pytorch", batch=BATCH)), artifact, task, tmp_path / "b", facts={})
    with pytest.raises(BundleError, match=r"trust=True"):
        load(bundle)


@pytest.mark.parametrize("place", ["../../outside.bin", "{outside}", "../expected/../../outside.bin"])
def test_an_onnx_file_that_names_weights_outside_the_bundle_is_refused(bundle: Path, place: str) -> None:
    outside = bundle.parent / "outside.bin"
    outside.write_bytes(np.zeros((FEATURES, CLASSES), np.float32).tobytes())
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[FEATURES, CLASSES])
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=place.format(outside=outside))
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "hostile",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (BATCH, FEATURES))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (BATCH, CLASSES))],
        [weights],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    (bundle / "artifact" / "model.onnx").write_bytes(model.SerializeToString())
    checksums.write(bundle)
    with pytest.raises(BundleError, match="does not run here"):
        load(bundle)
