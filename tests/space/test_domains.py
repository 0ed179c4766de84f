from __future__ import annotations

import pytest

from autoopt.space.domains import Interval, Listed, between


def test_steps_give_the_numbers_as_written() -> None:
    assert between(0.1, 0.6, 0.1, log=False) == Listed((0.1, 0.2, 0.3, 0.4, 0.5, 0.6))
    assert between(0.1, 0.35, 0.1, log=False) == Listed((0.1, 0.2, 0.3))
    assert between(2, 8, 2, log=False) == Listed((2, 4, 6, 8))


def test_neighbours_in_an_order_are_one_step_away_and_without_one_all_others() -> None:
    assert Listed((0.1, 0.2, 0.3)).neighbours(0.2) == (0.1, 0.3)
    assert Listed((3, 2, 1)).neighbours(3) == (2,)
    assert Listed(("a", "b", "c")).neighbours("b") == ("a", "c")
    assert Listed((128, 1024, 256)).neighbours(1024) == (128, 256)
    assert Listed((1, 2)).neighbours(7) == ()


def test_neighbours_in_an_interval_stay_inside() -> None:
    interval = Interval(0.01, 1.0, log=True)
    assert all(interval.contains(value) for value in (*interval.neighbours(0.01), *interval.neighbours(0.5)))
    assert len(interval.neighbours(0.01)) == 1
    assert len(interval.neighbours(0.1)) == 2


def test_true_is_not_one() -> None:
    assert not Listed((1, 2)).contains(True)  # noqa: FBT003 (the value that is tested)
    assert Listed((False, True)).contains(True)  # noqa: FBT003 (the value that is tested)


@pytest.mark.parametrize("domain", [Interval(0.1, 0.9), Interval(1, 64, log=True, integer=True), Listed((1, 2, 3, 4))])
def test_a_spread_begins_in_the_middle_and_holds_both_ends(domain: Interval | Listed) -> None:
    spread = domain.spread()
    assert all(map(domain.contains, spread))
    assert len(set(spread)) == len(spread) >= 3
    ends = (domain.low, domain.high) if isinstance(domain, Interval) else (domain.values[0], domain.values[-1])
    assert spread[1:3] == ends


def test_a_spread_holds_all_of_a_short_list_and_the_quarters_of_a_long_one() -> None:
    assert Listed((0.15, 0.3, 0.45, 0.6, 0.75, 0.9)).spread() == (0.45, 0.15, 0.9, 0.3, 0.6, 0.75)
    assert Listed(tuple(range(21))).spread() == (10, 0, 20, 5, 15)
