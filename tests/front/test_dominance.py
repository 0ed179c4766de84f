from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import pytest

from autoopt.front import Config, beaten_by, dominance, front, indistinguishable_from
from autoopt.records import Estimate
from autoopt.records.estimates import difference, ratio


def numbers(configs: Iterable[Config]) -> list[int]:
    return [config.number for config in configs]


def test_a_config_ahead_on_both_axes_beats(config: Callable[..., Config]) -> None:
    fast_and_good, slow_and_bad = config(1, 0.1, 0.0), config(2, 0.2, 0.02)
    assert beaten_by(slow_and_bad, [fast_and_good, slow_and_bad]) == (fast_and_good,)
    assert beaten_by(fast_and_good, [fast_and_good, slow_and_bad]) == ()


def test_a_trade_off_keeps_both_sorted_by_latency(config: Callable[..., Config]) -> None:
    accurate, fast = config(1, 0.3, 0.0), config(2, 0.1, 0.02)
    assert numbers(front([accurate, fast])) == [2, 1]


def test_a_score_advantage_within_the_noise_does_not_keep_a_slower_config_on_the_front(
    config: Callable[..., Config],
) -> None:
    slower_and_luckier, faster = config(1, 0.3, 0.0100), config(2, 0.1, 0.0105)
    assert numbers(front([slower_and_luckier, faster])) == [2]
    assert beaten_by(slower_and_luckier, [faster]) == (faster,)


def test_a_latency_advantage_within_the_noise_does_not_keep_a_less_accurate_config_on_the_front(
    config: Callable[..., Config],
) -> None:
    barely_faster, accurate = config(1, 0.1, 0.02), config(2, 0.1005, 0.0)
    assert numbers(front([barely_faster, accurate])) == [2]


def test_of_two_that_cannot_be_told_apart_the_faster_is_listed_and_names_the_other(
    config: Callable[..., Config],
) -> None:
    first, second = config(1, 0.1, 0.0105), config(2, 0.1004, 0.0100)
    listed = front([second, first])
    assert numbers(listed) == [1]
    assert numbers(indistinguishable_from(first, [first, second])) == [2]
    assert beaten_by(second, [first]) == ()


def test_a_config_that_measures_better_is_not_struck_out_for_want_of_certainty(config: Callable[..., Config]) -> None:
    steps = [config(1, 0.3, 0.000), config(2, 0.2, 0.002), config(3, 0.1, 0.004)]
    assert beaten_by(steps[0], steps) == ()
    assert numbers(front(steps)) == [3, 2, 1]


def test_without_uncertainty_and_with_nothing_negligible_the_front_is_the_pareto_set(
    config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dominance, "NEGLIGIBLE_SCORE", 0.0)
    monkeypatch.setattr(dominance, "NEGLIGIBLE_LATENCY", 0.0)
    noise = random.Random(0)
    configs = [config(n, noise.uniform(0.1, 1), noise.uniform(0, 0.1), relative=0, drop_half=0) for n in range(60)]
    pareto = {
        a.number
        for a in configs
        if not any(
            b.latency_ms.value <= a.latency_ms.value and b.score_drop.value <= a.score_drop.value and b is not a
            for b in configs
        )
    }
    assert set(numbers(front(configs))) == pareto


@pytest.mark.parametrize("seed", range(5))
def test_no_listed_config_makes_another_superfluous_and_every_other_is_answered_for(
    config: Callable[..., Config], seed: int
) -> None:
    noise = random.Random(seed)
    configs = [
        config(
            n,
            noise.uniform(0.1, 0.4),
            noise.uniform(0, 0.02),
            relative=noise.choice([0.005, 0.02, 0.1]),
            drop_half=noise.choice([0.001, 0.003, 0.006]),
        )
        for n in range(80)
    ]
    listed = front(configs)
    for member in listed:
        assert not beaten_by(member, listed)
        assert not indistinguishable_from(member, listed)
    for left_out in set(numbers(configs)) - set(numbers(listed)):
        one = configs[left_out]
        assert beaten_by(one, listed) or indistinguishable_from(one, listed)


def test_the_order_of_the_configs_does_not_matter(config: Callable[..., Config]) -> None:
    noise = random.Random(4)
    configs = [config(n, noise.uniform(0.1, 0.4), noise.uniform(0, 0.02)) for n in range(30)]
    shuffled = noise.sample(configs, len(configs))
    assert front(configs) == front(shuffled)


def test_an_empty_front_and_a_front_of_one_are_fronts(config: Callable[..., Config]) -> None:
    assert front([]) == ()
    assert numbers(front([config(5, 0.1, 0.0)])) == [5]


def test_the_interval_of_a_difference_has_the_coverage_it_claims() -> None:
    noise, held, trials = random.Random(1), 0, 4000
    for _ in range(trials):
        a, b = noise.gauss(0.010, 0.002), noise.gauss(0.004, 0.001)
        found = difference(
            Estimate(a, a - 1.96 * 0.002, a + 1.96 * 0.002), Estimate(b, b - 1.96 * 0.001, b + 1.96 * 0.001)
        )
        held += found.low <= 0.006 <= found.high
    assert held / trials == pytest.approx(0.95, abs=0.012)


def test_the_ratio_of_two_exact_figures_is_exact_and_of_symmetric_logs_symmetric() -> None:
    exact = ratio(Estimate(6, 6, 6), Estimate(2, 2, 2))
    assert (exact.low, exact.value, exact.high) == pytest.approx((3, 3, 3))
    found = ratio(Estimate(8, 8 / 1.03, 8 * 1.03), Estimate(2, 2 / 1.04, 2 * 1.04))
    assert found.value == pytest.approx(4)
    assert found.high / found.value == pytest.approx(found.value / found.low)
    assert 1.04 < found.high / found.value < 1.03 * 1.04
