"""What ran is what was asked: how much of a network must execute in its precision, how many threads may have computed."""

import pytest

from autoopt.errors import FailureKind, StageError
from autoopt.records import Deployment, Effective
from autoopt.workers.measure.records import Executed
from autoopt.workers.measure.resources import require_as_asked, require_threads

INT8 = Deployment("any", "int8")


def ran(nodes: dict[str, int], time: dict[str, float] | None = None) -> Effective:
    return Effective("1", "cpu", "fp32", 1, nodes=nodes, time=time or {})


def test_a_network_of_which_half_the_nodes_fell_back_passes_and_one_of_which_more_did_fails() -> None:
    require_as_asked(ran({"int8": 1, "fp32": 1}), INT8, Executed())
    with pytest.raises(StageError, match="1 of 3 compute nodes in int8") as refused:
        require_as_asked(ran({"int8": 1, "fp32": 2}), INT8, Executed())
    assert refused.value.kind is FailureKind.NOT_AS_ASKED


def test_the_threshold_is_the_spaces() -> None:
    require_as_asked(ran({"int8": 1, "fp32": 2}), INT8, Executed(nodes=0.3))
    with pytest.raises(StageError, match="at least 90%"):
        require_as_asked(ran({"int8": 4, "fp32": 1}), INT8, Executed(nodes=0.9))


def test_nodes_that_hardly_take_any_time_do_not_make_a_network_int8() -> None:
    require_as_asked(ran({"int8": 9, "fp32": 1}, {"int8": 0.2, "fp32": 0.8}), INT8, Executed())
    with pytest.raises(StageError, match="5% of their time in int8"):
        require_as_asked(ran({"int8": 9, "fp32": 1}, {"int8": 0.05, "fp32": 0.95}), INT8, Executed())


def test_dynamic_int8_may_call_itself_int8() -> None:
    require_as_asked(ran({"int8": 3, "fp32": 1}), Deployment("any", "int8_dynamic"), Executed())


def test_another_device_or_number_of_threads_is_refused_with_the_details() -> None:
    effective = Effective("1", "cpu", "fp32", 1, {"providers": "CPUExecutionProvider"})
    with pytest.raises(StageError, match=r"hardware cpu instead of cuda, threads 1 instead of 2 \(providers"):
        require_as_asked(effective, Deployment("any", threads=2, hardware="cuda"), Executed())


def test_a_thread_more_than_asked_for_that_computes_is_refused() -> None:
    require_threads((40_000, 35_000, 100), Deployment("any", threads=2))
    with pytest.raises(StageError, match="computed in 3 threads") as refused:
        require_threads((40_000, 35_000, 30_000, 100), Deployment("any", threads=2))
    assert refused.value.kind is FailureKind.NOT_AS_ASKED
