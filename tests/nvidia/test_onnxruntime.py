"""ONNX Runtime's providers for GPUs: what is offered and refused; a session whose GPU is memory of this process and whose provider the processor's."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from autoopt.errors import FailureKind, StageError
from autoopt.records import Deployment, nvidia
from autoopt.testing.engine_networks import NETWORKS
from autoopt.testing.workbench import Workbench
from autoopt.workers.engines import engine, onnxruntime_cuda
from autoopt.workers.engines.base import Session
from autoopt.workers.engines.onnxruntime_cuda import CUDA, RTX, TENSORRT, Provider
from autoopt.workers.engines.onnxruntime_effective import hardware_of
from autoopt.workers.engines.onnxruntime_profile import CPU, read_profile

ENGINE = engine("onnxruntime")
NETWORK = NETWORKS[0]
BATCH = 3


def deployment(precision: str = "fp16", **options: Any) -> Deployment:
    return Deployment("onnxruntime", precision, batch=BATCH, threads=2, hardware="cuda", options=options)


@pytest.fixture
def with_providers(driver: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this were the distribution for GPUs."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "cuda_version", "13.0")


def test_without_a_gpu_the_processor_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia, "LIBRARY", "libno-such-driver.so.1")
    offer = ENGINE.offer()
    assert set(offer.precisions) == {"cpu"}
    assert "there is no NVIDIA GPU" in offer.lacking["cuda"]


def test_a_distribution_for_processors_is_told_beside_a_gpu(driver: ctypes.CDLL) -> None:
    lacking = ENGINE.offer().lacking["cuda"]
    assert "was built without CUDA; to mend it: pip install 'onnxruntime-gpu[cuda,cudnn]'" in lacking


@pytest.mark.usefixtures("with_providers")
def test_on_a_gpu_it_offers_fp32_and_fp16() -> None:
    assert ENGINE.offer().precisions["cuda"] == ("fp32", "fp16")


@pytest.mark.usefixtures("with_providers")
def test_the_options_choose_among_the_providers() -> None:
    def of(**options: Any) -> Provider:
        return Provider.of({"provider": "default", "tf32": False} | options)

    options = onnxruntime.SessionOptions()
    ((name, settings),) = of().added_to(options) or ()
    assert (name, settings["use_tf32"]) == (CUDA, "0")
    assert int(settings["user_compute_stream"]) != 0
    assert dict(of(tf32=True).added_to(options) or ())[CUDA]["use_tf32"] == "1"
    first, second = of(provider="tensorrt").added_to(options) or ()
    assert (first[0], second[0]) == (TENSORRT, CUDA)
    assert "use_tf32" not in first[1]
    with pytest.raises(StageError, match=r"plugin of TensorRT for RTX is not installed; to mend it: pip install"):
        of(provider="tensorrt_rtx")


def test_a_provider_that_is_not_in_this_distribution_is_refused(
    driver: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StageError, match="this ONNX Runtime has no TensorrtExecutionProvider; to mend it"):
        Provider.of({"provider": "tensorrt", "tf32": False})


def test_a_provider_that_onnxruntime_leaves_out_in_silence_is_refused(tmp_path: Path) -> None:
    source = Workbench(tmp_path).source(NETWORK, ("onnx",), Deployment("onnxruntime", batch=BATCH))
    session = onnxruntime.InferenceSession(source.path / "model.onnx", providers=["CPUExecutionProvider"])
    with pytest.raises(StageError, match="could not start CUDAExecutionProvider: its libraries are missing") as refused:
        Provider(CUDA, {}).require_started(session)
    assert refused.value.kind is FailureKind.UNSUPPORTED


@pytest.fixture
def session(with_providers: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Session:
    """FP16 in the processor's provider, where memory of the GPU is memory of this process."""
    monkeypatch.setattr(onnxruntime_cuda, "DEVICE", "cpu")
    monkeypatch.setattr(Provider, "added_to", lambda *_: [CPU])
    monkeypatch.setattr(Provider, "require_started", lambda *_: None)
    artifact = tmp_path / "artifact"
    ENGINE.build(Workbench(tmp_path).source(NETWORK, ("onnx",), deployment()), deployment(), artifact)
    halves = onnx.load(artifact / "model.onnx").graph.initializer
    assert {tensor.data_type for tensor in halves if len(tensor.dims) > 1} == {onnx.TensorProto.FLOAT16}
    return ENGINE.load(artifact, deployment(), NETWORK.signature)


def test_a_call_copies_runs_and_copies_back(session: Session, tmp_path: Path) -> None:
    for seed in range(2):
        inputs = NETWORK.inputs(BATCH, seed)
        (output,) = session(inputs)
        plain = onnxruntime.InferenceSession(tmp_path / "artifact" / "model.onnx", providers=[CPU])
        np.testing.assert_allclose(output, plain.run(None, {"x": inputs[0]})[0], rtol=1e-4, atol=1e-5)
        assert output.dtype == np.float32
    with pytest.raises(ValueError, match="the artifact takes x"):
        session(NETWORK.inputs(BATCH + 1))
    assert session.device_ms() == pytest.approx(0.5)  # the fake's clock counts the copies


def test_what_the_processor_ran_is_not_told_as_the_gpus(session: Session) -> None:
    effective = session.effective()
    assert effective.hardware == "cpu"
    assert effective.threads == 2
    assert effective.time == {}


@pytest.mark.parametrize(
    ("providers", "on_processor", "hardware"),
    [
        ({CPU: 5}, 5, "cpu"),
        ({CUDA: 5}, 0, "cuda"),
        ({CUDA: 5, CPU: 2}, 0, "cuda"),
        ({CUDA: 5, CPU: 2}, 1, "cpu, cuda"),
        ({TENSORRT: 1, CUDA: 2}, 0, "cuda"),
        ({RTX: 1}, 0, "cuda"),
        ({"OtherExecutionProvider": 1, CUDA: 2}, 0, "cuda, OtherExecutionProvider"),
    ],
)
def test_hardware_is_what_the_nodes_ran_on(providers: dict[str, int], on_processor: int, hardware: str) -> None:
    assert hardware_of(providers, on_processor) == hardware


def test_shapes_and_single_numbers_on_the_processor_are_no_fallback(tmp_path: Path) -> None:
    def ran(operator: str, provider: str, inputs: list[Any]) -> dict[str, Any]:
        told = {"op_name": operator, "provider": provider, "input_type_shape": inputs, "output_type_shape": inputs}
        return {"cat": "Node", "name": f"{operator}_kernel_time", "ts": 1, "dur": 2, "args": told}

    events = [
        ran("Conv", CUDA, [{"float16": [1, 3, 4, 4]}]),
        ran("Gather", CPU, [{"int64": [4]}]),
        ran("Sqrt", CPU, [{"float": []}]),
        ran("Gelu", CPU, [{"float": [1, 8]}]),
    ]
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(events))
    profile = read_profile(path, runs=1)
    assert profile.on_processor == 1
    assert profile.providers == {CPU: 3, CUDA: 1}
    assert profile.precisions == {"fp16": 1}
