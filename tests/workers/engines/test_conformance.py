"""Every engine of ours meets the public bar."""

from collections.abc import Iterator

import pytest
from _pytest.mark import ParameterSet

from autoopt.records import Deployment
from autoopt.testing import engines as suite
from autoopt.testing.engine_networks import NETWORKS, UNUSUAL, Network
from autoopt.workers.engines import engine, engines

# A build takes some ten seconds: one case here, the others by `make test-slow`.
COMPILED = ("inductor", "tvm")
CONVERTED = ("litert", "xla")


def _cases() -> Iterator[ParameterSet]:
    for each in engines().values():
        for case in suite.cases(each):
            plain = case.deployment == Deployment(each.name)
            slow = each.name in COMPILED and not (plain and case.network.name == "residual")
            # Two seconds for a conversion: one network in every way here, and two more kinds.
            shown = case.network.name == "residual" or (plain and case.network.name in ("gru", "two_inputs"))
            slow |= each.name in CONVERTED and not shown
            marks = [pytest.mark.slow] if slow else []
            # Where there is a GPU its cases come by themselves, and are run by `pytest -m gpu`.
            if case.deployment.hardware == "cuda":
                marks = [pytest.mark.gpu]
            if (each.name, case.network.name, case.deployment.precision) == ("tensorrt", "gru", "bf16"):
                marks.append(pytest.mark.xfail(reason="its parser makes the constants of a GRU in FP32", strict=True))
            yield pytest.param(case, id=str(case), marks=marks)


def _engine_parameters() -> Iterator[ParameterSet]:
    for name in engines():
        marks = [pytest.mark.slow] if name in COMPILED else []
        yield pytest.param(name, marks=marks)


@pytest.fixture(scope="session")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> suite.Workbench:
    return suite.Workbench(tmp_path_factory.mktemp("workbench"))


@pytest.mark.parametrize("case", list(_cases()))
def test_the_engine_runs_the_network_as_asked(case: suite.Case, workbench: suite.Workbench) -> None:
    suite.check(case, workbench)


@pytest.mark.parametrize("name", list(engines()))
def test_declarations_hold_together(name: str) -> None:
    suite.check_declarations(engine(name))


@pytest.mark.parametrize("name", list(engines()))
def test_a_network_that_cannot_run_is_refused_in_one_sentence(name: str, workbench: suite.Workbench) -> None:
    suite.check_refusal(engine(name), workbench)


@pytest.mark.parametrize("network", UNUSUAL, ids=lambda network: network.name)
@pytest.mark.parametrize("name", list(_engine_parameters()))
def test_an_operator_or_a_shape_that_it_does_not_know_is_refused_in_one_sentence(
    name: str, network: Network, workbench: suite.Workbench
) -> None:
    suite.check_unusual(engine(name), network, workbench)


@pytest.mark.parametrize("name", list(_engine_parameters()))
def test_an_artifact_loads_in_a_fresh_process(name: str, workbench: suite.Workbench) -> None:
    each = engine(name)
    # Nothing but numpy and the engine's own runtime may be needed to serve.
    blocked = () if "torch" in each.packages else ("torch", "onnx", "nncf", "litert_torch", "jax", "ray", "optuna")
    if "cpu" not in each.offer().precisions:
        pytest.skip(f"{name} runs on no processor")
    case = suite.Case(each, NETWORKS[0], Deployment(name))
    suite.check_fresh_process(case, workbench, blocked=blocked)
