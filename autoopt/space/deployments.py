"""The file's deployment section against what the engines offer here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from autoopt.errors import SpaceError
from autoopt.space.names import unknown
from autoopt.space.resolved import Exclusion, ParameterChoice, StepChoice, Target, TaskFacts
from autoopt.space.schema import ANY, EngineSection, SpaceFile
from autoopt.space.techniques import option_choices
from autoopt.workers.engines.base import Offer
from autoopt.workers.parameters import Parameter
from autoopt.workers.techniques.base import Technique

Leads: TypeAlias = Callable[[str, str], bool]
"""Whether a network in the first format can be converted to the second."""

HARDWARE = ("cpu", "cuda", "gpu", "npu")
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "int8_dynamic")
DEFAULT_FUSION = "default"


@dataclass(frozen=True)
class Plugins:
    """What there is to resolve against."""

    techniques: Mapping[str, Technique]
    offers: Mapping[str, Offer]
    declared: Mapping[str, Declared]
    """Of each engine that is offered."""
    leads: Leads


@dataclass(frozen=True)
class Declared:
    """What an engine says of itself, whatever the machine."""

    formats: tuple[str, ...]
    options: tuple[Parameter, ...] = ()


def declarations(names: Iterable[str], offers: Mapping[str, Offer]) -> dict[str, Declared]:
    """What the engines of those names declare; those that offer nothing here need not be importable."""
    from autoopt.workers.engines import engine

    offered = (engine(name) for name in names if name in offers and offers[name].available)
    return {each.name: Declared(each.formats, each.options) for each in offered}


def convertible(start: str, end: str) -> bool:
    """Whether there is a way of conversions."""
    from autoopt.workers import formats

    return formats.path(start, end) is not None


def targets(
    file: SpaceFile, plugins: Plugins, facts: TaskFacts, steps: Iterable[StepChoice]
) -> tuple[tuple[Target, ...], list[Exclusion]]:
    """Every engine, hardware and precision that works here, in the file's order, and what does not.

    Raises:
        SpaceError: an engine, precision, fusion level or hardware of that name does not exist.
    """
    _check_names(file, plugins)
    steps = tuple(steps)
    found: list[Target] = []
    excluded: list[Exclusion] = []
    for name, section in file.deployment.engine.items():
        why = _unusable(name, plugins, facts)
        if why is None:
            some, gone = _targets_of(name, section, file, plugins, facts, steps)
            found += some
            excluded += gone
        else:
            excluded.append(why)
    return tuple(found), excluded


def _check_names(file: SpaceFile, plugins: Plugins) -> None:
    offers = plugins.offers
    executed = {p for offer in offers.values() for some in offer.precisions.values() for p in some}
    made = {technique.precision for technique in plugins.techniques.values() if technique.precision}
    precisions = dict.fromkeys((*PRECISIONS, *sorted(executed | made), ANY))
    hardware = dict.fromkeys((*HARDWARE, *(name for offer in offers.values() for name in offer.precisions), ANY))
    _check("deployment.hardware", "hardware", file.deployment.hardware, hardware)
    _check("deployment.engine", "engine", file.deployment.engine, offers)
    for name, section in file.deployment.engine.items():
        where = f"deployment.engine.{name}"
        _check(f"{where}.precision", "precision", section.precision, precisions)
        if offers[name].available:
            _check(
                f"{where}.fusion", "fusion level", section.fusion, (DEFAULT_FUSION, *_every_fusion(offers[name]), ANY)
            )


def _check(where: str, kind: str, given: Iterable[str], allowed: Iterable[str]) -> None:
    allowed = tuple(dict.fromkeys(allowed))
    for name in given:
        if name not in allowed:
            message = f"{where}: {unknown(kind, name, allowed)}"
            raise SpaceError(message)


def _unusable(name: str, plugins: Plugins, facts: TaskFacts) -> Exclusion | None:
    offer = plugins.offers[name]
    if not offer.available:
        return Exclusion(f"engine {name}", offer.reason or "it offers nothing on this machine", offer.remedy)
    formats = plugins.declared[name].formats
    if not any(plugins.leads(facts.format, format_) for format_ in formats):
        why = f"it takes a network as {' or '.join(formats)}, and the task's is {facts.format}"
        return Exclusion(f"engine {name}", why)
    return None


def _targets_of(
    name: str,
    section: EngineSection,
    file: SpaceFile,
    plugins: Plugins,
    facts: TaskFacts,
    steps: tuple[StepChoice, ...],
) -> tuple[list[Target], list[Exclusion]]:
    offer = plugins.offers[name]
    where = f'The search space "{file.name}", deployment.engine.{name}'
    chosen = option_choices(plugins.declared[name].options, section.options, name, where)
    found, excluded = [], []
    for hardware in _all_or(file.deployment.hardware, tuple(offer.precisions)):
        offered = offer.precisions.get(hardware, ())
        fusions = _fusions(section, offer.fusions_on(hardware))
        if not offered or not fusions:
            nothing = "it has none of these fusion levels there" if offered else "it does not run there on this machine"
            excluded.append(Exclusion(f"engine {name} on {hardware}", offer.lacking.get(hardware, nothing)))
            continue
        options = _for_hardware(chosen, plugins.declared[name].options, hardware)
        for precision in _all_or(section.precision, offered):
            quantizers = _quantizers(precision, name, plugins, facts, steps)
            why = _no_precision(precision, offered, quantizers, plugins)
            if why:
                excluded.append(Exclusion(f"{name} {precision} on {hardware}", why))
            else:
                found.append(Target(name, hardware, precision, fusions, quantizers, options, offer.slow_build))
    return found, excluded


def _no_precision(precision: str, offered: Iterable[str], quantizers: tuple[str, ...], plugins: Plugins) -> str | None:
    if precision not in offered:
        return "it is not executed there on this machine"
    makers = [name for name, technique in plugins.techniques.items() if technique.precision == precision]
    if makers and not quantizers:
        return f"it needs {' or '.join(makers)}, none of which is in the space and fits this engine, task and network"
    return None


def _quantizers(
    precision: str, engine: str, plugins: Plugins, facts: TaskFacts, steps: tuple[StepChoice, ...]
) -> tuple[str, ...]:
    """The techniques that make this precision in a format which the engine takes and the network can be converted to."""
    formats = [name for name in plugins.declared[engine].formats if plugins.leads(facts.format, name)]
    return tuple(
        step.technique
        for step in steps
        if step.precision == precision and set(plugins.techniques[step.technique].formats) & set(formats)
    )


def _for_hardware(
    chosen: tuple[ParameterChoice, ...], declared: tuple[Parameter, ...], hardware: str
) -> tuple[ParameterChoice, ...]:
    """The options that mean something there."""
    fitting = {option.name for option in declared if option.applies_to(hardware)}
    return tuple(choice for choice in chosen if choice.name in fitting)


def _every_fusion(offer: Offer) -> tuple[str, ...]:
    return (*offer.fusions, *(name for some in offer.fusions_by_device.values() for name in some))


def _fusions(section: EngineSection, offered: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the file that there are on this hardware."""
    best = DEFAULT_FUSION if DEFAULT_FUSION in offered else offered[0]
    named = (best if name == DEFAULT_FUSION else name for name in _all_or(section.fusion, offered))
    return tuple(dict.fromkeys(name for name in named if name in offered))


def _all_or(given: tuple[str, ...], offered: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for item in given for name in (offered if item == ANY else (item,))))
