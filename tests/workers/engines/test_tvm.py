"""TVM: tuned or refused, its records kept, its threads counted by the operating system, nothing left behind."""

import gzip
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoopt.errors import FailureKind, StageError
from autoopt.records import Deployment, Signature, TensorSpec, canonical_json
from autoopt.testing.engine_networks import NETWORKS, Network
from autoopt.testing.engines import Workbench
from autoopt.workers import formats
from autoopt.workers.engines import Source, engine, tvm, tvm_import, tvm_lowering, tvm_trial, tvm_tuning
from autoopt.workers.process import system
from autoopt.workers.process.child import THREAD_VARIABLES

pytest.importorskip("tvm")

RESIDUAL = NETWORKS[0]
LARGE = Network(
    "large",
    lambda: nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.Flatten(), nn.Linear(32 * 60 * 60, 8)
    ),
    Signature("array", (TensorSpec("x", (3, 64, 64), "float32"),)),
)


@pytest.fixture(scope="module")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return Workbench(tmp_path_factory.mktemp("workbench"))


@pytest.fixture(scope="module")
def artifact(workbench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The residual network, from an ONNX file, tuned for some seconds."""
    folder = tmp_path_factory.mktemp("artifact")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tvm, "TUNING_S", 4.0)
        _build(workbench, RESIDUAL, Deployment("tvm"), folder, "onnx")
    return folder


def _build(workbench: Workbench, network: Network, deployment: Deployment, folder: Path, form: str = "module") -> None:
    engine("tvm").build(workbench.source(network, (form,), deployment), deployment, folder)


def _run(program: str) -> Any:
    command = [sys.executable, "-c", textwrap.dedent(program)]
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, "1")  # numpy would start threads of its own
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=environment)
    return json.loads(done.stdout)


def _loading(folder: Path, network: Network, threads: int) -> str:
    """The beginning of a program that serves an artifact as ``call()``."""
    signature = canonical_json(network.signature)
    return f"""
        import json, os, pathlib, sys, time
        import numpy as np
        from autoopt.records import Deployment, Signature, from_json
        from autoopt.workers.engines import engine
        signature = from_json(Signature, json.loads({signature!r}))
        inputs = tuple(np.ones((1, *spec.shape), spec.dtype) for spec in signature.tensors)
        session = engine("tvm").load(pathlib.Path({str(folder)!r}), Deployment("tvm", threads={threads}), signature)
        def call():
            return session(inputs)
        call()
"""


def test_what_was_not_tuned_is_refused(workbench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tvm, "TUNING_S", 0.0)
    with pytest.raises(StageError, match="0 of 6 tasks, 0 trials, 0 s, which do 0% of the network's arith") as refused:
        _build(workbench, RESIDUAL, Deployment("tvm"), tmp_path)
    assert refused.value.kind is FailureKind.UNSUPPORTED
    assert not list(tmp_path.iterdir())


def test_the_artifact_keeps_the_tuning_records_and_says_what_tuning_came_to(artifact: Path, tmp_path: Path) -> None:
    from tvm.s_tir.meta_schedule.database import JSONDatabase

    for packed in (artifact / "records").iterdir():
        (tmp_path / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
    records = JSONDatabase(str(tmp_path / "workloads.json"), str(tmp_path / "records.json"))
    told = json.loads((artifact / "build.json").read_text())["tuning"]
    assert len(records) == told["trials"] >= told["tuned"] == told["tasks"] == 6
    assert told["share"] == 1
    session = engine("tvm").load(artifact, Deployment("tvm"), RESIDUAL.signature)
    assert session.effective().details["tuning"].startswith(f"6 of 6 tasks, {told['trials']} trials, ")
    assert session.effective().details["compute kernels"] == "4 of 4 fp32"


def test_serving_imports_neither_the_compiler_nor_pytorch_and_starts_no_thread(artifact: Path) -> None:
    told = _run(
        _loading(artifact, RESIDUAL, 1)
        + """
        modules = [name for name in ("torch", "onnx", "tvm") if name in sys.modules]
        print(json.dumps([modules, len(os.listdir("/proc/self/task")), session.effective().threads]))
        """
    )
    assert told == [[], 1, 1]


@pytest.mark.slow
def test_two_threads_compute_and_sleep_between_calls(workbench: Workbench, tmp_path: Path) -> None:
    _build(workbench, LARGE, Deployment("tvm", threads=2), tmp_path)
    told = _run(
        _loading(tmp_path, LARGE, 2)
        + """
        from autoopt.workers.measure.server import _thread_times
        before, end = _thread_times(), time.monotonic() + 2
        while time.monotonic() < end:
            call()
        spent = sorted((now - before.get(thread, 0) for thread, now in _thread_times().items()), reverse=True)
        idle = []
        for _ in range(5):
            call()
            start = time.process_time()
            time.sleep(0.3)
            idle.append(time.process_time() - start)
        print(json.dumps([len(spent), spent[1] / spent[0], min(idle), session.effective().threads]))
        """
    )
    threads, share, idle_s, effective = told
    assert (threads, effective) == (2, 2)
    assert share > 0.25
    # TVM left to itself spins on for 0.15 s every time.
    assert idle_s < 0.01


def test_a_process_with_too_few_threads_of_tvm_says_so(artifact: Path, tmp_path: Path) -> None:
    facts = json.loads((artifact / "build.json").read_text())
    for threads in (2, 3):
        folder = tmp_path / str(threads)
        folder.mkdir()
        (folder / "model.so").symlink_to(artifact / "model.so")
        (folder / "build.json").write_text(json.dumps(facts | {"threads": threads}))
    told = _run(
        _loading(tmp_path / "2", RESIDUAL, 2)
        + f"""
        from autoopt.errors import StageError
        try:
            engine("tvm").load(pathlib.Path({str(tmp_path / "3")!r}), Deployment("tvm", threads=3), signature)
        except StageError as error:
            print(json.dumps(error.message))
        """
    )
    assert told == "TVM has 2 threads in this process and cannot start more; 3 need a process of their own"


def test_machine_code_for_other_instructions_is_refused(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = json.loads((artifact / "build.json").read_text())
    monkeypatch.setattr(tvm, "cpu_flags", lambda: frozenset(facts["instructions"][1:]))
    with pytest.raises(StageError, match=f"with {facts['instructions'][0]}; this one has none"):
        engine("tvm").load(artifact, Deployment("tvm"), RESIDUAL.signature)


def test_positions_counted_from_the_end_are_read_from_the_end(tmp_path: Path) -> None:
    import tvm as library
    from tvm import relax

    class Last(nn.Module):
        """x: float32, (N, 3, 4)."""

        def forward(self, x: Tensor) -> Tensor:
            return x[:, -1] + x[..., -2:-1].squeeze(-1).sum()

    signature = Signature("array", (TensorSpec("x", (3, 4), "float32"),))
    source = formats.save(Last(), "module", tmp_path, signature)
    program = tvm_import.import_network(source, 1)
    machine = relax.VirtualMachine(relax.build(program, library.target.Target("llvm")), library.cpu())
    x = torch.arange(12.0).reshape(1, 3, 4)
    torch.testing.assert_close(torch.from_numpy(machine["main"](library.runtime.tensor(x.numpy())).numpy()), Last()(x))


def _tasks(module: nn.Module, shape: tuple[int, ...], folder: Path) -> Any:
    import tvm as library

    source = formats.save(module, "module", folder, Signature("array", (TensorSpec("x", shape, "float32"),)))
    return tvm_lowering.to_tasks(tvm_import.import_network(source, 1), library.target.Target("llvm"))


def test_batch_normalizations_are_folded_and_convolutions_have_their_channels_last(tmp_path: Path) -> None:
    text = _tasks(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()), (3, 16, 16), tmp_path).script()
    assert "conv2d_nhwc" in text
    assert "divide" not in text
    assert "sqrt" not in text


def test_what_has_no_loops_with_channels_last_is_taken_with_channels_first(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ConvTranspose2d(8, 4, 2, 2))
    text = _tasks(network, (3, 16, 16), tmp_path).script()
    assert "conv2d_nchw" in text
    assert "nn.conv2d_transpose" not in text


def test_an_operator_that_tvm_knows_only_from_onnx_is_imported_by_way_of_it(tmp_path: Path) -> None:
    class Largest(nn.Module):
        """x: float32, (N, 4, 5)."""

        def forward(self, x: Tensor) -> Tensor:
            return x.amax(-1)

    assert "max" in _tasks(Largest(), (4, 5), tmp_path).script()


@pytest.mark.parametrize(("activation", "name"), [(nn.GELU(), "erf"), (nn.SiLU(), "exp"), (nn.Sigmoid(), "exp")])
def test_activations_are_vectorized_approximations_exact_to_single_precision(
    tmp_path: Path, activation: nn.Module, name: str
) -> None:
    import tvm as library
    from tvm import relax

    signature = Signature("array", (TensorSpec("x", (4001,), "float32"),))
    target = library.target.Target("llvm")
    source = formats.save(activation, "module", tmp_path, signature)
    program = tvm_lowering.to_tasks(tvm_import.import_network(source, 1), target)
    assert any(f"fast_{name}" in variable.name_hint for variable in program.get_global_vars())
    machine = relax.VirtualMachine(relax.build(program, target), library.cpu())
    x = torch.linspace(-20, 20, 4001)[None]
    outputs = torch.from_numpy(machine["main"](library.runtime.tensor(x.numpy())).numpy())
    torch.testing.assert_close(outputs, activation(x), atol=1e-6, rtol=1e-5)


def test_a_networks_precision_is_that_in_which_its_kernels_multiply() -> None:
    import tvm as library
    from tvm import te

    def product(dtype: str) -> Any:
        a, b = (te.placeholder((8, 8), dtype, name=name) for name in "ab")
        k = te.reduce_axis((0, 8))
        return te.create_prim_func([a, b, te.compute((8, 8), lambda i, j: te.sum(a[i, k] * b[k, j], axis=k))])

    program = library.IRModule({"first": product("float32"), "second": product("float32"), "third": product("float16")})
    assert tvm_lowering.computed_types(program) == {"fp32": 2, "fp16": 1}


def test_a_schedule_that_hangs_is_given_up_and_its_process_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tvm_trial, "TRIAL_LIMIT_S", 1)
    monkeypatch.setattr(tvm_trial, "PATIENCE", 0.5)
    monkeypatch.setattr(tvm_trial, "_seconds", lambda *_: time.sleep(60))
    before = system.children(os.getpid())
    assert tvm_trial.time_in_child(None, None, 1, None) is None
    assert system.children(os.getpid()) == before


def test_a_schedule_that_fails_is_one_that_was_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tvm_trial, "_seconds", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    assert tvm_trial.time_in_child(None, None, 1, None) is None


def test_a_task_is_done_when_schedule_after_schedule_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([None, 1e-3, 0.995e-3, 0.9e-3, None, 0.9e-3, 0.9e-3])
    context = SimpleNamespace(generate_measure_candidates=lambda: [None], notify_runner_results=lambda *_: None)
    monkeypatch.setattr(tvm_tuning, "STALE", 3)
    monkeypatch.setattr(tvm_tuning, "_time_once", lambda *_: next(times))
    monkeypatch.setattr(tvm_tuning, "_record", lambda task, _, seconds, *__: setattr(task, "best_s", seconds))
    task = tvm_tuning._Task(context, None, 1, 1.0)
    while not task.exhausted:
        tvm_tuning._try(task, None, 1, None)
    assert task.drawn == 7


def test_time_goes_first_to_tasks_without_a_schedule_then_to_where_the_network_spends_it() -> None:
    def task(best_s: float | None, drawn: int, calls: int = 1) -> Any:
        made = tvm_tuning._Task(SimpleNamespace(), None, calls, operations=100.0)
        made.best_s, made.drawn = best_s, drawn
        return made

    fresh, large, searched, small = task(None, 0), task(1e-3, 10, calls=3), task(1e-3, 90), task(1e-6, 10)
    assert tvm_tuning._next([large, searched, small, fresh]) is fresh
    assert tvm_tuning._next([small, searched, large]) is large
    assert tvm_tuning._next([small, replace(large, exhausted=True)]) is None


def test_a_source_with_inputs_in_another_order_is_called_by_name(tmp_path: Path, workbench: Workbench) -> None:
    import onnx

    network = next(network for network in NETWORKS if network.name == "two_inputs")
    source = workbench.source(network, ("onnx",), Deployment("tvm"))
    model = formats.load(source)
    model.graph.input.reverse()
    onnx.save(model, tmp_path / "model.onnx")
    program = tvm_import.import_network(Source("onnx", tmp_path, network.signature), 1)
    assert [parameter.name for parameter in program["main"].params] == ["image", "table"]
