"""One walk through a space, whoever chooses.

A candidate is made by asking, choice after choice, "which of these?"; which choices there are depends on the answers so
far. Sampling, drawing at random, reading a candidate back, counting, changing one choice: all are this walk with another
chooser, so they cannot disagree about what a valid candidate is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import TypeAlias, TypeVar, cast

from autoopt.records import Candidate, Deployment, Step
from autoopt.records.candidate import DYNAMIC, STATIC
from autoopt.space.domains import Domain, Interval, Listed, Value
from autoopt.space.resolved import ParameterChoice, Space, StepChoice, Target, holds

Choose: TypeAlias = Callable[[str, Domain, Value], Value]
"""(the choice's name, its values, its default) -> one of the values. Asked only where there are two values or more."""
Choices: TypeAlias = dict[str, Value]

Chosen = TypeVar("Chosen", str, int, float)

_SWITCH = Listed((False, True))


def compose(space: Space, choose: Choose) -> Candidate:
    """Walk the space and make the candidate that the answers describe."""
    deployment, target, options = _deployment(space, choose)
    facts: Choices = {
        "engine": deployment.engine,
        "hardware": deployment.hardware,
        "precision": deployment.precision,
        "fusion": deployment.fusion,
        "batch": deployment.batch,
        "threads": deployment.threads,
        "instances": deployment.instances,
        **options,
        "changed": False,
    }
    steps = []
    quantizer = _pick(choose, _quantizer_name(target), target.quantizers) if target.quantizers else None
    for choice in space.steps:
        used = choice.technique == quantizer if choice.precision is not None else _used(choice, facts, choose)
        facts[choice.technique] = used
        if used:
            steps.append(Step(choice.technique, _parameters(choice, facts, choose)))
            facts["changed"] = facts["changed"] or choice.changes_structure
    return Candidate(tuple(steps), deployment)


def choices_of(space: Space, candidate: Candidate) -> Choices | None:
    """The answers that make this candidate; None where it is not one of this space."""
    known = _facts_of(space, candidate)
    answers: Choices = {}

    def read(name: str, domain: Domain, default: Value) -> Value:
        value = known.get(name, default)
        answers[name] = value if domain.contains(value) else default
        return answers[name]

    return answers if compose(space, read) == candidate else None


def recompose(space: Space, choices: Mapping[str, Value]) -> Candidate:
    """The candidate of these answers; a choice that they leave open, or answer impossibly, gets its default."""
    return compose(space, _reader(choices))


def deployment_of(space: Space, choices: Mapping[str, Value]) -> Deployment:
    """The deployment half of `recompose`."""
    return _deployment(space, _reader(choices))[0]


def _reader(choices: Mapping[str, Value]) -> Choose:
    def read(name: str, domain: Domain, default: Value) -> Value:
        value = choices.get(name, default)
        return value if domain.contains(value) else default

    return read


def domains_of(space: Space, candidate: Candidate) -> dict[str, Domain]:
    """The choices that the candidate went through, by name."""
    known = _facts_of(space, candidate)
    met: dict[str, Domain] = {}

    def read(name: str, domain: Domain, default: Value) -> Value:
        met[name] = domain
        value = known.get(name, default)
        return value if domain.contains(value) else default

    compose(space, read)
    return met


def draw(space: Space, random: Random) -> Candidate:
    """A candidate in which each choice was made evenly."""

    def choose(_name: str, domain: Domain, _default: Value) -> Value:
        if isinstance(domain, Listed):
            return random.choice(domain.values)
        return domain.at(random.random())

    return compose(space, choose)


def every(space: Space) -> Iterator[Candidate]:
    """All candidates, in a fixed order; an interval is represented by a few of its values.

    The odometer: walk with the answers so far, then turn the last choice that has another value.
    """
    wheels: list[tuple[int, int]] = []
    while True:
        turn = _Odometer(wheels)
        yield compose(space, turn)
        wheels = turn.wheels
        while wheels and wheels[-1][0] + 1 >= wheels[-1][1]:
            wheels.pop()
        if not wheels:
            return
        place, size = wheels[-1]
        wheels[-1] = (place + 1, size)


class _Odometer:
    """Answers with the positions that it is given, then with the first values; notes how many there were."""

    def __init__(self, start: list[tuple[int, int]]) -> None:
        self._start = start
        self.wheels: list[tuple[int, int]] = []

    def __call__(self, _name: str, domain: Domain, _default: Value) -> Value:
        values = domain.spread() if isinstance(domain, Interval) else domain.values
        index = len(self.wheels)
        place = self._start[index][0] if index < len(self._start) else 0
        self.wheels.append((place, len(values)))
        return values[place]


def _deployment(space: Space, choose: Choose) -> tuple[Deployment, Target, Choices]:
    """How it is served, for what, and all of the engine's options, as facts."""
    engine = _pick(choose, "engine", space.engines)
    targets = space.targets_of(engine)
    hardware = _pick(choose, f"{engine}.hardware", tuple(dict.fromkeys(target.hardware for target in targets)))
    targets = tuple(target for target in targets if target.hardware == hardware)
    precision = _pick(choose, f"{engine}.{hardware}.precision", tuple(target.precision for target in targets))
    target = next(target for target in targets if target.precision == precision)
    fusion = _pick(choose, f"{engine}.{hardware}.fusion", target.fusions)
    batch = _pick(choose, "batch", space.batches)
    threads = _pick(choose, "threads", space.threads)
    # A name of its own for each number of threads, since the values depend on it.
    instances = _pick(choose, instances_name(threads), space.instances_of(threads))
    batching, max_wait_ms = _batching(space, choose, batch)
    facts: Choices = {"hardware": hardware, "precision": precision, "fusion": fusion, "batch": batch}
    facts |= {"threads": threads, "instances": instances}
    options = {option.name: _parameter(engine, option, facts, choose) for option in target.options}
    deployment = Deployment(
        engine=engine,
        precision=precision,
        fusion=fusion,
        batch=batch,
        threads=threads,
        hardware=hardware,
        instances=instances,
        batching=batching,
        max_wait_ms=max_wait_ms,
        options={each.name: options[each.name] for each in target.options if options[each.name] != each.fallback},
    )
    return deployment, target, {f"{engine}.{name}": value for name, value in options.items()}


def instances_name(threads: int) -> str:
    """The name of the choice how many copies with so many threads serve."""
    return f"{threads}.instances"


def _batching(space: Space, choose: Choose, batch: int) -> tuple[str, float]:
    """A batch of one never waits, so that there is nothing to choose."""
    if batch == 1:
        return STATIC, 0.0
    batching = _pick(choose, "batching", space.batching)
    return batching, _pick(choose, "max_wait_ms", space.max_wait_ms) if batching == DYNAMIC else 0.0


def _used(choice: StepChoice, facts: Choices, choose: Choose) -> bool:
    if not holds(choice.when, facts):
        return False
    return bool(choose(choice.technique, _SWITCH, False)) if choice.optional else True  # noqa: FBT003 (a value)


def _parameters(choice: StepChoice, facts: Choices, choose: Choose) -> dict[str, Value]:
    """What the step says: neither parameters without a choice at the technique's own default, nor those that do not apply."""
    said = {}
    for parameter in choice.parameters:
        value = _parameter(choice.technique, parameter, facts, choose)
        if value != parameter.fallback or (_is_choice(parameter.domain) and holds(parameter.when, facts)):
            said[parameter.name] = value
    return said


def _parameter(technique: str, parameter: ParameterChoice, facts: Choices, choose: Choose) -> Value:
    name = f"{technique}.{parameter.name}"
    value = parameter.fallback
    if holds(parameter.when, facts):
        value = choose(name, parameter.domain, parameter.default) if _is_choice(parameter.domain) else parameter.default
    facts[name] = value
    return value


def _is_choice(domain: Domain) -> bool:
    return not isinstance(domain, Listed) or len(domain.values) > 1


def _pick(choose: Choose, name: str, values: tuple[Chosen, ...]) -> Chosen:
    return values[0] if len(values) == 1 else cast("Chosen", choose(name, Listed(values), values[0]))


def _quantizer_name(target: Target) -> str:
    return f"{target.engine}.{target.precision}.quantizer"


def _facts_of(space: Space, candidate: Candidate) -> Choices:
    """What the candidate says, under the names of the choices."""
    served = candidate.deployment
    facts: Choices = {
        "engine": served.engine,
        f"{served.engine}.hardware": served.hardware,
        f"{served.engine}.{served.hardware}.precision": served.precision,
        f"{served.engine}.{served.hardware}.fusion": served.fusion,
        "batch": served.batch,
        "threads": served.threads,
        instances_name(served.threads): served.instances,
        "batching": served.batching,
        "max_wait_ms": served.max_wait_ms,
        **{f"{served.engine}.{name}": value for name, value in served.options.items()},
    }
    for step in candidate.model:
        facts[step.technique] = True
        facts.update({f"{step.technique}.{name}": value for name, value in step.params.items()})
        kind = space.kind(step)
        if kind is not None and kind.precision is not None:
            facts[f"{served.engine}.{served.precision}.quantizer"] = step.technique
    return facts
