from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from autoopt.errors import UserError
from autoopt.front import Config, Front, build_front
from autoopt.records import Estimate, Served, Step

SMALLER = (Step("student", {"width": 0.5}),)


@pytest.fixture
def front(config: Callable[..., Config], reference: Config) -> Front:
    configs = [
        config(1, 0.25, 0.0),
        config(2, 0.10, 0.004, model=SMALLER, precision="int8", size_bytes=400_000),
        config(3, 0.05, 0.0095, model=SMALLER, precision="int8", size_bytes=200_000),
        config(4, 0.02, 0.030, model=SMALLER, precision="int8", size_bytes=100_000),
    ]
    return build_front(configs, reference)


def test_a_drop_is_met_by_the_upper_end_of_its_interval_not_by_its_value(front: Front) -> None:
    picked = front.pick(max_accuracy_drop=0.01)
    assert (picked.config.number, picked.met) == (2, True)  # 3 measures 0.95 points, but up to 1.15


def test_a_latency_is_met_by_the_upper_end_of_its_interval(front: Front) -> None:
    assert front.pick(max_latency_ms=0.1).config.number == 4
    picked = front.pick(max_latency_ms=0.1005, max_accuracy_drop=0.007)
    assert not picked.met
    assert "at once" in picked.reason


def test_a_size_and_a_least_accuracy_are_met(front: Front) -> None:
    assert front.pick(max_size_mb=0.25, max_accuracy_drop=0.02).config.number == 3
    assert front.pick(min_accuracy=0.92).config.number == 2
    assert front.pick(min_accuracy=0.924).config.number == 1


def test_the_fastest_of_those_that_meet_is_taken(front: Front) -> None:
    assert front.pick(max_accuracy_drop=0.05).config.number == 4
    assert front.pick().config.number == 4


def test_what_cannot_be_met_gives_the_nearest_and_the_reason(front: Front) -> None:
    picked = front.pick(max_latency_ms=0.001)
    assert (picked.config.number, picked.met) == (4, False)
    assert "No config runs in at most 0.001 ms a sample" in picked.reason
    assert "0.0200 ms" in picked.reason


def test_what_only_the_interval_misses_is_said(front: Front) -> None:
    picked = front.pick(max_latency_ms=0.02)
    assert not picked.met
    assert "some measure so" in picked.reason


def test_no_drop_at_all_is_met_by_the_reference_where_nothing_else_is_certain(front: Front) -> None:
    picked = front.pick(max_accuracy_drop=0.0)
    assert (picked.config.number, picked.met) == (0, True)
    assert "itself" in picked.sentence()


@pytest.mark.parametrize("goal", [{"max_latency_ms": 0}, {"max_size_mb": -1}, {"max_accuracy_drop": float("nan")}])
def test_a_goal_that_makes_no_sense_is_refused_with_its_name(front: Front, goal: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(goal))):
        front.pick(**goal)


def test_the_sentence_says_speed_drop_intervals_and_split(front: Front) -> None:
    sentence = front.pick(max_accuracy_drop=0.01).sentence()
    assert sentence == (
        "student (width 0.5) on engine2 int8, 1 thread is 10.00× faster (95 % CI 9.90–10.10) than PyTorch eager FP32 "
        "at 0.4 points less accuracy (CI 0.2–0.6), measured on the validation split."
    )


def test_against_the_fastest_lossless_config_the_two_uncertainties_combine(front: Front) -> None:
    picked = front.pick(max_accuracy_drop=0.01)
    assert front.lossless is not None
    assert front.lossless.number == 1
    gain = picked.speedup_vs_lossless
    assert gain is not None
    assert gain.value == pytest.approx(2.5)
    assert gain.high / gain.value == pytest.approx(1.01**2**0.5)
    assert "2.50× faster" in picked.lossless_sentence()
    assert front.speedup_vs_lossless(front.lossless) == Estimate(1, 1, 1)


def test_only_configs_of_the_front_s_split_are_picked_once_it_is_confirmed(
    config: Callable[..., Config], reference: Config
) -> None:
    lucky = config(1, 0.01, 0.0)
    sure = config(2, 0.1, 0.0, confirmed=True)
    front = build_front([lucky, sure], reference)
    assert front.confirmed
    assert front.pick(max_accuracy_drop=0.01).config.number == 2
    assert "test split" in front.pick().sentence()


def test_a_metric_outside_zero_to_one_is_not_spoken_of_in_points(
    config: Callable[..., Config], reference: Config
) -> None:
    def shifted(one: Config) -> Config:
        taken = one.validation
        moved = Estimate(taken.score.value + 40, taken.score.low + 40, taken.score.high + 40)
        return replace(one, validation=replace(taken, score=moved))

    front = build_front([shifted(config(1, 0.1, 0.4))], shifted(reference), metric="PSNR")
    sentence = front.pick().sentence()
    assert "0.400 less PSNR" in sentence
    assert "points" not in sentence


def test_export_hands_the_config_to_the_exporter_and_says_so_where_there_is_none(front: Front, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="store"):
        front.pick().export(tmp_path / "bundle")
    written = []
    able = replace(front, exporter=lambda config, path: written.append((config.number, path)) or path)
    assert able.pick().export(str(tmp_path / "bundle")) == tmp_path / "bundle"
    assert written == [(4, Path(tmp_path / "bundle"))]


def test_a_front_is_a_sequence_and_a_table_with_intervals(front: Front) -> None:
    assert [one.number for one in front] == [4, 3, 2, 1]
    assert front[0].number == 4
    assert len(front[:2]) == 2
    table = front.to_pandas()
    assert list(table["number"]) == [4, 3, 2, 1]
    assert (table["speedup_low"] < table["speedup"]).all()
    assert (table["speedup_vs_lossless_high"] >= table["speedup_vs_lossless"]).all()


def test_importing_the_front_loads_no_pandas() -> None:
    code = (
        "import sys, autoopt.front; sys.exit(any(name in sys.modules for name in ('pandas', 'torch', 'ray', 'plotly')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def changed(front: Front, number: int, **figures: object) -> Front:
    """The front with one config's measurement changed."""

    def of(config: Config) -> Config:
        if config.number != number:
            return config
        return replace(config, validation=replace(config.validation, **figures))  # type: ignore[arg-type]

    return replace(front, configs=tuple(map(of, front.configs)), all_configs=tuple(map(of, front.all_configs)))


def test_memory_and_loading_are_goals(front: Front) -> None:
    hungry = changed(front, 4, peak_rss_bytes=50_000_000)
    assert hungry.pick(max_memory_mb=10).config.number == 3
    slow = changed(front, 4, load_s=5.0)
    assert slow.pick(max_load_s=1).config.number == 3


def test_a_rate_is_met_by_the_lower_end_of_its_interval(front: Front) -> None:
    nobody = front.pick(min_rate=100)
    assert not nobody.met
    assert "was not measured under load" in nobody.reason
    served = front
    for number, rate in ((2, 200.0), (3, 110.0)):
        held = Served(20.0, Estimate(rate, 0.85 * rate, 1.1 * rate), (), 0.1, 0.2)
        served = changed(served, number, served=held)
    assert served.pick(min_rate=100).config.number == 2
    assert served.pick(min_rate=90).config.number == 3


def test_a_pick_for_which_another_stands_on_the_front_is_shown_with_it(
    config: Callable[..., Config], reference: Config
) -> None:
    """The faster of a tied pair is listed, and loses too much by the end of its interval; the other one is what is wanted."""
    configs = [config(1, 0.25, 0.0), config(2, 0.0495, 0.0085), config(3, 0.05, 0.0065), config(4, 0.02, 0.03)]
    front = build_front(configs, reference)
    assert [each.number for each in front] == [4, 2, 1]
    picked = front.pick(max_accuracy_drop=0.01)
    assert picked.config.number == 3
    assert "cannot be told apart from #2 of the front" in picked.reason
    assert [each.number for each in front.listed_with(picked)] == [4, 2, 3, 1]
    assert front.listed_with(front.pick()) == front.configs
    assert "#" not in front.pick().reason
