"""XLA's engine where the suite of all engines does not look: threads, what makes an executable stale, weights, and what ran."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autoopt.errors import StageError
from autoopt.records import Deployment, Signature, TensorSpec
from autoopt.testing.engine_networks import NETWORKS
from autoopt.workers import formats
from autoopt.workers.engines import engine, xla
from autoopt.workers.engines.base import Session
from autoopt.workers.engines.xla_client import Client, open_client
from autoopt.workers.engines.xla_export import Cast, export_stablehlo
from autoopt.workers.engines.xla_hlo import count_products, executed_types
from autoopt.workers.engines.xla_session import XlaDeviceSession
from autoopt.workers.measure.resources import require_threads
from autoopt.workers.measure.server import _thread_times

XLA = Deployment("xla")
RESIDUAL = NETWORKS[0]


class Branches(nn.Module):
    """x: float32, (N, 3, 32, 32). Twenty convolutions that could all run at once."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.branches = nn.ModuleList(nn.Conv2d(32, 32, 3, padding=1) for _ in range(20))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        return torch.cat([branch(x).relu().mean((2, 3)) for branch in self.branches], dim=1)


class Constants(nn.Module):
    """x: float32, (N, 4). Weights of every type that a network may hold."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.tensor([0.0, float("-inf"), 0.0, float("inf")]))
        self.register_buffer("chosen", torch.tensor([[True, False, True, True], [False, True, False, False]]))
        self.register_buffer("switch", torch.ones((), dtype=torch.bool))
        self.register_buffer("octets", torch.tensor([0, 1, 128, 255], dtype=torch.uint8))
        self.register_buffer("indices", torch.tensor([3, -1, 0, 2]))
        self.register_buffer("short", torch.tensor([1.5, -2.0, 3.25, 0.0], dtype=torch.bfloat16))
        self.register_buffer("scale", torch.tensor(2.5))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        scaled = torch.where(self.chosen[0] & self.switch, x * self.scale, x)
        return scaled + self.mask, self.chosen, x + self.octets, x[:, self.indices], x * self.short.float()


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _built(RESIDUAL.module(), RESIDUAL.signature, tmp_path_factory.mktemp("xla"), XLA)


@pytest.fixture
def copied(artifact: Path, tmp_path: Path) -> Path:
    for file in artifact.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def _built(module: nn.Module, signature: Signature, folder: Path, deployment: Deployment) -> Path:
    source, out = formats.save(module, "module", folder / "source", signature), folder / "artifact"
    out.mkdir()
    engine("xla").build(source, deployment, out)
    return out


def _called(folder: Path, deployment: Deployment = XLA) -> tuple[Session, np.ndarray]:
    session = engine("xla").load(folder, deployment, RESIDUAL.signature)
    return session, session(RESIDUAL.inputs(1))[0].copy()


def _spent(session: Session, inputs: tuple[np.ndarray, ...], calls: int) -> tuple[int, ...]:
    """Processor time of each thread during the calls, the busiest first."""
    for _ in range(5):
        session(inputs)
    before = _thread_times()
    for _ in range(calls):
        session(inputs)
    return tuple(sorted((now - before.get(thread, 0) for thread, now in _thread_times().items()), reverse=True))


def test_one_thread_computes_even_twenty_branches(tmp_path: Path) -> None:
    signature = Signature("array", (TensorSpec("x", (3, 32, 32), "float32"),))
    session = engine("xla").load(_built(Branches().eval(), signature, tmp_path, XLA), XLA, signature)
    spent = _spent(session, (np.ones((1, 3, 32, 32), np.float32),), calls=50)
    require_threads(spent, XLA)
    assert session.effective().threads == 1


def test_two_threads_share_the_work_of_a_large_network(tmp_path: Path) -> None:
    two = Deployment("xla", threads=2)
    signature = Signature("array", (TensorSpec("x", (3, 112, 112), "float32"),))
    layers = [nn.Conv2d(3, 64, 3, padding=1), *[nn.Conv2d(64, 64, 3, padding=1) for _ in range(3)]]
    network = nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())]).eval()
    session = engine("xla").load(_built(network, signature, tmp_path, two), two, signature)
    spent = _spent(session, (np.ones((1, 3, 112, 112), np.float32),), calls=20)
    require_threads(spent, two)
    assert spent[1] > 0.25 * spent[0]
    assert session.effective().threads == 2


@pytest.mark.parametrize(("threads", "fusion", "fusions"), [(1, "default", 1), (1, "native", 0), (2, "default", 0)])
def test_ynnpack_takes_products_by_default_and_only_where_one_thread_computes(
    threads: int, fusion: str, fusions: int
) -> None:
    client = open_client("cpu", threads)
    program = export_stablehlo(Cast(nn.Linear(64, 64).eval(), torch.float32), (torch.ones(8, 64),))
    executable = client.compile(program, xla._options(Deployment("xla", fusion=fusion, threads=threads)))
    (module,) = executable.hlo_modules()
    assert module.to_string().count("__ynn_fusion") == fusions


def test_a_session_keeps_to_its_threads_beside_one_with_more(artifact: Path) -> None:
    two, _ = _called(artifact, Deployment("xla", threads=2))
    one, _ = _called(artifact)
    assert (one.effective().threads, two.effective().threads) == (1, 2)


def test_what_was_built_here_is_not_compiled_again(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Client, "compile", None)
    session, _ = _called(artifact)
    assert session.effective().details["executable"] == "as built"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"jaxlib": "0.1"}, "compiled when it was loaded: it was built by jaxlib 0.1, here is "),
        ({"features": ["fpu", "avx9000"]}, "compiled when it was loaded: it was built for a processor that has "),
    ],
)
def test_an_executable_of_elsewhere_is_compiled_anew_and_it_is_said_so(
    copied: Path, change: dict[str, Any], why: str
) -> None:
    expected = _called(copied)[1]
    place = copied / "made_for.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | change))
    session, output = _called(copied)
    assert session.effective().details["executable"].startswith(why)
    np.testing.assert_allclose(output, expected, atol=1e-6)


def test_an_executable_that_xla_refuses_is_compiled_anew(copied: Path) -> None:
    expected = _called(copied)[1]
    (copied / "model.executable").write_bytes(b"of another version")
    session, output = _called(copied)
    assert session.effective().details["executable"].startswith("compiled when it was loaded: ")
    np.testing.assert_allclose(output, expected, atol=1e-6)


def test_loading_imports_neither_torch_nor_jax(artifact: Path) -> None:
    program = textwrap.dedent(f"""
        import sys
        from pathlib import Path
        import numpy as np
        from autoopt.records import Deployment, Signature, TensorSpec
        from autoopt.workers.engines import engine
        signature = Signature("array", (TensorSpec("x", (3, 16, 16), "float32"),))
        session = engine("xla").load(Path({str(artifact)!r}), Deployment("xla"), signature)
        session((np.ones((1, 3, 16, 16), np.float32),))
        session.effective()
        print([m for m in ("torch", "jax", "litert_torch", "scipy") if m in sys.modules])
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


def test_weights_of_every_type_arrive_bit_by_bit(tmp_path: Path) -> None:
    network, signature = Constants().eval(), Signature("array", (TensorSpec("x", (4,), "float32"),))
    x = np.array([[0.5, -1.0, 2.0, 3.0]], np.float32)
    session = engine("xla").load(_built(network, signature, tmp_path, XLA), XLA, signature)
    for output, expected in zip(session((x,)), network(torch.from_numpy(x)), strict=True):
        np.testing.assert_array_equal(output, expected.numpy())


def test_a_network_in_bf16_takes_and_gives_float32() -> None:
    network = Cast(nn.Linear(4, 2).eval(), torch.bfloat16)
    (output,) = network(torch.ones(1, 4))
    assert network.network.weight.dtype == torch.bfloat16
    assert output.dtype == torch.float32


def test_xla_computes_bf16_in_fp32_on_a_cpu_and_it_is_told_so(tmp_path: Path) -> None:
    client = open_client("cpu", 1)
    program = export_stablehlo(Cast(nn.Linear(64, 64).eval(), torch.bfloat16), (torch.ones(8, 64),))
    assert executed_types(client.compile(program, {})) == {"fp32": 1}
    with pytest.raises(StageError, match="does not execute bf16 here; it executes fp32"):
        engine("xla").load(tmp_path, Deployment("xla", "bf16"), RESIDUAL.signature)


def test_products_are_counted_by_what_they_multiply() -> None:
    hlo = """
      %dot.1 = f32[8,4]{1,0} dot(bf16[8,16]{1,0} %x, bf16[16,4]{1,0} %w), lhs_contracting_dims={1}
      ROOT %convolution = f32[1,8,8,4]{3,2,1,0} convolution(/*lhs*/f32[1,8,8,3]{3,2,1,0} %x, f32[3,3,3,4]{3,2,1,0} %k), window={}
      %gemm = (f16[8,4]{1,0}, s8[64]{0}) custom-call(f16[8,16]{1,0} %x, f16[16,4]{1,0} %w), custom_call_target="__cublas$gemm"
      %conv = f32[1,4,8,8]{3,2,1,0} custom-call(f32[1,3,8,8]{3,2,1,0} %x), custom_call_target="__cudnn$convForward"
      %top = f32[8]{0} custom-call(f32[64]{0} %x), custom_call_target="TopK"
      %fusion = f32[8,4]{1,0} fusion(f32[8,16]{1,0} %x), calls=%dot_computation
    """
    assert count_products(hlo) == {"bf16": 1, "fp32": 2, "fp16": 1}


def test_full_precision_is_asked_for_where_a_gpu_would_use_less() -> None:
    from jaxlib.mlir import ir
    from jaxlib.mlir.dialects import stablehlo

    inputs = formats.example_inputs(RESIDUAL.signature, 1)
    module = Cast(RESIDUAL.module(), torch.float32)
    artifact = export_stablehlo(module, inputs, highest=True)
    program = str(stablehlo.deserialize_portable_artifact(ir.Context(), artifact))
    assert program.count("HIGHEST") == 2 * 4  # both sides of three convolutions and a matrix product


def test_another_device_than_the_cpu_is_fed_by_jax(artifact: Path) -> None:
    import jax

    expected = _called(artifact)[1]
    client = Client(jax.devices("cpu")[0], "cuda", frozenset())
    executable = client.compile((artifact / "model.stablehlo").read_bytes(), {})
    session = XlaDeviceSession(client, executable, "as built", RESIDUAL.signature, 1)
    np.testing.assert_allclose(session(RESIDUAL.inputs(1))[0], expected, atol=1e-6)
    assert session.effective().hardware == "cpu"  # as the device itself says


def test_a_fusion_level_of_the_cpu_is_refused_on_a_gpu() -> None:
    with pytest.raises(StageError, match="fusion level 'native' on the CPU only"):
        xla._options(Deployment("xla", fusion="native", hardware="cuda"))


def test_without_the_exporter_nothing_is_offered_and_artifacts_still_open(
    monkeypatch: pytest.MonkeyPatch, artifact: Path
) -> None:
    monkeypatch.setitem(sys.modules, "litert_torch", None)
    offer = engine("xla").offer()
    assert not offer.available
    assert "litert_torch" in str(offer.reason)
    assert offer.remedy == "pip install 'autoopt[xla]'"
    _called(artifact)
