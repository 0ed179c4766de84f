"""A file meets the plugins, the task and the machine: names are checked, and what cannot work here is left out.

Mistakes (a name that no plugin has, a value that a parameter does not allow) are errors. What is merely not to be had
here (an engine that is not installed, a technique whose data the task lacks) is left out, with the reason on record.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from autoopt.errors import SpaceError
from autoopt.space.deployments import Declared, Leads, Plugins, convertible, declarations, targets
from autoopt.space.names import unknown
from autoopt.space.resolved import Exclusion, Space, StepChoice, TaskFacts
from autoopt.space.running import ways_of_running
from autoopt.space.schema import SpaceFile, When
from autoopt.space.techniques import application_order, step_choice, without
from autoopt.workers.engines.base import Offer
from autoopt.workers.techniques.base import Technique

_DEPLOYMENT_FACTS = ("engine", "hardware", "precision", "fusion", "batch", "threads", "instances", "changed")


def resolve(
    file: SpaceFile,
    techniques: Mapping[str, Technique],
    offers: Mapping[str, Offer],
    facts: TaskFacts,
    *,
    declared: Mapping[str, Declared] | None = None,
    leads: Leads | None = None,
) -> Space:
    """What of the file can be searched for this task on this machine.

    Args:
        file: the search space as written.
        techniques: every technique that there is, by name, in the order in which they are applied.
        offers: what every engine offers here, by name.
        facts: the task and the node.
        declared: the formats and options of each engine that is offered; default: what the engines declare.
        leads: whether one format can be converted to another; default: `autoopt.workers.formats`.

    Raises:
        SpaceError: a name or value does not exist, or nothing is left; the message says what is missing.
    """
    declared = declared if declared is not None else declarations(file.deployment.engine, offers)
    plugins = Plugins(techniques, offers, declared, leads or convertible)
    steps, lost = _steps(file, plugins, facts)
    steps, more = _drop_unrecoverable(file, steps, lost)
    excluded = [*lost, *more]
    found, gone = targets(file, plugins, facts, steps)
    excluded += gone
    if not found:
        raise SpaceError(_nothing_left(file, excluded))
    used = {name for target in found for name in target.quantizers}
    for step in steps:
        if step.precision is not None and step.technique not in used:
            excluded.append(
                Exclusion(f"technique {step.technique}", f"nothing is left that is served in {step.precision}")
            )
    ways, gone = ways_of_running(file, facts)
    excluded += gone
    if ways is None:
        raise SpaceError(_nothing_left(file, excluded))
    return Space(
        name=file.name,
        scenario=file.scenario,
        steps=tuple(step for step in steps if step.precision is None or step.technique in used),
        targets=found,
        batches=ways.batches,
        threads=ways.threads,
        instances=ways.instances,
        batching=ways.batching,
        max_wait_ms=ways.max_wait_ms,
        p99_ms=file.p99_ms if file.scenario == "server" else None,
        cores=facts.cores,
        max_drop_of_interest=file.limits.max_drop_of_interest,
        executed_nodes=file.limits.executed_nodes,
        executed_time=file.limits.executed_time,
        stage_timeout_s=file.limits.stage_timeout_s,
        stage_memory_gb=file.limits.stage_memory_gb,
        stage_disk_gb=file.limits.stage_disk_gb,
        excluded=tuple(excluded),
    )


def _steps(file: SpaceFile, plugins: Plugins, facts: TaskFacts) -> tuple[list[StepChoice], list[Exclusion]]:
    techniques = plugins.techniques
    strange = [name for name in file.model if name not in techniques]
    if strange:
        problem = "; ".join(f"model.{name}: {unknown('technique', name, techniques)}" for name in strange)
        raise SpaceError(_in(file, problem))
    steps: list[StepChoice] = []
    excluded: list[Exclusion] = []
    for name in application_order(file.model, techniques):
        choice = step_choice(techniques[name], file.model[name], file.name)
        _check_facts(file, choice, techniques)
        why = _cannot(techniques[name], facts)
        possible, gone = without(choice, facts)
        excluded += gone
        if possible is None or why:
            excluded.append(Exclusion(f"technique {name}", why or "none of its choices is left"))
        else:
            steps.append(possible)
    return steps, excluded


def _cannot(technique: Technique, facts: TaskFacts) -> str | None:
    """Why the technique cannot be used for this task; None where it can. Quantizers' formats depend on the engine."""
    if technique.needs_training and "train" not in facts.splits:
        return "it trains, and the task has no training data"
    missing = [split for split in technique.needs if split not in facts.splits]
    if missing:
        return f"it needs {' and '.join(missing)} data, which the task does not have"
    if technique.precision is None and facts.format not in technique.formats:
        return f"it takes a network as {' or '.join(technique.formats)}, and the task's is {facts.format}"
    return None


def _drop_unrecoverable(
    file: SpaceFile, steps: list[StepChoice], lost: list[Exclusion]
) -> tuple[list[StepChoice], list[Exclusion]]:
    """Without the training that the file wants after a change, changed networks are not worth a look.

    A file whose training is ``optional``, or that names none, says that they are.
    """
    gone = [name for name, section in file.model.items() if _wanted_after_change(section.when) and not section.optional]
    gone = [name for name in gone if any(item.what == f"technique {name}" for item in lost)]
    if not gone:
        return steps, []
    why = f"it changes the network, and {gone[0]}, which has to follow, is left out"
    dropped = [step for step in steps if step.changes_structure]
    return (
        [step for step in steps if step not in dropped],
        [Exclusion(f"technique {step.technique}", why) for step in dropped],
    )


def _wanted_after_change(when: When) -> bool:
    return True in when.get("changed", ())


def _check_facts(file: SpaceFile, choice: StepChoice, techniques: Mapping[str, Technique]) -> None:
    """Conditions may ask only what can be known when they are asked."""
    parameters = [f"{name}.{p.name}" for name, technique in techniques.items() for p in technique.parameters]
    options = [f"{name}.{option}" for name, section in file.deployment.engine.items() for option in section.options]
    known = [*_DEPLOYMENT_FACTS, *options, *techniques, *parameters]
    for when in (choice.when, *(parameter.when for parameter in choice.parameters)):
        for fact in when:
            if fact not in known:
                problem = f"model.{choice.technique}.when: {unknown('fact', fact, (*_DEPLOYMENT_FACTS, *file.model))}"
                raise SpaceError(_in(file, problem))


def _in(file: SpaceFile, problem: str) -> str:
    return f'The search space "{file.name}" does not fit the plugins: {problem}'


def _nothing_left(file: SpaceFile, excluded: Iterable[Exclusion]) -> str:
    lines = "\n".join(f"  - {item}" for item in excluded) or "  - the file offers nothing"
    return (
        f'Nothing is left of the search space "{file.name}" for this task on this machine:\n{lines}\n'
        "Install one of the engines (see `autoopt engines`), or choose another space (see `autoopt spaces`)."
    )
