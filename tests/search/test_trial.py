"""Where a candidate's stages run."""

from __future__ import annotations

import pytest

from autoopt.records import Candidate, Deployment, Step
from autoopt.search.trial import placed
from autoopt.workers.stages.stage import Role, Stage

SERVED = Deployment("null", "fp32")
CHANGED = Candidate((Step("student", {"depth": 0.5}), Step("recovery", {"epochs": 1.0})), SERVED)
UNCHANGED = Candidate((Step("static_quantization", {}),), SERVED)


def stage(role: Role) -> Stage:
    return Stage("build", "null", {}, ("task",), role, 60.0, {})


@pytest.mark.parametrize(
    ("candidate", "role", "settled", "expected"),
    [
        (CHANGED, Role.BUILDER, False, Role.FINISHER),
        (CHANGED, Role.BUILDER, True, Role.BUILDER),
        (UNCHANGED, Role.BUILDER, False, Role.BUILDER),
        (CHANGED, Role.LANE, False, Role.LANE),
        (CHANGED, Role.TRAINER, False, Role.TRAINER),
    ],
)
def test_the_first_networks_are_built_at_the_trainings_priority(
    candidate: Candidate, role: Role, *, settled: bool, expected: Role
) -> None:
    before = stage(role)
    after = placed(before, candidate, lambda: settled)
    assert after.role is expected
    assert after.key == before.key
