"""What the teacher leaves for those that learn from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import nn

from autoopt.errors import FailureKind, StageError
from autoopt.records import Signature, TensorSpec
from autoopt.testing.tasks import memory_context, random_arrays
from autoopt.workers.stages import teaching
from autoopt.workers.stages.teaching import teach
from autoopt.workers.techniques.base import Context

SIGNATURE = Signature("array", (TensorSpec("x", (1, 8, 8), "float32"),))


def context_of(network: nn.Module, folder: Path) -> Context:
    data = {split: random_arrays(SIGNATURE, 40, seed=1) for split in ("train", "calibration", "validation")}
    return memory_context(network, SIGNATURE, data, folder)


@pytest.fixture
def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).eval()


def test_outputs_and_features_are_the_same_whoever_computes_them(
    network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = context_of(network, tmp_path / "original")
    folders = tmp_path / "exported", tmp_path / "eager"
    for folder in folders:
        folder.mkdir()
    teach(network, context, np.arange(35), folders[0])

    def refuse(*_: object) -> None:
        raise StageError(FailureKind.UNSUPPORTED, "cannot be exported")

    monkeypatch.setattr(teaching, "_exported", refuse)
    teach(network, context, np.arange(35), folders[1])
    for name, shape in (("outputs.npy", (35, 3)), ("features.npy", (35, 144))):
        one, other = (np.load(folder / name) for folder in folders)
        assert one.shape == shape
        np.testing.assert_allclose(one, other, rtol=1e-2, atol=1e-3)
    assert not [path for path in folders[0].iterdir() if path.is_dir()]


def test_a_network_without_features_leaves_outputs_only(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval()
    context = context_of(network, tmp_path / "original")
    teach(network, context, np.arange(20), tmp_path)
    assert np.load(tmp_path / "outputs.npy").shape == (20, 3)
    assert not (tmp_path / "features.npy").exists()
