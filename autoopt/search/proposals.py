"""Candidates that need no model to be worth a look. Pure functions of the space and the outcomes so far.

In this order:

* the *practitioner's list*: every engine and precision with the network unchanged, so that a useful front stands early; those
  that take minutes to build come after the openers, which would share the processors with them;
* *promotions*: a network near the front that was trained little, with the next rung (successive halving: Jamieson and
  Talwalkar, AISTATS 2016; who is promoted is decided by what it promises). They only queue here: who trains next is decided
  where they wait, by what each is worth;
* *openers*: each way of changing the network by itself, gently and strongly, so that a sampler has something to learn from;
* *follow-ups*: a network that was dear to train, in every other deployment that could put it on the front;
* *neighbours* of the configs that contribute most to the front: local search.

The sampler takes its turns in between.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from autoopt.errors import FailureKind
from autoopt.records import Candidate, Deployment, Failed
from autoopt.search.elimination import could_enter, worth
from autoopt.search.learning import Learning, learn
from autoopt.search.moves import deployments, neighbours, redeployed, started, trained_to
from autoopt.search.standings import Config, Point, Row, Scale, measured, network_id, pareto, trained_id
from autoopt.search.telling import Proposal
from autoopt.space import Listed, Space, StepChoice, Value, recompose
from autoopt.workers.entry import Standing

SURPRISE = 0.6
"""The best engine changes with the shape of a network: a predicted latency may turn out this much lower."""
_REFUSALS = frozenset({FailureKind.UNSUPPORTED, FailureKind.NOT_AS_ASKED})
_HOPE = 0.1
_SAMPLERS_TURN = 3


@dataclass(frozen=True)
class View:
    """A search as it stands."""

    space: Space
    rows: tuple[Row, ...]
    running: tuple[Candidate, ...]
    scale: Scale
    configs: tuple[Config, ...]
    learning: Learning
    trained: tuple[Config, ...] = ()
    """Networks that have come out of their training and are not measured yet: as validated there, and as probed."""

    @cached_property
    def points(self) -> tuple[Point, ...]:
        """(score, latency in ms) of the front: what decides who may enter."""
        return tuple(config.point for config in self.front)

    @cached_property
    def front(self) -> tuple[Config, ...]:
        """By point estimates, the fastest first."""
        return pareto(self.configs)

    @cached_property
    def known(self) -> frozenset[str]:
        """Identifiers of candidates that have ended or run."""
        return frozenset(candidate.id for candidate in self.candidates())

    @cached_property
    def changed(self) -> dict[str, list[Config]]:
        """The configs of each changed network, as far as it was trained: serving it otherwise is cheap."""
        groups = _by(self.configs, lambda config: trained_id(self.space, config.candidate))
        groups.pop("", None)
        return groups

    @cached_property
    def refused(self) -> frozenset[tuple[str, str]]:
        """Engines and precisions that do not take the unchanged network: dynamic INT8 has nothing to do in one of convolutions."""
        return frozenset(
            (candidate.deployment.engine, candidate.deployment.precision)
            for _, candidate, outcome in self.rows
            if isinstance(outcome, Failed) and outcome.kind in _REFUSALS and not self.space.network(candidate)
        )

    def trains(self, candidate: Candidate) -> bool:
        """Whether the candidate's network, trained as far as it asks for, is not known yet."""
        return self.space.trained_for(candidate) is not None and trained_id(self.space, candidate) not in self.changed

    def begins(self, candidate: Candidate) -> bool:
        """Whether a network would have to be trained from its beginning."""
        known = {network_id(self.space, config.candidate) for config in self.configs}
        return self.space.trained_for(candidate) is not None and network_id(self.space, candidate) not in known

    def candidates(self) -> Iterator[Candidate]:
        """All that have ended or run."""
        yield from (candidate for _, candidate, _ in self.rows)
        yield from self.running


def make_view(
    space: Space,
    rows: Sequence[Row],
    reference: Candidate,
    running: Iterable[Candidate] = (),
    trained: Iterable[Standing] = (),
) -> View | None:
    """The view of these outcomes; None until the reference has been measured."""
    configs = measured(rows)
    base = next((config for config in configs if config.candidate == reference), None)
    if base is None:
        return None
    scale = Scale(base.score, base.latency_ms, space.max_drop_of_interest)
    return View(
        space,
        tuple(rows),
        tuple(running),
        scale,
        configs,
        learn(space, rows, scale),
        _out_of_training(configs, trained, scale),
    )


def _out_of_training(configs: Sequence[Config], trained: Iterable[Standing], scale: Scale) -> tuple[Config, ...]:
    measured_already = {config.candidate.id for config in configs}
    return tuple(
        Config(standing.candidate, standing.score, scale.reference_latency_ms / standing.speedup)
        for standing in trained
        if standing.score is not None and standing.candidate.id not in measured_already
    )


def propose(view: View) -> Iterator[Proposal]:
    """Proposals for the next candidate, the best first, none that is known; nothing when it is the sampler's turn."""
    return itertools.chain(begun(view), new(view))


def begun(view: View) -> Iterator[Proposal]:
    """What is known to be wanted: the practitioner's list, and more training for what deserves it."""
    return _fresh(view, itertools.chain(practitioners_list(view.space), promotions(view)))


def new(view: View, *, networks: bool = True) -> Iterator[Proposal]:
    """What nobody has tried. ``networks``: whether one may be begun that nobody has trained yet."""
    found = _fresh(view, itertools.chain(openers(view), latecomers(view), follow_ups(view), _turn(view)))
    return (proposal for proposal in found if networks or not view.begins(proposal.candidate))


def _fresh(view: View, proposals: Iterable[Proposal]) -> Iterator[Proposal]:
    return (proposal for proposal in proposals if proposal.candidate.id not in view.known)


def practitioners_list(space: Space) -> list[Proposal]:
    """The network unchanged in every deployment that is soon built, in the order of the space's file."""
    return _unchanged(space, slow=all(target.slow_build for target in space.targets))


def latecomers(view: View) -> Iterator[Proposal]:
    """The rest of the practitioner's list, once there is something that the time of a long build could not serve better."""
    if view.changed or all(opener.candidate.id in view.known for opener in openers(view)):
        yield from _unchanged(view.space, slow=True)


def _unchanged(space: Space, *, slow: bool) -> list[Proposal]:
    return [
        Proposal(recompose(space, choices), f"the network unchanged in {target}")
        for target, choices in deployments(space)
        if target.slow_build == slow
    ]


def openers(view: View) -> Iterator[Proposal]:
    """Each way of changing the network by itself, then two at once, where the unchanged network runs fastest."""
    space = view.space
    served = _fastest_deployment(view)
    ways = [list(_settings(step)) for step in space.steps if step.changes_structure]
    for setting in itertools.chain.from_iterable(itertools.zip_longest(*ways)):
        if setting is not None:
            yield Proposal(started(space, recompose(space, {**served, **setting})), "one technique by itself")
    for one, other in itertools.combinations([way[0] for way in ways if way], 2):
        both = {**served, **one, **other}
        yield Proposal(started(space, recompose(space, both)), "two techniques together")


def follow_ups(view: View) -> Iterator[Proposal]:
    """Changed networks in the deployments in which they could enter the front, by promise.

    Each is made when its turn comes: of thousands of networks, the first ones are asked for.
    """
    found = [
        (promise, configs[0].candidate, deployment)
        for configs in view.changed.values()
        for deployment, promise in _promises(view, configs).items()
    ]
    for promise, candidate, deployment in sorted(found, key=lambda entry: -entry[0]):
        for other in redeployed(view.space, candidate, deployment.__eq__):
            if other.id not in view.known:
                yield Proposal(other, "a trained network in another deployment", promise)


def _promises(view: View, configs: Sequence[Config]) -> dict[Deployment, float]:
    """The deployments in which the network of these configs could enter the front, and what it promises there."""
    scale, points = view.scale, view.points
    found: dict[Deployment, float] = {}
    best, pace = max(config.score for config in configs), _pace(configs, view.learning.plain_ms)
    if pace is None or best < scale.floor:
        return found
    for deployment, plain_ms in view.learning.plain_ms.items():
        latency_ms = plain_ms * pace
        verdict = could_enter(points, latency_ms * SURPRISE, best, scale)
        if verdict.keep:
            found[deployment] = scale.gain(points, (best, latency_ms)) + _HOPE * verdict.promise
    return found


def promotions(view: View) -> list[Proposal]:
    """Networks that may enter the front, or climb on it, with more training: the next rung, by promise.

    They need not have been measured: that takes a minute of quantizing, building and waiting, in which another would be trained.
    """
    space, scale = view.space, view.scale
    tried: dict[str, float] = {}
    for candidate in view.candidates():
        epochs, name = space.trained_for(candidate), network_id(space, candidate)
        if epochs is not None:
            tried[name] = max(epochs, tried.get(name, 0.0))
    found = []
    known = (*view.configs, *view.trained)
    trained = [config for config in known if space.trained_for(config.candidate) is not None]
    for name, configs in _by(trained, lambda config: network_id(space, config.candidate)).items():
        longest = max(space.trained_for(config.candidate) or 0.0 for config in configs)
        following = next((rung for rung in space.rungs if rung > longest), None)
        if following is None or tried[name] >= following:
            continue
        latest = [config for config in configs if space.trained_for(config.candidate) == longest]
        fastest = min(configs, key=lambda config: config.latency_ms)
        score = max(config.score for config in latest)
        optimistic = view.learning.optimistic(score, longest, scale)
        verdict = could_enter(view.points, fastest.latency_ms, optimistic, scale)
        promoted = trained_to(space, fastest.candidate, following) if verdict.keep else None
        if promoted is not None:
            pace = fastest.latency_ms / scale.reference_latency_ms
            promise = worth(
                view.points, scale, view.learning, fastest.latency_ms, score, longest, seconds_per_epoch=pace
            )
            why = f"trained for {longest:g} epochs; {following:g} may bring it forward"
            found.append(Proposal(promoted, why, promise))
    return sorted(found, key=lambda proposal: -proposal.promise)


def local_moves(view: View) -> Iterator[Proposal]:
    """One choice changed, around the configs that contribute most to the front, in turn; then around the next layer."""
    contributions = [(_contribution(view, config), config) for config in view.front]
    layer = [config for _, config in sorted(contributions, key=lambda pair: -pair[0])]
    behind = pareto(config for config in view.configs if config not in layer)
    for parents in (layer, list(behind)):
        around = [_near(view, parent) for parent in parents if _promising(view, parent)]
        for candidate in itertools.chain.from_iterable(itertools.zip_longest(*around)):
            if candidate is not None:
                yield Proposal(candidate, "a neighbour of a config on the front")


def _near(view: View, parent: Config) -> Iterator[Candidate]:
    return (other for other in neighbours(view.space, parent.candidate) if worth_serving(view, other))


def _promising(view: View, config: Config) -> bool:
    """Whether the config is of interest, or may be once it has been trained on."""
    epochs = view.space.trained_for(config.candidate)
    best = config.score if epochs is None else view.learning.optimistic(config.score, epochs, view.scale)
    return best >= view.scale.floor


def worth_serving(view: View, candidate: Candidate) -> bool:
    """Not where it would come out behind: a slow engine stays slow, within the limits of a surprise. Nor what will be refused.

    Of a network that has been measured it is known what it loses, so it is held against the front; any other against itself
    in the deployment that serves the unchanged network fastest, since both would lose about the same.
    """
    if (candidate.deployment.engine, candidate.deployment.precision) in view.refused:
        return False
    plain = view.learning.plain_ms
    configs = view.changed.get(trained_id(view.space, candidate))
    latency_ms = _expected_latency(candidate.deployment, configs, plain) if configs else None
    if configs is None:
        alike = _alike(candidate.deployment, plain)
        same_engine = [ms for served, ms in alike if served.engine == candidate.deployment.engine]
        # Not known yet: the unchanged network is being built or timed there.
        unchanged_ms = plain.get(candidate.deployment) or min(same_engine, default=math.inf)
        fastest_ms = min((ms for _, ms in alike), default=0.0)
        return not view.space.network(candidate) or unchanged_ms * SURPRISE <= fastest_ms
    if latency_ms is None:
        # What an engine does to the unchanged network comes first: some take minutes to build.
        return any(served.engine == candidate.deployment.engine for served in plain)
    return could_enter(view.points, latency_ms * SURPRISE, max(c.score for c in configs), view.scale).keep


def _turn(view: View) -> Iterator[Proposal]:
    """Of four turns one is the sampler's, the others are local search.

    In the tests' landscape local search alone did as well (short budgets) or better (long ones) than with the sampler in
    every other turn; but that landscape is smooth, and only the sampler goes where nobody has been.
    """
    if (len(view.rows) + len(view.running)) % 4 != _SAMPLERS_TURN:
        yield from local_moves(view)


def _settings(step: StepChoice) -> Iterator[dict[str, Value]]:
    """The technique at a few strengths: its first parameter with an order, spread over its values."""
    graded = [p for p in step.parameters if not isinstance(p.domain, Listed) or p.domain.ordered]
    if not graded:
        yield {step.technique: True}
        return
    for value in graded[0].domain.spread():
        yield {step.technique: True, f"{step.technique}.{graded[0].name}": value}


def _fastest_deployment(view: View) -> dict[str, Value]:
    """The choices that serve the unchanged network fastest, with one thread and batch as first listed."""
    space = view.space
    latency = {config.candidate.id: config.latency_ms for config in view.configs}
    options = [choices for _, choices in deployments(space)][: len(space.targets)]
    return min(options, key=lambda choices: latency.get(recompose(space, choices).id, float("inf")))


def _expected_latency(
    deployment: Deployment, configs: Sequence[Config], plain: Mapping[Deployment, float]
) -> float | None:
    """As the unchanged network's latencies relate: the median over the deployments in which this network was timed."""
    pace = _pace(configs, plain) if deployment in plain else None
    return None if pace is None else plain[deployment] * pace


def _pace(configs: Sequence[Config], plain: Mapping[Deployment, float]) -> float | None:
    """What a network takes of what the unchanged one takes; None where both were timed nowhere."""
    ratios = [c.latency_ms / plain[c.candidate.deployment] for c in configs if c.candidate.deployment in plain]
    return median(ratios) if ratios else None


def _alike(deployment: Deployment, plain: Mapping[Deployment, float]) -> list[tuple[Deployment, float]]:
    """Where the unchanged network was timed in the same way of running."""
    return [(served, ms) for served, ms in plain.items() if served.way == deployment.way]


def _contribution(view: View, config: Config) -> float:
    others = [other.point for other in view.front if other is not config]
    return view.scale.gain(others, config.point)


def _by(configs: Iterable[Config], key: Callable[[Config], str]) -> dict[str, list[Config]]:
    groups: dict[str, list[Config]] = {}
    for config in configs:
        groups.setdefault(key(config), []).append(config)
    return groups
