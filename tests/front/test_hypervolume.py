from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from autoopt.front import Config
from autoopt.front.hypervolume import doublings, hypervolume
from autoopt.front.pareto import mean_doublings


def brute_force(points: Sequence[tuple[float, float]], floor: float, ceiling: float, cells: int = 400) -> float:
    """The share of a grid's cells that some point covers."""
    best = max(score for score, _ in points)
    covered = 0
    for i in range(cells):
        score = floor + (i + 0.5) / cells * (best - floor)
        reach = min((latency for s, latency in points if s >= score), default=ceiling)
        covered += max(0.0, ceiling - reach)
    return covered / cells * (best - floor)


@pytest.mark.parametrize("seed", range(6))
def test_it_equals_the_brute_force_area(seed: int) -> None:
    noise = random.Random(seed)
    points = [(noise.uniform(0.8, 0.95), noise.uniform(0.1, 2.0)) for _ in range(20)]
    assert hypervolume(points, 0.85, 1.5) == pytest.approx(brute_force(points, 0.85, 1.5), rel=0.02)


def test_one_point_is_a_rectangle() -> None:
    assert hypervolume([(0.9, 0.25)], 0.8, 1.0) == pytest.approx(0.1 * 0.75)


def test_points_that_are_beaten_or_out_of_bounds_add_nothing() -> None:
    alone = hypervolume([(0.9, 0.25)], 0.8, 1.0)
    assert hypervolume([(0.9, 0.25), (0.85, 0.5), (0.7, 0.01), (0.99, 1.2)], 0.8, 1.0) == pytest.approx(alone)
    assert hypervolume([], 0.8, 1.0) == 0


def test_four_times_as_fast_is_two_doublings() -> None:
    assert doublings([(0.9, 0.25)], 0.8, 1.0) == pytest.approx(0.1 * 2)


def test_the_mean_over_tolerated_drops_reads_as_a_speedup(config: Callable[..., Config], reference: Config) -> None:
    lossless_at_four = config(1, 0.25, 0.0)
    assert 2 ** mean_doublings([lossless_at_four], reference) == pytest.approx(4)
    half_way = config(2, 0.25, 0.025)
    assert mean_doublings([reference, half_way], reference) == pytest.approx(1)
