"""Paired timing on a simulated noisy machine."""

import math
from collections.abc import Iterator

import numpy as np
import pytest

from autoopt.records import Estimate
from autoopt.workers.measure import paired
from autoopt.workers.measure.records import TimingSettings
from autoopt.workers.measure.server import Burst


@pytest.fixture
def _no_placement(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The simulated processes have no memory to be placed, so nothing hides an interval that is too narrow."""
    monkeypatch.setattr(paired, "PLACEMENT_HALF_WIDTH", 0.0)
    return


def measured(ratio: float, seed: int, settings: TimingSettings) -> tuple[Estimate, bool]:
    from simulated import Machine, sides

    machine, both = Machine(ratio, seed, own_noise=0.01), sides()
    run = (lambda: machine.burst(0), lambda: machine.burst(1))
    reached = paired.sample(both, run, settings, machine.clock)
    return paired.log_ratio(*both), reached


@pytest.mark.usefixtures("_no_placement")
@pytest.mark.parametrize("max_s", [1.5, 4.0])
def test_stopping_when_narrow_enough_leaves_the_interval_honest(max_s: float) -> None:
    settings = TimingSettings(max_s=max_s)
    found = [measured(1.3, seed, settings)[0] for seed in range(150)]
    held = sum(each.low <= math.log(1.3) <= each.high for each in found)
    assert held >= 138


def test_five_percent_slower_is_told_in_ninety_of_a_hundred() -> None:
    settings = TimingSettings(max_s=4.0)
    told = sum(measured(1 / 1.05, seed, settings)[0].high < 0 for seed in range(60))
    assert told >= 54


def test_sampling_ends_when_the_interval_is_narrow_enough_or_the_time_is_over() -> None:
    narrow, reached = measured(1.0, 0, TimingSettings(target_half_width=0.05, max_s=60))
    assert reached
    assert paired.half_width(narrow) <= 0.05
    wide, reached = measured(1.0, 0, TimingSettings(target_half_width=1e-6, max_s=0.5))
    assert not reached
    assert paired.half_width(wide) > 1e-6


@pytest.mark.parametrize(("noise", "times"), [(0.01, 1), (0.6, 3)])
def test_an_interval_that_is_useless_is_given_more_time(noise: float, times: int) -> None:
    from simulated import Machine, sides

    machine, both = Machine(1.0, 0, own_noise=noise), sides()
    run = (lambda: machine.burst(0), lambda: machine.burst(1))
    paired.sample(both, run, TimingSettings(target_half_width=1e-6, max_s=0.5), machine.clock)
    assert machine.clock() == pytest.approx(0.5 * times, rel=0.3)


def test_a_slow_call_still_gets_a_few_rounds() -> None:
    from simulated import Machine, sides

    machine, both = Machine(1.0, 0), sides()
    run = (lambda: machine.burst(0), lambda: machine.burst(1))
    paired.sample(both, run, TimingSettings(max_s=1e-6), machine.clock)
    assert len(both[0].bursts) == 8


def burst(level_ns: float, share: float = 1.0, switches: int = 0) -> Burst:
    times = np.full(4, level_ns, np.int64)
    return Burst(times, int(times.sum()), int(times.sum() * share), switches)


def test_an_interrupted_burst_is_discarded_with_its_partner() -> None:
    from simulated import sides

    artifact, reference = sides()
    for _ in range(12):
        artifact.bursts += [burst(1e6), burst(3e6, share=0.4, switches=3)]
        reference.bursts += [burst(2e6), burst(2e6)]
    assert artifact.undisturbed().tolist() == [True, False] * 12
    assert paired.log_ratio(artifact, reference).value == pytest.approx(math.log(2))


def test_bursts_left_alone_are_told_from_a_majority_that_was_interrupted() -> None:
    from simulated import sides

    artifact, reference = sides()
    for _ in range(10):
        artifact.bursts += [burst(1e6)] * 3
        # Calls that outlast a time slice take twice as long when the core is shared.
        reference.bursts += [burst(4e6, share=0.5, switches=4)] * 2 + [burst(2e6)]
    assert reference.undisturbed().sum() == 10
    assert paired.log_ratio(artifact, reference).value == pytest.approx(math.log(2))


def test_a_slow_burst_that_had_its_processor_is_kept() -> None:
    from simulated import sides

    artifact, _ = sides()
    artifact.bursts += [burst(1e6)] * 8 + [burst(9e6, switches=1)]
    assert artifact.undisturbed().all()


def test_where_nothing_is_left_undisturbed_everything_counts() -> None:
    from simulated import sides

    artifact, reference = sides()
    rng = np.random.default_rng(0)
    for _ in range(20):
        artifact.bursts.append(burst(1e6, share=rng.uniform(0.1, 1), switches=1))
        reference.bursts.append(burst(2e6, share=rng.uniform(0.1, 1), switches=1))
    assert paired.log_ratio(artifact, reference).value == pytest.approx(math.log(2))


def test_no_interval_is_narrower_than_what_memory_placement_does() -> None:
    from simulated import sides

    artifact, reference = sides()
    artifact.bursts += [burst(1e6)] * 40
    reference.bursts += [burst(2e6)] * 40
    assert paired.half_width(paired.log_ratio(artifact, reference)) == pytest.approx(paired.PLACEMENT_HALF_WIDTH)
