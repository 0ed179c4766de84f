"""PyTorch's engines: the GPU is offered where it can be used, and told as lacking, with the remedy, where it cannot."""

from __future__ import annotations

import ctypes
import re

import pytest
import torch

from autoopt.errors import FailureKind, StageError
from autoopt.records import Deployment, nvidia
from autoopt.records.nvidia import Gpu
from autoopt.testing.engine_networks import NETWORKS
from autoopt.testing.engines import cases
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
