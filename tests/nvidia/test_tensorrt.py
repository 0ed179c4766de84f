"""TensorRT: offered where it can run, with the exact reason where it cannot; its session against a TensorRT that is none."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from autoopt.errors import FailureKind, StageError
from autoopt.records import Deployment, Signature, TensorSpec, nvidia
from autoopt.workers.engines import cuda, engine
from autoopt.workers.engines.base import Session
from autoopt.workers.engines.tensorrt_build import executed

BATCH = 2
SIGNATURE = Signature("array", (TensorSpec("x", (3,), "float32"),))
HALF = [{"Name": "fc", "LayerType": "gemm", "Inputs": [{"DataType": "Half"}], "TacticName": "sm90_xmma_gemm_f16f16"}]
TENSORRT = engine("tensorrt")


def deployment(**options: Any) -> Deployment:
    return Deployment("tensorrt", "fp16", batch=BATCH, threads=2, hardware="cuda", options=options)


@pytest.fixture
def tensorrt(driver: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """This process has a GPU and TensorRT, so it seems."""
    spec = importlib.util.spec_from_file_location("fake_tensorrt", Path(__file__).with_name("fake_tensorrt.py"))
    assert spec is not None
    assert spec.loader is not None
    fake = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fake)
    made: ModuleType = fake.module(driver)
    monkeypatch.setitem(sys.modules, "tensorrt", made)
    return made


def plan(folder: Path, **changes: Any) -> Path:
    about = {"tensorrt": "11.4.0.106", "gpu": "NVIDIA Fake", "nodes": {"fp16": 1}} | changes.pop("about", {})
    (folder / "plan.json").write_text(json.dumps(about))
    (folder / "model.plan").write_text(json.dumps({"batch": BATCH, "layers": HALF} | changes))
    return folder


def opened(folder: Path, asked: Deployment) -> Session:
    return TENSORRT.load(folder, asked, SIGNATURE)


def test_where_it_is_not_installed_the_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    offer = TENSORRT.offer()
    assert not offer.available
    assert "TensorRT is not installed" in str(offer.reason)
    assert offer.remedy == "pip install 'autoopt[tensorrt]'"


def test_bindings_without_libraries_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tensorrt.py").write_text('raise ImportError("libnvinfer.so.11: cannot open shared object file")')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    assert re.search(r"libraries are missing or do not fit: libnvinfer\.so\.11", str(TENSORRT.offer().reason))


def test_an_older_one_is_told(tensorrt: ModuleType) -> None:
    vars(tensorrt)["__version__"] = "10.16.1.11"
    assert TENSORRT.offer().reason == "TensorRT 10.16.1.11 is older than 11.4"


def test_where_there_is_no_gpu_that_is_the_reason(tensorrt: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    offer = TENSORRT.offer()
    assert (offer.reason, offer.remedy) == cuda.NO_GPU
    assert offer.version == "11.4.0.106"


def test_an_old_gpu_is_told(tensorrt: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia, "gpu", lambda: nvidia.Gpu("Tesla V100", "580.1", "13.0", "7.0", 1))
    assert "needs the compute capability 7.5, and the Tesla V100 has 7.0" in str(TENSORRT.offer().reason)


def test_on_a_gpu_it_offers_what_that_executes_and_int8(tensorrt: ModuleType) -> None:
    assert TENSORRT.offer().precisions == {"cuda": ("fp32", "bf16", "fp16", "int8")}


@pytest.mark.parametrize("options", [{}, {"cuda_graphs": True}], ids=["launched", "as a graph"])
def test_a_call_copies_runs_and_copies_back(tensorrt: ModuleType, tmp_path: Path, options: dict[str, Any]) -> None:
    session = opened(plan(tmp_path), deployment(**options))
    for seed in range(3):
        x = np.random.default_rng(seed).standard_normal((BATCH, 3)).astype(np.float32)
        (output,) = session((x,))
        np.testing.assert_array_equal(output, x)
    effective = session.effective()
    assert (effective.hardware, effective.precision, effective.threads) == ("cuda", "fp16", 2)
    assert effective.details["CUDA graph"] == str(bool(options))
    assert effective.details["told by"] == "the plan's layers"
    assert session.device_ms() == pytest.approx(0.75)  # a copy, the identity, a copy: the fake's clock
    with pytest.raises(ValueError, match=r"takes x \(2, 3\); given were \(3, 3\)"):
        session((np.zeros((3, 3), np.float32),))


def test_a_plan_for_every_batch_up_to_its_own_is_loaded_for_a_smaller_one(tensorrt: ModuleType, tmp_path: Path) -> None:
    small = Deployment("tensorrt", "fp16", batch=1, hardware="cuda", options={"batches": "up_to"})
    (output,) = opened(plan(tmp_path), small)((np.ones((1, 3), np.float32),))
    assert output.shape == (1, 3)
    large = Deployment("tensorrt", "fp16", batch=4, hardware="cuda", options={"batches": "up_to"})
    with pytest.raises(StageError, match=r"the plan does not take x \(4, 3\)"):
        opened(tmp_path, large)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"about": {"gpu": "NVIDIA L4"}}, r"built by TensorRT 11\.4\.0\.106 for the NVIDIA L4, and runs nowhere else"),
        ({"about": {"tensorrt": "11.5"}}, r"here are TensorRT 11\.4\.0\.106 and NVIDIA Fake: build it here"),
        ({"depends": True}, "the shape of an output depends on the data"),
    ],
)
def test_what_cannot_run_here_is_refused_when_loading(
    tensorrt: ModuleType, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(StageError, match=said) as refused:
        opened(plan(tmp_path, **changes), deployment())
    assert refused.value.kind is FailureKind.UNSUPPORTED


def test_a_damaged_plan_is_refused_in_tensorrts_words(tensorrt: ModuleType, tmp_path: Path) -> None:
    (plan(tmp_path) / "model.plan").write_bytes(b"damaged")
    with pytest.raises(StageError, match="cannot load the plan: RuntimeError: Magic tag does not match"):
        opened(tmp_path, deployment())


def test_types_are_the_networks_own_where_the_plan_tells_of_no_layer(tensorrt: ModuleType, tmp_path: Path) -> None:
    effective = opened(plan(tmp_path, layers=["fc", "pool"]), deployment()).effective()
    assert (effective.precision, effective.details["told by"]) == ("fp16", "the network's types")


def layer(kind: str, told: str, tactic: str = "", field: str = "DataType") -> dict[str, Any]:
    return {"Name": "n", "LayerType": kind, "TacticName": tactic, "Inputs": [{"Name": "x", field: told}]}


@pytest.mark.parametrize(
    ("layers", "counts"),
    [
        ([layer("gemm", "Float"), layer("CaskConvolution", "Half")], {"fp32": 1, "fp16": 1}),
        ([layer("conv", "BFloat16"), layer("conv", "Int8")], {"bf16": 1, "int8": 1}),
        # As TensorRT 10 writes it.
        (
            [layer("CaskConvolution", "Four wide channel vectorized row major Int8 format", field="Format/Datatype")],
            {"int8": 1},
        ),
        ([layer("kgen", "Half", "__myl_MatMulAdd_0x1"), layer("kgen", "Float", "__myl_Gelu_0x2")], {"fp16": 1}),
        ([layer("Reformat", "Float", "0x3e8"), layer("PoolMax", "Int8")], {}),
        ([layer("gemm", "Float", "sm80_xmma_gemm_f32f32_tf32f32_f32_nn_n")], {"tf32": 1}),
    ],
)
def test_the_inspectors_layers_are_counted_by_what_they_read(layers: list[Any], counts: dict[str, int]) -> None:
    assert executed(json.dumps({"Layers": layers}), tf32_is="tf32") == counts


def test_tf32_is_fp32_where_it_was_allowed() -> None:
    told = json.dumps({"Layers": [layer("gemm", "Float", "sm80_xmma_gemm_f32f32_tf32f32_f32")]})
    assert executed(told, tf32_is="fp32") == {"fp32": 1}
