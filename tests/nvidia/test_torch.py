"""PyTorch's engines: the GPU is offered where it can be used, and told as lacking, with the remedy, where it cannot."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from autoopt.errors import FailureKind, StageError
from autoopt.records import Deployment, nvidia
from autoopt.records.nvidia import Gpu
from autoopt.testing.engine_networks import NETWORKS, Network
from autoopt.testing.engines import TOLERANCE, cases
from autoopt.testing.workbench import Workbench
from autoopt.workers.engines import cuda, engine
from autoopt.workers.refusal import refusing

ENGINES = ("pytorch", "inductor")
HOPPER, TURING, MAXWELL = (Gpu("G", "580.1", "13.0", capability, 1) for capability in ("9.0", "7.5", "5.2"))


@pytest.mark.parametrize("name", ENGINES)
def test_without_a_gpu_the_processor_is_offered_and_the_gpu_told_as_lacking(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(nvidia, "LIBRARY", "libno-such-driver.so.1")
    offer = engine(name).offer()
    assert "cpu" in offer.precisions
    assert "cuda" not in offer.precisions
    assert "there is no NVIDIA GPU" in offer.lacking["cuda"]
    assert "to mend it: install NVIDIA's driver" in offer.lacking["cuda"]


@pytest.mark.parametrize("name", ENGINES)
def test_a_pytorch_that_was_built_without_cuda_is_told(
    driver: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    assert re.search("built without CUDA; to mend it: pip install", engine(name).offer().lacking["cuda"])


@pytest.mark.parametrize("name", ENGINES)
def test_a_driver_that_is_too_old_is_told(driver: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(torch.version, "cuda", "14.0")
    lacking = engine(name).offer().lacking["cuda"]
    assert "built for CUDA 14.0, and the driver 580.1 runs CUDA 13.1 at most; to mend it: update the driver" in lacking


@pytest.mark.parametrize("name", ENGINES)
def test_with_a_gpu_it_is_offered_with_what_it_executes(
    driver: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    offer = engine(name).offer()
    assert offer.precisions["cuda"] == ("fp32", "bf16", "fp16")
    assert not offer.lacking


def test_the_conformance_suite_follows_with_levels_and_options_of_the_gpu(
    driver: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    deployments = [case.deployment for case in cases(engine("pytorch"), NETWORKS[:1])]
    on_gpu = [each for each in deployments if each.hardware == "cuda"]
    assert {each.fusion for each in on_gpu} == {"default", "channels_last", "fused", "cuda_graphs"}
    assert {each.fusion for each in deployments if each.hardware == "cpu"} == {"default", "channels_last", "fused"}
    assert {name for each in on_gpu for name in each.options} == {"bf16", "cudnn_benchmark", "tf32"}


@pytest.mark.parametrize(
    ("gpu", "executed"), [(HOPPER, ("fp32", "bf16", "fp16")), (TURING, ("fp32", "fp16")), (MAXWELL, ("fp32",))]
)
def test_only_precisions_with_instructions_are_executed(gpu: Gpu, executed: tuple[str, ...]) -> None:
    assert cuda.precisions(gpu) == executed


@pytest.mark.parametrize("name", ENGINES)
def test_a_deployment_on_a_lacking_gpu_is_refused_with_reason_and_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object, name: str
) -> None:
    monkeypatch.setattr(nvidia, "LIBRARY", "libno-such-driver.so.1")
    with pytest.raises(StageError, match=r"does not run on cuda here \(there is no NVIDIA GPU .*to mend it") as refused:
        engine(name).load(tmp_path, Deployment(name, hardware="cuda"), NETWORKS[0].signature)  # type: ignore[arg-type]
    assert refused.value.kind is FailureKind.UNSUPPORTED


def test_a_gpu_without_memory_left_is_no_refusal_that_would_be_remembered() -> None:
    error = RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
    with pytest.raises(MemoryError, match="CUDA out of memory"), refusing("the network does not run"):
        raise error


class _OnProcessor(TorchFunctionMode):
    """PyTorch's GPU is the processor: what is asked of the one is done by the other."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = {name: value for name, value in (kwargs or {}).items() if name not in {"pin_memory", "device"}}
        return func(*(self._moved(each) for each in args), **kwargs)

    def _moved(self, value: Any) -> Any:
        is_gpu = value == "cuda" if isinstance(value, str) else isinstance(value, torch.device) and value.type == "cuda"
        return torch.device("cpu") if is_gpu else value


class _Event:
    clock = 0.0

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        _Event.clock += 1.5
        self.at = _Event.clock

    def synchronize(self) -> None:
        assert self.at

    def elapsed_time(self, end: _Event) -> float:
        return end.at - self.at


@pytest.fixture
def waits(driver: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Yields what waited."""
    waited: list[str] = []
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    stream = SimpleNamespace(synchronize=lambda: waited.append("stream"), wait_stream=lambda _: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "Event", _Event)
    with _OnProcessor():
        yield waited


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize(
    ("network", "fusion"),
    [
        (NETWORKS[0], "default"),
        (NETWORKS[0], "channels_last"),
        (NETWORKS[0], "fused"),
        (NETWORKS[-1], "fused"),
        (NETWORKS[-2], "default"),
    ],
)
def test_a_call_copies_runs_copies_back_and_waits_once(
    waits: list[str], tmp_path: Path, network: Network, fusion: str, precision: str
) -> None:
    asked = Deployment("pytorch", precision, fusion, batch=3, hardware="cuda")
    workbench, artifact = Workbench(tmp_path / "bench"), tmp_path / "artifact"
    each = engine("pytorch")
    each.build(workbench.source(network, each.formats, asked), asked, artifact)
    session = each.load(artifact, asked, network.signature)
    waits.clear()
    outputs = session(network.inputs(3))
    assert waits == ["stream"]
    for output, right in zip(outputs, workbench.reference(network, 3), strict=True):
        assert output.dtype == np.float32
        assert np.abs(output - right).mean() / right.std() <= TOLERANCE[precision]
    assert session.device_ms() == pytest.approx(1.5)
    effective = session.effective()
    assert effective.hardware == "cpu", "it is told where the tensors really are"
    assert effective.precision == precision
    assert effective.details["TF32"] == "False"
