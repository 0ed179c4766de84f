"""`Session.effective` is read back from the runtime: an engine that ignores what was asked is caught."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from autoopt.errors import FailureKind, StageError
from autoopt.records import Deployment, Effective
from autoopt.testing.engine_networks import NETWORKS
from autoopt.testing.engines import Workbench
from autoopt.workers.engines import common, engine
from autoopt.workers.engines.common import precision_by_share
from autoopt.workers.engines.inductor import weight_types

RESIDUAL = NETWORKS[0]


@pytest.fixture(scope="module")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return Workbench(tmp_path_factory.mktemp("workbench"))


def _effective(workbench: Workbench, folder: Path, built: Deployment, loaded: Deployment) -> Effective:
    each = engine(built.engine)
    each.build(workbench.source(RESIDUAL, each.formats, built), built, folder)
    session = each.load(folder, loaded, RESIDUAL.signature)
    session(RESIDUAL.inputs(loaded.batch))
    return session.effective()


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "litert"])
def test_an_fp32_network_under_an_int8_deployment_is_told_as_fp32(
    workbench: Workbench, tmp_path: Path, name: str
) -> None:
    effective = _effective(workbench, tmp_path, Deployment(name), Deployment(name, "int8"))
    assert effective.precision == "fp32"
    assert effective.details["compute nodes"] == "4 of 4 fp32"


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "litert"])
def test_an_int8_network_under_an_fp32_deployment_is_told_as_int8(
    workbench: Workbench, tmp_path: Path, name: str
) -> None:
    effective = _effective(workbench, tmp_path, Deployment(name, "int8"), Deployment(name))
    assert effective.precision == "int8"


@pytest.mark.skipif(bool(common._BF16_FLAGS & common.cpu_flags()), reason="this processor executes BF16")
def test_openvino_that_computes_bf16_in_fp32_is_told_as_fp32(
    workbench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if the processor's flags promised BF16: OpenVINO accepts the hint, and computes in FP32.
    monkeypatch.setattr(common, "cpu_flags", lambda: frozenset({"avx512_bf16"}))
    asked = Deployment("openvino", "bf16")
    assert _effective(workbench, tmp_path, asked, asked).precision == "fp32"


@pytest.mark.parametrize("name", ["pytorch", "torchscript"])
def test_pytorch_in_bf16_is_told_as_bf16(
    workbench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(common, "cpu_flags", lambda: frozenset({"avx512_bf16"}))
    asked = Deployment(name, "bf16", fusion="default" if name == "pytorch" else "frozen")
    assert _effective(workbench, tmp_path, asked, asked).precision == "bf16"


@pytest.mark.parametrize("name", ["pytorch", "torchscript", "onnxruntime", "openvino", "litert", "xla"])
def test_a_precision_that_the_processor_does_not_execute_is_refused(
    workbench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(common, "cpu_flags", lambda: frozenset({"avx2"}))
    each = engine(name)
    assert "bf16" not in each.offer().precisions["cpu"]
    with pytest.raises(StageError, match="does not execute bf16 here") as refused:
        each.load(tmp_path, Deployment(name, "bf16"), RESIDUAL.signature)
    assert refused.value.kind is FailureKind.UNSUPPORTED


def test_onnxruntime_refuses_int8_below_the_level_that_executes_it(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="int8 only with fusion default or extended"):
        engine("onnxruntime").load(tmp_path, Deployment("onnxruntime", "int8", fusion="basic"), RESIDUAL.signature)


@pytest.mark.parametrize("name", ["onnxruntime", "litert"])
def test_the_threads_of_a_runtime_are_those_that_it_started(workbench: Workbench, tmp_path: Path, name: str) -> None:
    effective = _effective(workbench, tmp_path, Deployment(name), Deployment(name, threads=3))
    assert effective.threads == 3


@pytest.mark.parametrize(
    ("counts", "precision"),
    [
        ({"fp32": 3}, "fp32"),
        ({"int8": 3, "fp32": 1}, "int8"),
        ({"int8": 1, "fp32": 1}, "int8"),
        ({"int8": 1, "fp32": 2}, "fp32"),
        ({"bf16": 5, "int8": 1}, "bf16"),
        ({}, "fp32"),
    ],
)
def test_a_network_is_called_by_the_precision_that_half_of_it_runs_in(counts: dict[str, int], precision: str) -> None:
    assert precision_by_share(counts)[0] == precision


def test_inductors_precision_is_that_of_its_weight_matrices() -> None:
    program = "".join(
        f"""
    constants_info_[{index}].name = "_frozen_param{index}";
    constants_info_[{index}].dtype = cached_torch_dtype_{dtype};
    constants_info_[{index}].offset = 0;
    constants_info_[{index}].shape = {{{shape}}};
"""
        for index, (dtype, shape) in enumerate(
            [("bfloat16", "8, 3, 3, 3"), ("float32", "8, 10"), ("float32", "10"), ("int64", "4, 4")]
        )
    )
    assert weight_types(program) == {"bf16": 1, "fp32": 1}


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "litert", "xla"])
def test_an_idle_session_of_two_threads_burns_no_processor_time(
    workbench: Workbench, tmp_path: Path, name: str
) -> None:
    each = engine(name)
    each.build(workbench.source(RESIDUAL, each.formats, Deployment(name)), Deployment(name), tmp_path)
    program = textwrap.dedent(f"""
        import time
        from autoopt.records import Deployment, Signature, TensorSpec
        from autoopt.workers.engines import engine
        import numpy as np
        signature = Signature("array", (TensorSpec("x", (3, 16, 16), "float32"),))
        session = engine({name!r}).load(__import__("pathlib").Path({str(tmp_path)!r}), Deployment({name!r}, threads=2), signature)
        idle = []
        for _ in range(5):
            for _ in range(50):
                session((np.ones((1, 3, 16, 16), np.float32),))
            before = time.process_time()
            time.sleep(0.3)
            idle.append(time.process_time() - before)
        print(min(idle))
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    # ONNX Runtime left to itself spins on for about 0.036 s every time; the least of a few pauses is free of what else
    # a process does now and then (its threads' start, on a busy machine).
    assert float(done.stdout) < 0.01


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_the_time_that_each_precision_takes_is_told(workbench: Workbench, tmp_path: Path, name: str) -> None:
    effective = _effective(workbench, tmp_path, Deployment(name, "int8"), Deployment(name, "int8"))
    assert effective.nodes["int8"] >= 3
    assert sum(effective.time.values()) == pytest.approx(1.0)
    assert effective.time["int8"] > 0.1


def test_onnxruntimes_threads_besides_those_for_nodes_side_by_side_help_within_nodes(
    workbench: Workbench, tmp_path: Path
) -> None:
    asked = Deployment("onnxruntime", threads=4, options={"inter_op": 2})
    assert _effective(workbench, tmp_path, asked, asked).threads == 4


def test_streams_that_have_no_thread_are_refused(workbench: Workbench, tmp_path: Path) -> None:
    asked = Deployment("openvino", threads=1, options={"streams": 2})
    with pytest.raises(StageError, match="2 streams need as many threads"):
        _effective(workbench, tmp_path, asked, asked)


@pytest.mark.parametrize(
    ("asked", "detail", "value"),
    [
        (Deployment("openvino", threads=2, options={"streams": 2, "hint": "throughput"}), "streams", "2"),
        (Deployment("openvino", threads=2, options={"hint": "throughput"}), "hint", "throughput"),
        (Deployment("onnxruntime", threads=2, options={"spinning": False}), "spinning", "0"),
        (Deployment("pytorch", options={"onednn": False}), "oneDNN", "False"),
        (Deployment("pytorch"), "oneDNN", "True"),
    ],
)
def test_an_option_is_read_back(
    workbench: Workbench, tmp_path: Path, asked: Deployment, detail: str, value: str
) -> None:
    assert _effective(workbench, tmp_path, asked, asked).details[detail] == value


def test_onednn_fuses_in_torchscript_where_it_is_asked_to(workbench: Workbench, tmp_path: Path) -> None:
    fused, plain = (Deployment("torchscript", fusion=fusion) for fusion in ("onednn_graph", "frozen"))
    assert int(_effective(workbench, tmp_path, fused, fused).details["oneDNN nodes"]) > 0
    assert int(_effective(workbench, tmp_path, plain, plain).details["oneDNN nodes"]) == 0


def test_autocast_runs_convolutions_in_bf16_and_keeps_weights_in_fp32(
    workbench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "cpu_flags", lambda: frozenset({"avx512_bf16"}))
    asked = Deployment("pytorch", "bf16", options={"bf16": "autocast"})
    assert _effective(workbench, tmp_path, asked, asked).precision == "bf16"
