from __future__ import annotations

import math

import pytest

from autoopt.front import Config
from autoopt.report import ReportData
from autoopt.report.ablation import Gain, ablate
from autoopt.report.waterfall import waterfall

QUANTIZERS = frozenset({"quantize_static"})


@pytest.fixture
def recommended(data: ReportData) -> Config:
    assert data.recommended is not None
    return data.recommended.config


@pytest.fixture
def reference(data: ReportData) -> Config:
    assert data.front is not None
    return data.front.reference


@pytest.fixture
def gains(data: ReportData, recommended: Config, reference: Config) -> tuple[Gain, ...]:
    return ablate(recommended, reference, data.configs, QUANTIZERS)


def test_the_bars_lead_from_the_reference_through_measured_configs_to_the_target(
    gains: tuple[Gain, ...], recommended: Config, data: ReportData
) -> None:
    assert gains[-1].config.id == recommended.id
    assert {gain.config.id for gain in gains} <= {config.id for config in data.configs}
    assert gains[0].choices == ("openvino",)
    assert gains[1].choices == ("int8 by quantize static (preset mixed, samples 512)",)


def test_the_factors_multiply_and_the_drops_add_up_to_the_whole(gains: tuple[Gain, ...], recommended: Config) -> None:
    whole = recommended.validation
    assert math.prod(gain.factor.value for gain in gains) == pytest.approx(whole.speedup.value)
    assert sum(gain.extra_drop.value for gain in gains) == pytest.approx(whole.score_drop.value)


def test_choices_that_were_never_measured_apart_share_a_bar_that_says_so(
    gains: tuple[Gain, ...], data: ReportData
) -> None:
    assert gains[-1].together
    assert gains[-1].choices == ("student (depth 0.56, width 0.75)", "recovery (epochs 4, temperature 3)")
    assert "Not measured apart" in waterfall(data).note


def test_without_any_config_between_there_is_one_bar_for_everything(recommended: Config, reference: Config) -> None:
    (only,) = ablate(recommended, reference, [], QUANTIZERS)
    assert len(only.choices) == 4
    assert only.factor.value == pytest.approx(recommended.validation.speedup.value)


def test_the_reference_itself_has_nothing_to_take_apart(data: ReportData, reference: Config) -> None:
    assert ablate(reference, reference, data.configs) == ()


def test_bars_lie_within_the_drawing(data: ReportData) -> None:
    bars = waterfall(data).bars
    assert bars[0].left == 0
    assert bars[-1].left + bars[-1].width == pytest.approx(100)
    assert all(0 <= bar.left <= bar.left + bar.width <= 100.001 for bar in bars)
