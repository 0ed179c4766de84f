"""What every test of a candidate's stages stands on."""

from __future__ import annotations

import pytest

from autoopt.records import Candidate, Deployment
from autoopt.workers.node import Cores, Node
from autoopt.workers.stages.setup import Setup


@pytest.fixture
def setup() -> Setup:
    """A machine of two cores, and a source network whose training is cut into three rungs."""
    return Setup(
        task_key="t" * 64,
        source_format="module",
        training_samples=20_000,
        reference=Candidate((), Deployment("pytorch")),
        hardware={"default": Node(Cores(lane=(0,), work=(1,))).hardware},
        rungs=(0.25, 1.0, 4.0),
    )
