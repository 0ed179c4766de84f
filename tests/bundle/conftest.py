"""A real config without a search: a linear network as an ONNX file with a static batch, and measurements of it."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from autoopt.bundle import export
from autoopt.front import Config
from autoopt.records import (
    Candidate,
    Deployment,
    Effective,
    Estimate,
    Fidelity,
    Latency,
    Measurement,
    Signature,
    TensorSpec,
    to_json,
)
from autoopt.records.environment import current
from autoopt.task import PreparedTask
from autoopt.task.imports import Imports
from autoopt.task.prepared import Manifest as TaskManifest

FEATURES, CLASSES, BATCH, SAMPLES = 64, 10, 4, 100
FACTS = {"job": "demo", "task": "digits", "reference": "PyTorch eager FP32"}
SERVED = Deployment("onnxruntime", batch=BATCH)
Make = Callable[..., Path]


def weights() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(FEATURES, CLASSES)).astype(np.float32)


def linear_onnx() -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (BATCH, FEATURES))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (BATCH, CLASSES))],
        [numpy_helper.from_array(weights(), "w")],
    )
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])


def measurement(candidate: Candidate, split: str, latency_ms: float = 10.0) -> Measurement:
    interval = Estimate(latency_ms, latency_ms * 0.98, latency_ms * 1.02)
    return Measurement(
        candidate_id=candidate.id,
        split=split,
        samples=1000,
        scenario="single_stream",
        speedup=Estimate(14.2, 13.6, 14.9),
        latency_ms=interval,
        score=Estimate(0.93, 0.92, 0.94),
        score_drop=Estimate(0.004, 0.001, 0.007),
        agreement=0.99,
        latency=Latency(latency_ms, latency_ms, latency_ms, 142.0, 30, 900, 0),
        fidelity=Fidelity(1.0, 0.0, 0.0, 100),
        size_bytes=2560,
        peak_rss_bytes=1_000_000,
        load_s=0.01,
        first_ms=1.0,
        effective=Effective("1", "cpu", "fp32", candidate.deployment.threads),
        environment=current(),
        taken_at="2026-01-01T00:00:00+00:00",
    )


def config_of(deployment: Deployment, latency_ms: float = 10.0) -> Config:
    candidate = Candidate((), deployment)
    tested = measurement(candidate, "test", latency_ms)
    return Config(candidate, measurement(candidate, "validation", latency_ms), tested, "0" * 64, 3)


@pytest.fixture
def task(tmp_path: Path) -> PreparedTask:
    return make_task(tmp_path)


def make_task(parent: Path) -> PreparedTask:
    folder = parent / "task"
    (folder / "validation").mkdir(parents=True)
    inputs = np.random.default_rng(1).normal(size=(SAMPLES, FEATURES)).astype(np.float32)
    np.save(folder / "validation" / "input_0.npy", inputs)
    np.save(folder / "validation" / "targets.npy", np.zeros(SAMPLES, np.int64))
    manifest = TaskManifest(
        name="digits",
        fingerprint="0" * 64,
        signature=Signature("array", (TensorSpec("x", (FEATURES,), "float32"),)),
        splits={"validation": SAMPLES},
        source_format="onnx",
        metric="accuracy",
        loss="cross_entropy",
        functions=(),
        targets_dtype="int64",
        reference_score=0.93,
        sample_ms=1.0,
        imports=Imports(),
    )
    (folder / "task.json").write_text(json.dumps(to_json(manifest)))
    return PreparedTask.open(folder)


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return make_artifact(tmp_path)


def make_artifact(parent: Path) -> Path:
    folder = parent / "artifact"
    folder.mkdir()
    onnx.save(linear_onnx(), folder / "model.onnx")
    (folder / "facts.json").write_text("{}")
    (folder / ".checksums.json").write_text("{}")
    return folder


@pytest.fixture
def small_artifact(tmp_path: Path) -> Path:
    """The same network for batches of one."""
    folder = tmp_path / "small"
    folder.mkdir()
    model = linear_onnx()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, folder / "model.onnx")
    return folder


@pytest.fixture
def config() -> Config:
    return config_of(SERVED)


@pytest.fixture
def make(tmp_path: Path, artifact: Path, task: PreparedTask) -> Make:
    def make(config: Config, name: str = "bundle") -> Path:
        return export(config, artifact, task, tmp_path / name, facts=FACTS)

    return make


@pytest.fixture(scope="session")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of `config`, written once."""
    folder = tmp_path_factory.mktemp("master")
    return export(config_of(SERVED), make_artifact(folder), make_task(folder), folder / "bundle", facts=FACTS)


@pytest.fixture
def bundle(master: Path, tmp_path: Path) -> Path:
    return shutil.copytree(master, tmp_path / "bundle")


@pytest.fixture
def elsewhere() -> Callable[..., Config]:
    """``elsewhere(config, cpu=…)``: the same config, measured in another environment."""

    def moved(config: Config, **changes: object) -> Config:
        assert config.test is not None
        there = dataclasses.replace(current(), **changes)  # type: ignore[arg-type]  # a test's shorthand
        return dataclasses.replace(config, test=dataclasses.replace(config.test, environment=there))

    return moved
