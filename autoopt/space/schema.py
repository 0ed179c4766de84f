"""The search space's file, as pydantic models: its shape is checked here, its names in `autoopt.space.resolution`.

What depends on something is said with ``when``: ``changed`` (an earlier step changed the network), or a mapping of
facts to the values that they must have, where a fact is ``engine``, ``hardware``, ``precision``, ``fusion``, ``batch``,
``threads``, ``instances``, an engine's option (``openvino.streams``), ``changed``, a technique (true: it is used) or ``technique.parameter``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from autoopt.space.domains import Domain, Listed, Value, between

When: TypeAlias = Mapping[str, tuple[Value, ...]]
ANY = "any"
"""Stands for everything that a plugin offers."""
_BOUNDS = {"low", "high", "step", "log"}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


def _is_value(item: object) -> bool:
    return isinstance(item, bool | int | str) or (isinstance(item, float) and math.isfinite(item))


def _parse_domain(given: object) -> Domain:
    if isinstance(given, Listed):
        return given
    if _is_value(given):
        given = [given]
    if isinstance(given, list):
        if not given or not all(map(_is_value, given)):
            message = "a list of choices holds one or more numbers, names or true/false"
            raise ValueError(message)
        if len(set(map(repr, given))) != len(given):
            message = "a value is listed twice"
            raise ValueError(message)
        return Listed(tuple(given))
    if isinstance(given, Mapping) and {"low", "high"} <= given.keys() <= _BOUNDS:
        numbers = [given[name] for name in ("low", "high", "step") if given.get(name) is not None]
        if all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
            return between(given["low"], given["high"], given.get("step"), log=bool(given.get("log")))
    message = "expected a value, a list of values, or {low, high, step or log}"
    raise ValueError(message)


def _parse_when(given: object) -> When:
    if given == "changed":
        given = {"changed": True}
    if given == "always":
        given = {}
    if not isinstance(given, Mapping):
        message = "expected changed, always, or a mapping such as {precision: int8}"
        raise ValueError(message)  # noqa: TRY004 (pydantic collects ValueErrors)
    return {
        str(fact): tuple(values) if isinstance(values, list | tuple) else (values,) for fact, values in given.items()
    }


def _parse_parameter(given: object) -> object:
    if isinstance(given, ParameterSection):
        return given
    if isinstance(given, Mapping) and ("when" in given or "values" in given):
        rest = {name: value for name, value in given.items() if name != "when"}
        return {"values": rest.get("values", rest), "when": given.get("when", "always")}
    return {"values": given}


def _names(given: object) -> object:
    return (given,) if isinstance(given, str | int | float) else given


DomainSpec = Annotated[Domain, BeforeValidator(_parse_domain)]
WhenSpec = Annotated[When, BeforeValidator(_parse_when)]
Names = Annotated[tuple[str, ...], BeforeValidator(_names), Field(min_length=1)]
Batchings = Annotated[tuple[Literal["dynamic", "static"], ...], BeforeValidator(_names), Field(min_length=1)]
Waits = Annotated[
    tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...], BeforeValidator(_names), Field(min_length=1)
]
Counts = Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(_names), Field(min_length=1)]


class ParameterSection(_Section):
    """One parameter's values, and when it is a choice at all (otherwise the technique's default holds)."""

    values: DomainSpec
    when: WhenSpec = Field(default_factory=dict)


ParameterSpec = Annotated[ParameterSection, BeforeValidator(_parse_parameter)]


class TechniqueSection(BaseModel):
    """One technique; every key that is not below is one of its parameters."""

    model_config = ConfigDict(extra="allow", frozen=True, arbitrary_types_allowed=True)
    __pydantic_extra__: dict[str, ParameterSpec]

    optional: bool = False
    """Whether a candidate may do without."""
    when: WhenSpec = Field(default_factory=dict)
    rungs: tuple[Annotated[float, Field(gt=0)], ...] = ()
    """For a technique that trains: the epochs at which it may stop, rising."""
    start: float | None = None
    """The rung at which a new network begins; default: the lowest."""

    @property
    def parameters(self) -> Mapping[str, ParameterSection]:
        """The parameters by name."""
        return self.__pydantic_extra__

    @model_validator(mode="after")
    def _rungs_rise(self) -> TechniqueSection:
        if list(self.rungs) != sorted(set(self.rungs)):
            message = f"rungs must rise, not {list(self.rungs)}"
            raise ValueError(message)
        if self.start is not None and self.start not in self.rungs:
            message = f"start must be one of the rungs {list(self.rungs)}, not {self.start}"
            raise ValueError(message)
        if self.rungs and "epochs" in self.__pydantic_extra__:
            message = "give rungs or epochs, not both: rungs are the values of epochs"
            raise ValueError(message)
        return self


class EngineSection(BaseModel):
    """One engine: the precisions and fusion levels to try, in the order in which to try them.

    Every other key is one of its options, with the values to choose from.
    """

    model_config = ConfigDict(extra="allow", frozen=True, arbitrary_types_allowed=True)
    __pydantic_extra__: dict[str, ParameterSpec]

    precision: Names = ("fp32",)
    fusion: Names = ("default",)
    """"default" stands for the engine's best default."""

    @property
    def options(self) -> Mapping[str, ParameterSection]:
        """The options by name."""
        return self.__pydantic_extra__


def _section(given: object) -> object:
    return {} if given is None else given


TechniqueSpec = Annotated[TechniqueSection, BeforeValidator(_section)]
EngineSpec = Annotated[EngineSection, BeforeValidator(_section)]


class DeploymentSection(_Section):
    """How networks may be served."""

    hardware: Names = ("cpu",)
    engine: Annotated[dict[str, EngineSpec], Field(min_length=1)]
    """In the order in which to try them."""
    batch: Counts = (1,)
    """Samples a call; of a server, at most."""
    threads: Counts = (1,)
    instances: Counts = (1,)
    """Copies of the network side by side, each with so many threads."""
    batching: Batchings = ("dynamic",)
    max_wait_ms: Waits = (2.0,)
    """How long a dynamic batch waits for more requests."""


class LimitsSection(_Section):
    """What is worth exploring."""

    max_drop_of_interest: Annotated[float, Field(gt=0)] = 0.05
    """In the metric's unit: configs that lose more than this are not searched for."""
    executed_nodes: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The share of compute nodes that must really execute in a candidate's precision; it has fallen back where there are fewer."""
    executed_time: Annotated[float, Field(ge=0, le=1)] = 0.1
    """The same for those nodes' share of the time, where the runtime tells it."""
    stage_timeout_s: Annotated[float, Field(gt=0)] = 900.0
    """A stage (a training, a build, a measurement) that takes longer is stopped, and its candidate fails."""
    stage_memory_gb: Annotated[float, Field(gt=0)] | None = None
    """The same for one that uses more memory; four fifths of its node's by default."""
    stage_disk_gb: Annotated[float, Field(gt=0)] | None = None
    """The same for one that writes more files; half of what is free by default, 1 GB at least."""


class SpaceFile(_Section):
    """A search space as written, names unchecked."""

    name: str = "space"
    about: str = ""
    scenario: Literal["single_stream", "offline", "server"] = "single_stream"
    p99_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Of the scenario "server": 99 % of the requests are to be answered within so long."""
    model: Annotated[dict[str, TechniqueSpec], BeforeValidator(_section)] = Field(default_factory=dict)
    deployment: DeploymentSection
    limits: LimitsSection = Field(default_factory=LimitsSection)
    text: str = ""
    """The YAML after overrides, from which `parse_space` makes the same space again."""

    @model_validator(mode="after")
    def _a_server_has_a_bound(self) -> SpaceFile:
        if self.scenario == "server" and self.p99_ms is None:
            message = "the scenario server needs p99_ms, the milliseconds within which 99 % of the requests are to be answered"
            raise ValueError(message)
        return self


def plain(error: Any) -> str:
    """One of pydantic's error entries in our words: ``model.student.rungs: rungs must rise``."""
    path = ".".join(str(part) for part in error["loc"] if "function-" not in str(part)) or "the file"
    message = str(error["msg"]).removeprefix("Value error, ")
    given = error.get("input")
    shown = f" (given: {given!r})" if not isinstance(given, Mapping | BaseModel) and given is not None else ""
    return f"{path}: {message[:1].lower()}{message[1:]}{shown}"
