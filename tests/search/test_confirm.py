"""Which configs are confirmed, with measurements made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from autoopt.front import Config, build_front
from autoopt.records import Candidate, Estimate, Measured, Measurement
from autoopt.search.confirm import in_turn, runner_up, stand_in, to_confirm
from autoopt.space import Space, recompose

Outcomes = Callable[[Candidate, float, float], Measured]


@pytest.fixture
def config(space: Space, outcome: Outcomes) -> Callable[..., Config]:
    def make(number: int, latency_ms: float, drop: float, half: float) -> Config:
        candidate = recompose(space, {"pruning": True, "pruning.ratio": number / 10})
        measurement = replace(
            outcome(candidate, 0.92 - drop, latency_ms).measurement,
            latency_ms=Estimate(latency_ms, latency_ms * 0.98, latency_ms * 1.02),
            score_drop=Estimate(drop, drop - half, drop + half),
        )
        return Config(candidate, measurement, None, "key", number)

    return make


@pytest.fixture
def base(reference: Candidate, outcome: Outcomes) -> Config:
    return Config(reference, outcome(reference, 0.92, 2.0).measurement, None, "key", 0)


def test_a_safe_config_that_was_tied_with_a_bold_one_is_confirmed_when_the_bold_one_fails(
    config: Callable[..., Config], base: Config
) -> None:
    bold, safe = config(1, 0.25, 0.003, 0.005), config(2, 0.252, 0.0006, 0.002)
    lossy = config(3, 0.2, 0.013, 0.006)
    slow = config(4, 0.5, 0.0, 0.002)
    front = build_front([bold, safe, lossy, slow], base)
    wanted = to_confirm(front)
    assert bold in wanted
    assert safe not in wanted, "it cannot be told apart from a faster one"
    failed = replace(bold.validation, split="test", score_drop=Estimate(0.007, 0.002, 0.012))
    held = replace(slow.validation, split="test")
    confirmed = {bold.id: failed, slow.id: held}
    tried = {each.id for each in wanted}
    assert stand_in(front, confirmed, tried) == safe
    assert stand_in(front, {**confirmed, bold.id: replace(bold.validation, split="test")}, tried) is None


def test_beside_the_front_the_fastest_that_may_meet_the_goal_is_confirmed(
    config: Callable[..., Config], base: Config
) -> None:
    fast, near, far = config(1, 0.25, 0.003, 0.002), config(2, 0.26, 0.011, 0.002), config(3, 0.255, 0.03, 0.002)
    front = build_front([fast, near, far], base)
    assert runner_up(front, {fast.id, base.id}) == near
    assert runner_up(front, {fast.id, base.id, near.id}) is None


@pytest.mark.parametrize("time_left", [True, False])
def test_the_pick_is_settled_before_the_rest_of_the_front(
    config: Callable[..., Config], base: Config, *, time_left: bool
) -> None:
    bold, safe, lossy = config(1, 0.25, 0.003, 0.005), config(2, 0.252, 0.0006, 0.002), config(3, 0.1, 0.04, 0.002)
    front = build_front([bold, safe, lossy], base)
    assert lossy not in to_confirm(front), "it loses too much to be picked, and would cost the others test samples"
    confirmed: dict[str, Measurement] = {}
    order = []
    for each in in_turn(front, confirmed, lambda _: time_left):
        order.append(each)
        failed = Estimate(0.02, 0.01, 0.03)
        confirmed[each.id] = replace(each.validation, score_drop=failed) if each == bold else each.validation
    assert order == [bold, base, safe, *([lossy] if time_left else [])]


@pytest.mark.parametrize("time_left", [True, False])
def test_what_covers_most_of_the_front_is_confirmed_first_and_what_hardly_adds_where_there_is_time(
    config: Callable[..., Config], base: Config, *, time_left: bool
) -> None:
    pick, slow = config(1, 0.3, 0.0017, 0.0002), config(2, 1.2, 0.0005, 0.0002)
    steps = [config(3, 0.12, 0.02, 0.011), config(4, 0.2, 0.012, 0.003)]
    front = build_front([pick, slow, *steps], base)
    assert slow in front.configs, "it is better, if by little"
    confirmed: dict[str, Measurement] = {}
    order = []
    for each in in_turn(front, confirmed, lambda _: time_left):
        order.append(each)
        confirmed[each.id] = each.validation
    assert order.index(steps[0]) < order.index(steps[1]), "it covers more"
    assert (slow in order) == time_left
    assert slow not in to_confirm(front)


def serving(config: Config) -> Config:
    return replace(config, validation=replace(config.validation, scenario="server"))


@pytest.mark.parametrize("time_left", [True, False])
def test_of_a_server_only_what_is_compared_is_confirmed_when_time_is_up(
    config: Callable[..., Config], base: Config, *, time_left: bool
) -> None:
    pick, near = serving(config(1, 0.3, 0.0017, 0.0002)), serving(config(2, 0.2, 0.012, 0.003))
    front = build_front([pick, near], serving(base))
    assert near in front.configs
    assert near not in to_confirm(front)
    order = list(in_turn(front, {}, lambda _: time_left))
    assert order[:2] == [pick, front.reference]
    assert (near in order) == time_left


@pytest.mark.parametrize(("scenario", "time_left"), [("server", True), ("server", False), ("single_stream", False)])
def test_a_second_stand_in_of_a_server_waits_for_time_to_be_left(
    config: Callable[..., Config], base: Config, scenario: str, *, time_left: bool
) -> None:
    bold, *safe = config(1, 0.25, 0.003, 0.005), config(2, 0.252, 0.0006, 0.002), config(3, 0.254, 0.0005, 0.002)
    own = [serving(each) if scenario == "server" else each for each in (bold, *safe, base)]
    confirmed: dict[str, Measurement] = {}
    order = []
    for each in in_turn(build_front(own[:-1], own[-1]), confirmed, lambda _: time_left):
        order.append(each.number)
        failed = Estimate(0.02, 0.01, 0.03)
        confirmed[each.id] = replace(each.validation, score_drop=failed) if each.number else each.validation
    assert order[:3] == [1, base.number, 2], "the pick, the reference, the first stand-in"
    assert (3 in order) == (time_left or scenario != "server")
