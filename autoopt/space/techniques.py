"""The file's technique sections, and the engines' options, against what is declared: parameters, values, defaults, order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from autoopt.errors import SpaceError
from autoopt.space.domains import Domain, Listed, Value
from autoopt.space.names import unknown
from autoopt.space.resolved import Exclusion, ParameterChoice, StepChoice, TaskFacts
from autoopt.space.schema import ParameterSection, TechniqueSection, When
from autoopt.workers.parameters import Parameter
from autoopt.workers.techniques.base import Technique

EPOCHS = "epochs"
# What is chosen before an engine's options are.
_OPTION_FACTS = ("hardware", "precision", "fusion", "batch", "threads", "instances")


def application_order(names: Iterable[str], techniques: Mapping[str, Technique]) -> tuple[str, ...]:
    """Structure first, then training, then quantization; within each as in the plugins' table."""
    table = list(techniques)

    def place(name: str) -> tuple[bool, bool, int]:
        technique = techniques[name]
        return technique.precision is not None, technique.needs_training, table.index(name)

    return tuple(sorted(names, key=place))


def step_choice(technique: Technique, section: TechniqueSection, space: str) -> StepChoice:
    """The section, checked.

    Raises:
        SpaceError: a parameter does not exist, or does not allow a value.
    """
    where = f'The search space "{space}", model.{technique.name}'
    given = dict(section.parameters)
    if section.rungs:
        given[EPOCHS] = ParameterSection(values=Listed(section.rungs))
    declared = {parameter.name: parameter for parameter in technique.parameters}
    for name in given:
        if name not in declared:
            options = ("optional", "when", *(("rungs", "start") if EPOCHS in declared else ()))
            problem = unknown("parameter", name, declared)
            message = f"{where}: {problem} Besides parameters it takes {', '.join(options)}."
            raise SpaceError(message)
    parameters = tuple(
        _choice(parameter, given.get(parameter.name), section.start, technique.name, where)
        for parameter in technique.parameters
    )
    epochs = next((parameter for parameter in parameters if parameter.name == EPOCHS), None)
    return StepChoice(
        technique=technique.name,
        parameters=parameters,
        optional=section.optional,
        when=section.when,
        trains=technique.needs_training,
        precision=technique.precision,
        rungs=_rungs(epochs) if technique.needs_training else (),
        start=float(epochs.default) if technique.needs_training and epochs else None,
    )


def option_choices(
    declared: Iterable[Parameter], given: Mapping[str, ParameterSection], engine: str, where: str
) -> tuple[ParameterChoice, ...]:
    """What the file says of an engine's options, checked.

    Raises:
        SpaceError: an option does not exist, or does not allow a value.
    """
    known = {parameter.name: parameter for parameter in declared}
    for name in given:
        if name not in known:
            message = f"{where}: {unknown('key', name, ('precision', 'fusion', *known))}"
            raise SpaceError(message)
    facts = (*_OPTION_FACTS, *(f"{engine}.{name}" for name in known))
    for name, section in given.items():
        for fact in _qualified(section.when, engine):
            if fact not in facts:
                message = f"{where}.{name}.when: {unknown('fact', fact, facts)}"
                raise SpaceError(message)
    return tuple(_choice(known[name], given[name], None, engine, where) for name in known if name in given)


def without(choice: StepChoice, facts: TaskFacts) -> tuple[StepChoice | None, list[Exclusion]]:
    """The choice without the values that the task cannot serve; None where that leaves a parameter without any."""
    parameters, excluded = [], []
    for parameter in choice.parameters:
        gone = facts.without.get(f"{choice.technique}.{parameter.name}", ())
        domain = parameter.domain
        if gone and isinstance(domain, Listed) and any(domain.contains(value) for value in gone):
            left = tuple(value for value in domain.values if not Listed(gone).contains(value))
            why = "the task has nothing to make it from"
            excluded += [
                Exclusion(f"{choice.technique} {parameter.name} {value}", why)
                for value in domain.values
                if value not in left
            ]
            if not left:
                return None, excluded
            default = parameter.default if parameter.default in left else left[0]
            parameter = replace(parameter, domain=Listed(left), default=default)  # noqa: PLW2901 (the same one, narrowed)
        parameters.append(parameter)
    return replace(choice, parameters=tuple(parameters)), excluded


def _choice(
    parameter: Parameter, given: ParameterSection | None, start: float | None, technique: str, where: str
) -> ParameterChoice:
    if given is None:
        return ParameterChoice(parameter.name, Listed((parameter.default,)), parameter.default, parameter.default)
    domain = _typed(given.values, parameter)
    for value in domain.values if isinstance(domain, Listed) else (domain.low, domain.high):
        if not parameter.allows(value):
            message = f"{where}.{parameter.name}: {value!r} is not allowed. Allowed: {parameter.allowed()}."
            raise SpaceError(message)
    default = parameter.default if domain.contains(parameter.default) else _first(domain)
    if parameter.name == EPOCHS and isinstance(domain, Listed):
        default = start if start is not None else domain.values[0]
    return ParameterChoice(parameter.name, domain, default, parameter.default, _qualified(given.when, technique))


def _typed(domain: Domain, parameter: Parameter) -> Domain:
    """Whole numbers where the parameter takes fractions become fractions: 1 and 1.0 must be one candidate."""
    if isinstance(domain, Listed) and isinstance(parameter.default, float):
        return Listed(tuple(_fraction(value) for value in domain.values))
    return domain


def _fraction(value: Value) -> Value:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _first(domain: Domain) -> Value:
    return domain.values[0] if isinstance(domain, Listed) else domain.spread()[0]


def _qualified(when: When, technique: str) -> When:
    """A fact ``.name`` means another parameter of the same technique."""
    return {f"{technique}{fact}" if fact.startswith(".") else fact: values for fact, values in when.items()}


def _rungs(epochs: ParameterChoice | None) -> tuple[float, ...]:
    if epochs is None or not isinstance(epochs.domain, Listed):
        return ()
    return tuple(sorted(float(value) for value in epochs.domain.values if not isinstance(value, str)))
