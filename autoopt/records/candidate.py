"""A candidate: one point of a search space, in two halves.

The *model half* changes the network and is dear; the *deployment half* says how it is served and is cheap.
Candidates with the same model half share its stages through the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeAlias

from autoopt.records.codec import digest
from autoopt.records.hardware import parse

Params: TypeAlias = Mapping[str, bool | int | float | str]

ID_LENGTH = 12
STATIC, DYNAMIC = "static", "dynamic"


@dataclass(frozen=True)
class Step:
    """One technique with its parameters."""

    technique: str
    params: Params = field(default_factory=dict)


@dataclass(frozen=True)
class Deployment:
    """How the network is served."""

    engine: str
    precision: str = "fp32"
    """What the engine executes: fp32, fp16, bf16, int8 (static), int8_dynamic."""
    fusion: str = "default"
    """One of the levels that the engine declares."""
    batch: int = 1
    """Samples a call."""
    threads: int = 1
    hardware: str = "cpu"
    """A kind of node and a device on it (`autoopt.records.hardware`)."""
    instances: int = 1
    """Copies of the network that serve side by side, each on cores of its own."""
    batching: str = STATIC
    """Of a server: "static" waits until a batch is full, "dynamic" no longer than ``max_wait_ms``."""
    max_wait_ms: float = 0.0
    """How long the first request of a dynamic batch waits for others at most; where all instances are busy, it waits anyway."""
    options: Params = field(default_factory=dict, hash=False)
    """The engine's own settings (`autoopt.workers.engines.base.Engine.options`), where they are not its defaults."""

    @property
    def cores(self) -> int:
        """How many it takes: a thread of an instance has a core to itself."""
        return self.threads * self.instances

    @property
    def way(self) -> tuple[int, int, int, str, float]:
        """How requests are served, whatever the engine: figures of different ways are not compared."""
        return (self.threads, self.batch, self.instances, self.batching, self.max_wait_ms)

    @property
    def kind(self) -> str:
        """The kind of node that serves it."""
        return parse(self.hardware)[0]

    @property
    def on_node(self) -> Deployment:
        """The same as it is seen on such a node, where hardware is a device."""
        return replace(self, hardware=parse(self.hardware)[1])


@dataclass(frozen=True)
class Candidate:
    """One point of a search space: the steps in the order in which they are applied, then the deployment."""

    model: tuple[Step, ...]
    deployment: Deployment

    @cached_property
    def id(self) -> str:
        """12 hexadecimal digits, a function of the content alone."""
        return digest(self)[:ID_LENGTH]

    @cached_property
    def model_id(self) -> str:
        """The same for the model half: equal for candidates that share a network."""
        return digest(self.model)[:ID_LENGTH]

    def step(self, technique: str) -> Step | None:
        """The first step of that technique, if there is one."""
        return next((step for step in self.model if step.technique == technique), None)

    def describe(self) -> str:
        """One line for people: ``depth 0.57, pruned 0.3 · int8 openvino, 1 thread``."""
        steps = "; ".join(_describe_step(step) for step in self.model) or "network unchanged"
        served = self.deployment
        parts = [f"{served.engine} {served.precision}"]
        if served.fusion != "default":
            parts.append(f"fusion {served.fusion}")
        parts += [f"{name.replace('_', ' ')} {_short(value)}" for name, value in sorted(served.options.items())]
        if served.batch != 1:
            parts.append(f"batch {served.batch}")
        if served.batching == DYNAMIC:
            parts.append(f"waits {served.max_wait_ms:g} ms for more")
        parts.append(f"{served.threads} thread{'s' if served.threads > 1 else ''}")
        if served.instances != 1:
            parts.append(f"{served.instances} instances")
        if served.hardware != "cpu":
            parts.append(served.hardware)
        return f"{steps} | {', '.join(parts)}"


def _describe_step(step: Step) -> str:
    params = ", ".join(f"{name.replace('_', ' ')} {_short(value)}" for name, value in step.params.items())
    return f"{step.technique.replace('_', ' ')} ({params})" if params else step.technique.replace("_", " ")


def _short(value: bool | float | str) -> str:  # noqa: FBT001 (a value, not a switch)
    return f"{value:.3g}" if isinstance(value, float) else str(value)
