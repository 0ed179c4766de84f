"""Equal resources: how many threads may have computed."""

import pytest

from autoopt.errors import FailureKind, StageError
from autoopt.records import Deployment
from autoopt.workers.measure.resources import require_threads

THREE_THAT_COMPUTED = (40_000, 35_000, 30_000, 100)


def test_a_caller_that_takes_turns_with_its_pool_is_one_thread_more() -> None:
    require_threads(THREE_THAT_COMPUTED, Deployment("xla", threads=2))


@pytest.mark.parametrize(
    ("spent", "deployment"),
    [
        (THREE_THAT_COMPUTED, Deployment("onnxruntime", threads=2)),
        ((*THREE_THAT_COMPUTED[:3], 20_000), Deployment("xla", threads=2)),
        ((40_000, 20_000), Deployment("xla", threads=1)),
    ],
    ids=["whose caller is one of the pool", "more than one thread more", "with one thread there are no turns"],
)
def test_other_threads_than_asked_for_are_refused(spent: tuple[int, ...], deployment: Deployment) -> None:
    with pytest.raises(StageError, match="threads") as refused:
        require_threads(spent, deployment)
    assert refused.value.kind is FailureKind.NOT_AS_ASKED
