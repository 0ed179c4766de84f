"""Intervals hold the truth as often as they say."""

import numpy as np
import pytest

from autoopt.records import Estimate
from autoopt.workers.measure import statistics


def autocorrelated(rng: np.random.Generator, count: int) -> np.ndarray:
    """AR(1), lognormal noise and spikes, around a median of 0."""
    values = np.empty(count)
    level = 0.0
    for index in range(count):
        level = 0.5 * level + rng.normal(0, 0.01)
        values[index] = level
    values += rng.normal(0, 0.01, count)
    spiked = rng.random(count) < 0.05
    values[spiked] += rng.normal(0, 0.5, spiked.sum())
    return values


def test_the_interval_of_a_noisy_series_holds_its_center_in_93_of_100() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(500):
        found = statistics.center(autocorrelated(rng, 60))
        held += found.low <= 0 <= found.high
    assert held >= 465


def test_a_few_spikes_hardly_move_the_center() -> None:
    series = np.random.default_rng(2).normal(0, 0.01, 60)
    spiked = series.copy()
    spiked[::10] += 5
    assert abs(statistics.center(spiked).value - statistics.center(series).value) < 0.005


@pytest.mark.parametrize(("successes", "low", "high"), [(0, 0.0, 0.0370), (50, 0.4038, 0.5962), (100, 0.9630, 1.0)])
def test_a_proportion_has_wilsons_interval(successes: int, low: float, high: float) -> None:
    found = statistics.proportion(successes, 100)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize("distinct", [True, False])
def test_the_interval_of_a_mean_holds_it_in_92_of_100(*, distinct: bool) -> None:
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(200):
        values = rng.choice((0.0, 0.5, 1.0), 200, p=(0.2, 0.3, 0.5)) if distinct else rng.exponential(0.65, 200)
        found = statistics.mean(values, rng)
        held += found.low <= 0.65 <= found.high
    assert held >= 184


def test_the_interval_of_a_small_paired_drop_holds_it_in_93_of_100() -> None:
    rng = np.random.default_rng(4)
    held = 0
    for _ in range(300):
        reference = (rng.random(500) < 0.9).astype(float)
        mine = np.where(rng.random(500) < 0.02, 0.0, reference)
        found = statistics.mean_difference(reference, mine, rng)
        held += found.low <= 0.9 * 0.02 <= found.high
    assert held >= 279


def test_two_networks_that_differ_in_no_sample_are_not_known_to_be_equal() -> None:
    same = np.ones(400)
    found = statistics.mean_difference(same, same, np.random.default_rng(0))
    assert found.value == 0
    assert -0.02 < found.low < 0 < found.high < 0.02


def test_equal_data_give_equal_intervals() -> None:
    values = np.random.default_rng(5).exponential(1, 100)
    first, second = (statistics.mean(values, np.random.default_rng(0)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("speedup", "words"),
    [
        (Estimate(1.018, 1.012, 1.024), "1.8 % faster (95 % CI 1.2–2.4)"),
        (Estimate(14.2, 13.6, 14.9), "14.2× faster (95 % CI 13.6–14.9)"),
        (Estimate(1 / 1.05, 1 / 1.06, 1 / 1.04), "5.0 % slower (95 % CI 4.0–6.0)"),
        (Estimate(0.25, 0.2, 0.5), "4× slower (95 % CI 2–5)"),
        (Estimate(1.001, 0.99, 1.012), "not distinguishable (95 % CI of the difference -1.0 to +1.2 %)"),
    ],
)
def test_a_speedup_in_words(speedup: Estimate, words: str) -> None:
    assert statistics.words(speedup) == words


def test_a_metric_of_the_whole_split_is_resampled_in_pairs() -> None:
    rng = np.random.default_rng(6)
    values = rng.normal(size=300)
    draws = statistics.resampled(lambda chosen: (values[chosen].std(), values[chosen].std()), 300, rng)
    assert draws.shape == (statistics.SCORE_RESAMPLES, 2)
    assert (draws[:, 0] == draws[:, 1]).all()
    assert draws[:, 0].std() == pytest.approx(1 / np.sqrt(600), rel=0.4)
