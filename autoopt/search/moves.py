"""From one candidate to others: the same network served otherwise, the same one trained longer, one choice changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from autoopt.records import Candidate, Deployment
from autoopt.space import Space, Target, Value, choices_of, domains_of, recompose
from autoopt.space.walk import deployment_of, instances_name

Choices = dict[str, Value]


def deployments(space: Space) -> Iterator[tuple[Target, Choices]]:
    """Every target in every way of running, at its default fusion and options: the first way throughout, then the next."""
    for way in _ways(space):
        for target in space.targets:
            choices: Choices = {
                "engine": target.engine,
                f"{target.engine}.hardware": target.hardware,
                f"{target.engine}.{target.hardware}.precision": target.precision,
                f"{target.engine}.{target.hardware}.fusion": target.fusions[0],
                **{f"{target.engine}.{option.name}": option.default for option in target.options},
                **way,
            }
            yield target, choices


def _ways(space: Space) -> Iterator[Choices]:
    """Batches with threads, instances and batching; how long a batch waits is left to the neighbours."""
    for batch in space.batches:
        for threads in space.threads:
            for instances in space.instances_of(threads):
                way: Choices = {"batch": batch, "threads": threads, instances_name(threads): instances}
                for batching in space.batching if batch > 1 else space.batching[:1]:
                    yield {**way, "batching": batching, "max_wait_ms": space.max_wait_ms[0]}


def redeployed(
    space: Space, candidate: Candidate, wanted: Callable[[Deployment], bool] = lambda _: True
) -> Iterator[Candidate]:
    """The candidate's network in every deployment that is wanted (the candidate itself may be among them)."""
    served = [choices for _, choices in deployments(space) if wanted(deployment_of(space, choices))]
    known = choices_of(space, candidate) if served else None
    if known is None:
        return
    network = space.network(candidate)
    for choices in served:
        other = recompose(space, {**known, **choices})
        if space.network(other) == network:
            yield other


def trained_to(space: Space, candidate: Candidate, epochs: float) -> Candidate | None:
    """The same candidate trained for so many epochs; None where it is not trained by rungs, or not of this space."""
    trainer, known = space.trainer, choices_of(space, candidate)
    if trainer is None or known is None or space.trained_for(candidate) is None:
        return None
    return recompose(space, {**known, f"{trainer.technique}.epochs": epochs})


def started(space: Space, candidate: Candidate) -> Candidate:
    """The candidate at the rung at which a new network begins; unchanged where nothing is trained."""
    start = space.trainer.start if space.trainer else None
    return candidate if start is None else trained_to(space, candidate, start) or candidate


def neighbours(space: Space, candidate: Candidate) -> Iterator[Candidate]:
    """Candidates with one choice changed by one step; a network that this changes begins at the starting rung."""
    known = choices_of(space, candidate)
    if known is None:
        return
    network = space.network(candidate)
    rung = f"{space.trainer.technique}.epochs" if space.trainer and space.rungs else None
    for name, domain in domains_of(space, candidate).items():
        if name == rung:
            continue
        for value in domain.neighbours(known[name]):
            other = recompose(space, {**known, name: value})
            yield other if space.network(other) == network else started(space, other)
