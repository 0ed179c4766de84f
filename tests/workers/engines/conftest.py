"""What tests of engines share."""

import pytest

from autoopt.workers.engines import tvm

TUNING_S = 4.0
"""Of TVM: enough for a schedule or two of everything; how good they are is not asked here."""


@pytest.fixture(autouse=True)
def little_tuning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tvm, "TUNING_S", TUNING_S)
