"""What each choice bought: from the reference to one config, through configs that were really measured.

A config is taken apart into its choices: the deployment (engine, way of running, options, hardware), the fusion, the precision,
and each compression step. Every measured config whose choices are a part of them stands somewhere between the reference
and it; the longest chain of such configs, each with some more of the choices than the one before, is the waterfall.
Nothing is modelled: where no config between was measured, several choices share one bar, and the bar says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoopt.front import Config
from autoopt.records import Candidate, Estimate, Step
from autoopt.records.candidate import Deployment
from autoopt.records.estimates import difference, ratio


@dataclass(frozen=True)
class Gain:
    """One bar: what a group of choices brought, on the validation split."""

    choices: tuple[str, ...]
    """Added since the bar before; more than one where they were not measured apart."""
    config: Config
    """Measured with these and all earlier choices."""
    speedup: Estimate
    """Of all choices so far, against the reference."""
    factor: Estimate
    """Of this group alone: the ratio to the bar before."""
    drop: Estimate
    """Of all choices so far."""
    extra_drop: Estimate
    """Of this group alone."""

    @property
    def together(self) -> bool:
        """Whether several choices share this bar for want of a measurement between."""
        return len(self.choices) > 1


def ablate(
    target: Config, reference: Config, configs: Sequence[Config], quantizers: frozenset[str] = frozenset()
) -> tuple[Gain, ...]:
    """The bars from the reference to ``target``; empty where the target is the reference.

    Args:
        target: the config to take apart.
        reference: where the waterfall starts.
        configs: everything that was measured.
        quantizers: techniques that make a precision possible: they and the precision are one choice.
    """
    ends = _Ends(target.candidate, reference.candidate, quantizers)
    wanted = _choices(target.candidate, ends)
    parts = {
        config.id: (config, chosen)
        for config in (*configs, target)
        if (chosen := _choices(config.candidate, ends)) is not None
    }
    if not wanted or target.id == reference.id:
        return ()
    chain = _longest_chain([(config, chosen) for config, chosen in parts.values() if chosen], wanted)
    gains, before, had = [], reference, frozenset[str]()
    for config, chosen in chain:
        gains.append(_gain(config, before, _in_order(chosen - had, ends.target)))
        before, had = config, chosen
    return tuple(gains)


@dataclass(frozen=True)
class _Ends:
    target: Candidate
    reference: Candidate
    quantizers: frozenset[str]


def _choices(candidate: Candidate, ends: _Ends) -> frozenset[str] | None:
    """Those of the target's choices that the candidate has; None where it has others."""
    if candidate.id == ends.reference.id:
        return frozenset()
    mine, theirs, start = candidate.deployment, ends.target.deployment, ends.reference.deployment
    same_place = _place(mine) == _place(theirs)
    known_fusion = mine.fusion in (theirs.fusion, "default")
    known_precision = mine.precision in (theirs.precision, start.precision)
    if not (same_place and known_fusion and known_precision and _is_subsequence(candidate.model, ends.target.model)):
        return None
    chosen = {step_name(step) for step in candidate.model if step.technique not in ends.quantizers}
    if _place(mine) != _place(start):
        chosen.add(_deployment_name(theirs, start))
    if mine.fusion != start.fusion:
        chosen.add(f"fusion {mine.fusion}")
    if mine.precision != start.precision:
        how = [step_name(step) for step in candidate.model if step.technique in ends.quantizers]
        chosen.add(f"{mine.precision} by {', '.join(how)}" if how else mine.precision)
    return frozenset(chosen)


def _in_order(choices: frozenset[str], target: Candidate) -> tuple[str, ...]:
    """The deployment's choices first, then the steps as they are applied."""
    steps = [step_name(step) for step in target.model]
    return tuple(sorted(choices, key=lambda name: (steps.index(name) if name in steps else -1, name)))


def _place(deployment: Deployment) -> tuple[object, ...]:
    return (deployment.engine, deployment.way, deployment.hardware, sorted(deployment.options.items()))


def _deployment_name(mine: Deployment, start: Deployment) -> str:
    parts = [mine.engine]
    if mine.threads != start.threads:
        parts.append(f"{mine.threads} thread{'s' if mine.threads > 1 else ''}")
    if mine.batch != start.batch:
        parts.append(f"batch {mine.batch}")
    if mine.batching != start.batching:
        parts.append(f"{mine.batching} batching")
    if mine.instances != start.instances:
        parts.append(f"{mine.instances} instances")
    parts += [f"{name.replace('_', ' ')} {value}" for name, value in sorted(mine.options.items())]
    if mine.hardware != start.hardware:
        parts.append(mine.hardware)
    return ", ".join(parts)


def step_name(step: Step) -> str:
    """``structured pruning (ratio 0.3)``, as in `Candidate.describe`."""
    return Candidate((step,), Deployment("")).describe().split(" | ", 1)[0]


def _is_subsequence(steps: Sequence[Step], of: Sequence[Step]) -> bool:
    remaining = iter(of)
    return all(any(step == other for other in remaining) for step in steps)


_Part = tuple[Config, frozenset[str]]


def _longest_chain(parts: Sequence[_Part], wanted: frozenset[str]) -> list[_Part]:
    """The chain by inclusion with the most members that ends at the whole; of equally long ones the one fastest early."""
    best: dict[frozenset[str], list[_Part]] = {}
    # Of several configs with the same choices (another fusion that is the engine's default, …) the first measured counts.
    unique = {chosen: (config, chosen) for config, chosen in reversed(parts)}
    for config, chosen in sorted(unique.values(), key=lambda part: (len(part[1]), sorted(part[1]))):
        before = [chain for had, chain in best.items() if had < chosen]
        longest = max(before, key=_rank, default=[])
        best[chosen] = [*longest, (config, chosen)]
    return best.get(wanted, [])


def _rank(chain: Sequence[_Part]) -> tuple[float, ...]:
    return (len(chain), *(config.validation.speedup.value for config, _ in chain))


def _gain(config: Config, before: Config, choices: tuple[str, ...]) -> Gain:
    now, then = config.validation, before.validation
    return Gain(
        choices=choices,
        config=config,
        speedup=now.speedup,
        factor=ratio(now.speedup, then.speedup),
        drop=now.score_drop,
        extra_drop=difference(now.score_drop, then.score_drop),
    )
