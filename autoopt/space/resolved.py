"""A search space that has met the plugins, the task and the machine: only what can work is left in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from autoopt.records import Candidate, Deployment, Step, digest
from autoopt.records.candidate import STATIC
from autoopt.space.domains import Domain, Listed, Value
from autoopt.space.schema import When


@dataclass(frozen=True)
class TaskFacts:
    """What the space must know about the task and the node."""

    format: str = "module"
    """The network's format: "module" or "onnx"."""
    splits: frozenset[str] = frozenset({"train", "calibration", "validation", "test"})
    """The splits that hold samples."""
    cores: int = 1
    """Cores of the lane in which candidates are timed."""
    without: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    """Choices that the task cannot serve: "technique.parameter" to values ("student.source" to ("factory",), say)."""


@dataclass(frozen=True)
class Exclusion:
    """Something of the file that is not searched, and why: a line of the report."""

    what: str
    """As in the file: "engine inductor", "openvino bf16", "technique recovery", …"""
    why: str
    remedy: str | None = None

    def __str__(self) -> str:
        return f"{self.what}: {self.why}" + (f" ({self.remedy})" if self.remedy else "")


@dataclass(frozen=True)
class ParameterChoice:
    """One parameter of a technique or option of an engine: its values, or its default where ``when`` does not hold."""

    name: str
    domain: Domain
    default: Value
    """Where a search begins: the technique's default if it is among the values, else the first of them."""
    fallback: Value
    """The plugin's own default."""
    when: When = field(default_factory=dict)


@dataclass(frozen=True)
class StepChoice:
    """One technique that a candidate may use."""

    technique: str
    parameters: tuple[ParameterChoice, ...] = ()
    optional: bool = False
    when: When = field(default_factory=dict)
    trains: bool = False
    precision: str | None = None
    """The precision that it makes possible, where it is a quantization."""
    rungs: tuple[float, ...] = ()
    """The values of ``epochs``, rising, where it trains by rungs."""
    start: float | None = None
    """The rung at which a new network begins."""

    @property
    def changes_structure(self) -> bool:
        """Whether it is neither training nor quantization."""
        return not self.trains and self.precision is None


@dataclass(frozen=True)
class Target:
    """One engine on one hardware at one precision, with the techniques that may quantize for it (() where none is needed)."""

    engine: str
    hardware: str
    precision: str
    fusions: tuple[str, ...]
    quantizers: tuple[str, ...] = ()
    options: tuple[ParameterChoice, ...] = ()
    """The engine's own settings, as far as the file says anything about them."""
    slow_build: bool = False
    """Whether building for it takes minutes."""

    def __str__(self) -> str:
        return f"{self.engine} {self.precision} on {self.hardware}"


@dataclass(frozen=True)
class Space:
    """What is searched: resolved, never empty."""

    name: str
    scenario: str
    steps: tuple[StepChoice, ...]
    """In the order in which they are applied: structure, then training, then quantization."""
    targets: tuple[Target, ...]
    """In the order of the file: the order in which to try them."""
    batches: tuple[int, ...] = (1,)
    threads: tuple[int, ...] = (1,)
    instances: tuple[int, ...] = (1,)
    batching: tuple[str, ...] = (STATIC,)
    max_wait_ms: tuple[float, ...] = (0.0,)
    p99_ms: float | None = None
    """A server's bound."""
    cores: int = 1
    """Of the lane: threads × instances is never more."""
    max_drop_of_interest: float = 0.05
    executed_nodes: float = 0.5
    executed_time: float = 0.1
    stage_timeout_s: float = 900.0
    stage_memory_gb: float | None = None
    stage_disk_gb: float | None = None
    excluded: tuple[Exclusion, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """Equal for spaces with the same candidates."""
        served = (self.targets, self.batches, self.threads, self.instances, self.batching, self.max_wait_ms)
        return digest((self.scenario, self.p99_ms, self.steps, *served))[:12]

    def instances_of(self, threads: int) -> tuple[int, ...]:
        """How many copies with so many threads fit on the lane's cores."""
        return tuple(count for count in self.instances if count * threads <= self.cores)

    @property
    def trainer(self) -> StepChoice | None:
        """The technique that trains a changed network, if there is one."""
        return next((step for step in self.steps if step.trains), None)

    @property
    def rungs(self) -> tuple[float, ...]:
        """The epochs at which its training may stop, rising; empty where nothing is trained."""
        return self.trainer.rungs if self.trainer else ()

    @property
    def engines(self) -> tuple[str, ...]:
        """The engines, in the order of the file."""
        return tuple(dict.fromkeys(target.engine for target in self.targets))

    def step(self, technique: str) -> StepChoice:
        """The choice of that name; KeyError where there is none."""
        for step in self.steps:
            if step.technique == technique:
                return step
        raise KeyError(technique)

    def kind(self, step: Step) -> StepChoice | None:
        """What the space knows about a candidate's step; None for a technique that is not in it."""
        return next((choice for choice in self.steps if choice.technique == step.technique), None)

    def targets_of(self, engine: str) -> tuple[Target, ...]:
        """The engine's targets, in order."""
        return tuple(target for target in self.targets if target.engine == engine)

    def target(self, deployment: Deployment) -> Target | None:
        """The target that the deployment is for, if it is one of this space."""
        wanted = (deployment.engine, deployment.hardware, deployment.precision)
        return next((t for t in self.targets if (t.engine, t.hardware, t.precision) == wanted), None)

    def network(self, candidate: Candidate) -> tuple[Step, ...]:
        """The dear part of a candidate: its steps without the quantization. Candidates that share it share all training."""
        return tuple(step for step in candidate.model if not self._quantizes(step))

    def trained_for(self, candidate: Candidate) -> float | None:
        """The epochs of its training; None where it is not trained by rungs."""
        trainer = self.trainer
        step = candidate.step(trainer.technique) if trainer else None
        return float(step.params["epochs"]) if step and "epochs" in step.params else None

    def _quantizes(self, step: Step) -> bool:
        kind = self.kind(step)
        return kind is not None and kind.precision is not None


def holds(when: When, facts: Mapping[str, Value]) -> bool:
    """Whether each fact of the condition has one of its values. A fact that is not there has none."""
    return all(fact in facts and Listed(values).contains(facts[fact]) for fact, values in when.items())
