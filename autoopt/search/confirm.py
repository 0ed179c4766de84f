"""Confirmation: the front is measured afresh on the test split, which the search never touched.

Whoever chooses the best of many by a noisy figure overrates it (the winner's curse), so what is reported is not what was
chosen by. Timing is taken anew as well.
"""

from __future__ import annotations

import itertools
import logging
import math
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

from autoopt.errors import AutooptError, StageError
from autoopt.front import Config, Front
from autoopt.front.pareto import mean_doublings
from autoopt.jobfolder import JobFolder
from autoopt.records import Measurement, from_json
from autoopt.search.groundwork import Runner
from autoopt.search.remote import Place
from autoopt.search.reserve import REPORT_S, cost_s, samples_for
from autoopt.search.results import read_confirmed, write_confirmed
from autoopt.workers.entry import against_reference, slower_reference
from autoopt.workers.stages import plan
from autoopt.workers.stages.stage import Stage
from autoopt.workers.store import Store

logger = logging.getLogger(__name__)
# What stands in for a pick that does not hold on unseen data; and beside the front, what is nearly on it, for the same reason.
STAND_INS, RUNNERS_UP = 3, 3
# Of the front's hypervolume: what adds less is confirmed where there is time.
ADDS = 0.01


def to_confirm(front: Front) -> tuple[Config, ...]:
    """What is measured afresh in any case: the pick, the reference, the best lossless, what of the front may meet the goal.

    Not what hardly adds to the front: the same network in a slower engine, by chance a tenth of a point better. Of a server only
    what is compared: its timing takes most of a minute, on however few samples.
    """
    compared, most = _compared(front), _most(front)
    if _is_server(front):
        return tuple({config.id: config for config in compared}.values())
    added = _by_worth(front, {config.id for config in compared})
    near = (config for config, share in added if share >= ADDS and config.validation.score_drop.low <= most)
    return tuple({config.id: config for config in (*compared, *near)}.values())


def _compared(front: Front) -> tuple[Config, ...]:
    """The pick and what it is compared with."""
    return tuple(filter(None, (front.recommended.config, front.reference, front.lossless)))


def stand_in(front: Front, confirmed: Mapping[str, Measurement], tried: Collection[str]) -> Config | None:
    """Of those that met the goal of what is recommended by validation data, the fastest, if it is faster than what meets it by test data.

    A config that just met it may fail on unseen data; then a safer one that was left out of the front for its sake, since they
    could not be told apart, is what the user needs.
    """
    most = _most(front)
    met_ms = min((m.latency_ms.value for m in confirmed.values() if m.score_drop.high <= most), default=math.inf)
    safe = [c for c in front.all_configs if c.validation.score_drop.high <= most and c.id not in tried]
    return _fastest(config for config in safe if config.validation.latency_ms.value < met_ms)


def runner_up(front: Front, tried: Collection[str]) -> Config | None:
    """The fastest of those that may meet the goal."""
    most = _most(front)
    return _fastest(c for c in front.all_configs if c.validation.score_drop.low <= most and c.id not in tried)


def _is_server(front: Front) -> bool:
    return front.reference.validation.scenario == "server"


def _most(front: Front) -> float:
    return front.recommended.goals.max_accuracy_drop or 0.0


def _fastest(configs: Iterable[Config]) -> Config | None:
    return min(configs, key=lambda config: config.validation.latency_ms.value, default=None)


def confirm(
    front: Front,
    folder: JobFolder,
    place: Place,
    store: Store,
    run_stage: Runner,
    size: int,
    must_stop: Callable[[], bool],
    left_s: Callable[[], float | None] = lambda: None,
) -> dict[str, Measurement]:
    """Measure on the test split what is not yet measured there; candidate id to measurement, also on disk after each.

    Args:
        front: of the search.
        folder: the job's.
        place: where its stages work.
        store: theirs.
        run_stage: runs one there.
        size: of the test split.
        must_stop: ends it.
        left_s: seconds left of the budget, None where time is no limit. What may meet the goal is confirmed in any case, on a part
            of a split that takes too long; a config that loses seven points where there is time, and what is nearly on the front.
    """
    confirmed = read_confirmed(folder)
    wanted = to_confirm(front)
    before = next(iter(confirmed.values()), None)
    ahead = not any(place.setup.hardware_of(config.candidate.deployment).exclusive for config in wanted)
    # What is compared must have been judged on the same samples. The reference is judged by the original's outputs, at no cost.
    judged = [config for config in wanted if config.id != front.reference.id]
    known = {config.id for config in wanted if store.get(_measuring(config, None, place)[-1].key) is not None}
    # Neither stand-ins, seldom needed, nor what loses too much to be picked may cost the others a part of their samples.
    samples = before.samples if before else samples_for(judged, size, left_s(), known, ahead=ahead)
    part = samples if samples < size else None

    def time_for(configs: Sequence[Config]) -> bool:
        left = left_s()
        return left is None or left >= cost_s(configs, samples, ahead=ahead) + REPORT_S

    def run(config: Config, stages: Iterable[Stage], must_stop: Callable[[], bool]) -> dict[str, Any]:
        facts: dict[str, Any] = {}
        for stage in stages:
            facts = run_stage(stage, config.candidate, must_stop).facts
        return facts

    coming = [config for config in _foreseen(front) if config.id not in confirmed]
    ahead_of = [partial(run, config, _measuring(config, part, place)[:-1]) for config in coming]
    with _beside(ahead_of, must_stop):
        for config in in_turn(front, confirmed, time_for):
            if must_stop():
                break
            try:
                found = _measured(config, part, place, partial(run, config, must_stop=must_stop))
            except StageError as error:
                logger.warning("%s could not be confirmed: %s", config.describe(), error.message)
                continue
            # A job has one reference latency, by which all others are told; another hour's would put the reference before them.
            own = replace(found, latency_ms=config.validation.latency_ms) if config.id == front.reference.id else found
            confirmed[config.id] = own
            write_confirmed(folder, confirmed)
    return confirmed


@contextmanager
def _beside(works: Iterable[Callable[[Callable[[], bool]], object]], must_stop: Callable[[], bool]) -> Iterator[None]:
    """As long as the context lasts, do these in a thread; each is told when to stop. What fails there fails again where it is needed."""
    ended = threading.Event()

    def over() -> bool:
        return ended.is_set() or must_stop()

    def do() -> None:
        for work in itertools.takewhile(lambda _: not over(), works):
            with suppress(AutooptError):
                work(over)

    thread = threading.Thread(target=do, name="confirming", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _foreseen(front: Front) -> Iterable[Config]:
    """Who will be confirmed, as far as it is known before, in that order."""
    compared = _compared(front)
    others = (config for config, _ in _by_worth(front, {config.id for config in compared}))
    return {config.id: config for config in (*compared, *others)}.values()


def _by_worth(front: Front, chosen: Collection[str]) -> Iterator[tuple[Config, float]]:
    """The front's other configs, each time the one that adds most to those that were chosen, with its share of the hypervolume."""
    taken = [config for config in front.configs if config.id in chosen]
    rest = [config for config in front.configs if config.id not in chosen]
    reached, whole = mean_doublings(taken, front.reference), mean_doublings(front.configs, front.reference)
    while rest:
        best = max(rest, key=lambda config: mean_doublings([*taken, config], front.reference))
        rest.remove(best)
        taken.append(best)
        before, reached = reached, mean_doublings(taken, front.reference)
        yield best, (reached - before) / whole if whole else 0.0


def in_turn(
    front: Front, confirmed: Mapping[str, Measurement], time_for: Callable[[Sequence[Config]], bool]
) -> Iterator[Config]:
    """The pick and what it is compared with, what stands in for it, the front; ``confirmed`` grows meanwhile.

    Of the front what covers most comes first; what is not to be confirmed in any case, a server's second stand-in, and runners-up,
    where there is time.
    """
    tried, wanted = set(confirmed), to_confirm(front)

    def untried(configs: Iterable[Config]) -> Iterator[Config]:
        for config in configs:
            if config.id not in tried:
                tried.add(config.id)
                yield config

    yield from untried(_compared(front))
    for turn in range(STAND_INS):
        safe = stand_in(front, confirmed, tried)
        if safe is None or (turn > 0 and _is_server(front) and not time_for([safe])):
            break
        yield from untried([safe])
    for config, _ in _by_worth(front, tried):
        if config in wanted or time_for([config, *(each for each in wanted if each.id not in tried)]):
            yield from untried([config])
    for _ in range(RUNNERS_UP):
        near = runner_up(front, tried)
        if near is None or not time_for([near]):
            return
        yield from untried([near])


def _measured(
    config: Config, samples: int | None, place: Place, run: Callable[[Iterable[Stage]], dict[str, Any]]
) -> Measurement:
    """A config's measurement on so many test samples, in the job's figures."""
    found = from_json(Measurement, run(_measuring(config, samples, place)))
    return against_reference(found, *slower_reference(config.candidate.deployment, place.setup, run))


def _measuring(config: Config, samples: int | None, place: Place) -> tuple[Stage, ...]:
    """A config's measurement on so many test samples, None for all; what it is built from is in the store."""
    _, network = plan.structure(config.candidate, place.setup)
    rungs = plan.training(config.candidate, network, place.setup)
    network = rungs[-1].network if rungs else network
    return plan.measurement(config.candidate, network, place.setup, "test", samples).measuring
