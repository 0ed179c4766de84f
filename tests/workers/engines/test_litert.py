"""What LiteRT's engine says of the kernels that ran."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from ai_edge_litert.interpreter import Interpreter

from autoopt.errors import FailureKind, StageError
from autoopt.records import Deployment
from autoopt.testing.engine_networks import NETWORKS, Network
from autoopt.testing.engines import Workbench
from autoopt.workers.engines import engine
from autoopt.workers.engines.base import Session
from autoopt.workers.engines.litert_graph import Operation, Tensor, operations

LITERT = engine("litert")
BY_NAME = {network.name: network for network in NETWORKS}
PLAIN = Deployment("litert")


@pytest.fixture(scope="module")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return Workbench(tmp_path_factory.mktemp("workbench"))


def _session(workbench: Workbench, folder: Path, network: Network, deployment: Deployment) -> Session:
    LITERT.build(workbench.source(network, LITERT.formats, deployment), deployment, folder)
    session = LITERT.load(folder, deployment, network.signature)
    session(network.inputs(deployment.batch))
    return session


def test_what_xnnpack_takes_and_what_it_leaves_is_told(workbench: Workbench, tmp_path: Path) -> None:
    details = _session(workbench, tmp_path, BY_NAME["bytes"], PLAIN).effective().details
    assert details["XNNPACK"] == "4 of 6 nodes"
    assert details["built-in kernels"] == "CAST, TRANSPOSE"


def test_without_fusion_nothing_is_given_to_xnnpack(workbench: Workbench, tmp_path: Path) -> None:
    effective = _session(workbench, tmp_path, BY_NAME["bytes"], replace(PLAIN, fusion="none")).effective()
    assert effective.details["XNNPACK"] == "0 of 6 nodes"
    assert effective.threads == 1


def test_the_built_in_kernels_are_refused_on_several_threads(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="run on one thread here, not 2") as refused:
        LITERT.load(tmp_path, Deployment("litert", fusion="none", threads=2), BY_NAME["bytes"].signature)
    assert refused.value.kind is FailureKind.UNSUPPORTED


def test_a_part_that_xnnpack_runs_is_what_lies_between_its_ends(workbench: Workbench, tmp_path: Path) -> None:
    # LiteRT says so itself where nothing may be delegated together: then each operation has a part of its own.
    _session(workbench, tmp_path, BY_NAME["keywords"], PLAIN)
    file = str(tmp_path / "model.tflite")
    single = Interpreter(file, experimental_disable_delegate_node_fusion=True)
    whole = Interpreter(file)
    for interpreter in (single, whole):
        interpreter.allocate_tensors()
    parts = [each for each in single._get_ops_details() if each["op_name"] == "DELEGATE"]
    taken = [each.delegated for each in operations(whole)]
    assert sum(taken) == len(parts) == 17
    assert taken == [each.delegated for each in operations(single)]


def _tensor(type_: str, *, constant: bool = False) -> Tensor:
    return Tensor(0, "", type_, constant)


@pytest.mark.parametrize(
    ("name", "operands", "precision"),
    [
        ("CONV_2D", (_tensor("float32"), _tensor("float32", constant=True)), "fp32"),
        ("CONV_2D", (_tensor("int8"), _tensor("int8", constant=True), _tensor("int32", constant=True)), "int8"),
        ("FULLY_CONNECTED", (_tensor("float32"), _tensor("int8", constant=True)), "int8_dynamic"),
        ("FULLY_CONNECTED", (_tensor("int16"), _tensor("int8", constant=True)), "int16"),
        ("BATCH_MATMUL", (_tensor("float32"), _tensor("float32")), None),
        ("EMBEDDING_LOOKUP", (_tensor("int32"), _tensor("int8", constant=True)), None),
    ],
)
def test_an_operation_computes_in_what_its_operands_are(
    name: str, operands: tuple[Tensor, ...], precision: str | None
) -> None:
    assert Operation(name, operands, (), delegated=True).precision == precision


def test_weights_that_are_unpacked_before_they_are_used_are_weights_in_fp32(workbench: Workbench) -> None:
    from ai_edge_quantizer import quantizer, recipe

    from autoopt.workers import formats

    source = workbench.source(BY_NAME["two_inputs"], LITERT.formats, PLAIN)
    tool = quantizer.Quantizer(formats.load(source), recipe.weight_only_wi8_afp32())
    content = bytes(tool.quantize(enable_progress_report=False).quantized_model)
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    assert [each.precision for each in operations(interpreter) if each.precision] == ["fp32"] * 3
