from __future__ import annotations

import pytest
import torch
from torch import nn

from autoopt.testing.networks import NETWORKS, ResidualCNN
from autoopt.workers.techniques import _layout
from autoopt.workers.techniques._layout import channels_last, is_safe, laid_out

IMAGES, ROWS = NETWORKS[0].signature, NETWORKS[3].signature


@pytest.mark.parametrize(("flags", "safe"), [({"avx2"}, True), ({"avx2", "avx512f"}, False)])
def test_a_narrow_strided_pointwise_convolution_keeps_its_layout(
    flags: set[str], *, safe: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_layout, "cpu_flags", lambda: frozenset(flags))
    assert is_safe(ResidualCNN(width=8)) is safe
    assert not is_safe(ResidualCNN(width=4))
    assert is_safe(ResidualCNN(width=16))
    assert is_safe(nn.Conv2d(4, 8, 1))


def test_images_have_their_channels_last_inside_and_not_after() -> None:
    model = ResidualCNN(width=16)
    with channels_last(model, IMAGES) as images:
        assert images
        assert model.stem[0].weight.is_contiguous(memory_format=torch.channels_last)
        (laid,) = laid_out((torch.zeros(2, 3, 8, 8),), images=images)
        assert laid.is_contiguous(memory_format=torch.channels_last)
    assert model.stage1[0].conv1.weight.is_contiguous()


def test_what_is_no_image_is_left_alone() -> None:
    with channels_last(nn.LSTM(8, 8), ROWS) as images:
        assert not images
