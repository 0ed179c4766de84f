"""The file's ways of running (batches, threads, instances, batching) against the scenario and the lane's cores."""

from __future__ import annotations

from dataclasses import dataclass

from autoopt.records.candidate import DYNAMIC, STATIC
from autoopt.space.resolved import Exclusion, TaskFacts
from autoopt.space.schema import SpaceFile


@dataclass(frozen=True)
class Ways:
    """What is left; none of the lists is empty."""

    batches: tuple[int, ...]
    threads: tuple[int, ...]
    instances: tuple[int, ...]
    batching: tuple[str, ...]
    max_wait_ms: tuple[float, ...]


def ways_of_running(file: SpaceFile, facts: TaskFacts) -> tuple[Ways | None, list[Exclusion]]:
    """What the scenario has a use for and the lane has cores for; None where nothing is left."""
    given = file.deployment
    batches, no_batches = _batches(file)
    instances, no_instances = _instances(file, facts)
    threads = tuple(count for count in given.threads if count * min(instances, default=1) <= facts.cores)
    why = f"the lane has {facts.cores} core{'s' if facts.cores > 1 else ''}"
    no_threads = [Exclusion(f"threads {count}", why) for count in given.threads if count not in threads]
    excluded = [*no_batches, *no_instances, *no_threads]
    if not (batches and instances and threads):
        return None, excluded
    served = file.scenario == "server" and max(batches) > 1
    return Ways(
        batches=batches,
        threads=threads,
        instances=instances,
        batching=given.batching if served else (STATIC,),
        max_wait_ms=given.max_wait_ms if served and DYNAMIC in given.batching else (0.0,),
    ), excluded


def _batches(file: SpaceFile) -> tuple[tuple[int, ...], list[Exclusion]]:
    """The batches, 1 alone where single samples are served."""
    given = file.deployment.batch
    if file.scenario != "single_stream":
        return given, []
    why = "single_stream serves one sample a request"
    kept = tuple(batch for batch in given if batch == 1)
    return kept, [Exclusion(f"batch {batch}", why, "scenario: offline") for batch in given if batch != 1]


def _instances(file: SpaceFile, facts: TaskFacts) -> tuple[tuple[int, ...], list[Exclusion]]:
    """How many copies; one alone where there is one request at a time."""
    given = file.deployment.instances
    if file.scenario == "single_stream":
        why = "single_stream has one request at a time"
        kept = tuple(count for count in given if count == 1)
        return kept, [Exclusion(f"instances {count}", why, "scenario: offline") for count in given if count != 1]
    why = f"the lane has {facts.cores} core{'s' if facts.cores > 1 else ''}"
    kept = tuple(count for count in given if count * min(file.deployment.threads) <= facts.cores)
    return kept, [Exclusion(f"instances {count}", why) for count in given if count not in kept]
