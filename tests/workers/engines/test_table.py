"""The table of engines: lazy, extensible, and honest about what is missing."""

import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from autoopt.errors import FailureKind, StageError
from autoopt.records import Deployment
from autoopt.workers import engines as table


def _with_entry_point(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    point = metadata.EntryPoint("foreign", value, table.ENTRY_POINTS)
    monkeypatch.setattr(table, "entry_points", lambda group: [point] if group == table.ENTRY_POINTS else [])
    table.engines.cache_clear()


@pytest.fixture(autouse=True)
def fresh_table() -> Iterator[None]:
    yield
    table.engines.cache_clear()


def test_importing_the_table_and_the_engines_imports_no_runtime() -> None:
    program = (
        "import sys, autoopt.workers.engines as e; e.engines(); "
        "print([m for m in ('torch', 'onnxruntime', 'openvino', 'onnx', 'ai_edge_litert', 'jaxlib', 'tvm_ffi', 'ray') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_misspelt_engine_is_answered_with_the_allowed_names() -> None:
    with pytest.raises(ValueError, match=r"unknown engine 'onnxrt'; there are pytorch, .*onnxruntime.*openvino"):
        table.engine("onnxrt")


def test_every_engine_stands_under_its_own_name() -> None:
    assert {name: each.name for name, each in table.engines().items()} == {name: name for name in table.engines()}


def test_the_null_engine_is_only_there_when_named() -> None:
    assert "null" not in table.engines()
    assert table.engine("null").name == "null"


def test_an_engine_of_another_package_joins_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    _with_entry_point(monkeypatch, "autoopt.workers.engines.null:Null")
    assert table.engine("foreign").name == "null"


@pytest.mark.parametrize(
    "value", ["no_such_package:Engine", "json:loads", "autoopt.records:Deployment", "pathlib:Path"]
)
def test_a_broken_entry_point_becomes_an_engine_that_offers_nothing_and_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str
) -> None:
    _with_entry_point(monkeypatch, value)
    offer = table.offers()["foreign"]
    assert not offer.available
    assert value in offer.reason
    with pytest.raises(StageError) as refused:
        table.engine("foreign").load(tmp_path, Deployment("foreign"), None)
    assert refused.value.kind is FailureKind.UNSUPPORTED


@pytest.mark.parametrize(
    ("name", "runtime"),
    [
        ("onnxruntime", "onnxruntime"),
        ("openvino", "openvino"),
        ("litert", "ai_edge_litert"),
        ("pytorch", "torch"),
        ("xla", "jaxlib.xla_client"),
        ("tvm", "tvm_ffi"),
    ],
)
def test_an_engine_that_is_not_installed_offers_nothing_and_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, name: str, runtime: str
) -> None:
    monkeypatch.setitem(sys.modules, runtime, None)
    offer = table.engine(name).offer()
    assert not offer.available
    assert runtime in offer.reason
    assert "pip install" in offer.remedy


@pytest.mark.parametrize("name", ["inductor", "tvm"])
def test_without_a_compiler_it_offers_nothing_and_says_so(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    if name == "tvm":
        pytest.importorskip("tvm_ffi")
    monkeypatch.setenv("CXX", "no-such-compiler")
    offer = table.engine(name).offer()
    assert not offer.available
    assert "no-such-compiler" in offer.reason
