"""Plugins that declare and do nothing, so that spaces are tested without one engine being installed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from autoopt.records import Deployment, Params, Signature
from autoopt.space import Space, TaskFacts, parse_space, resolve
from autoopt.space.deployments import Declared
from autoopt.workers.engines.base import Engine, Offer, Session, Source
from autoopt.workers.parameters import Parameter
from autoopt.workers.techniques.base import Context, Facts, Technique

ORDER = ("module", "onnx", "openvino")


def leads(start: str, end: str) -> bool:
    return ORDER.index(start) <= ORDER.index(end)


class _Technique(Technique):
    def apply(self, model: Any, params: Params, context: Context) -> tuple[Any, Facts]:
        raise NotImplementedError


class Recovery(_Technique):
    name = "recovery"
    needs_training = True
    needs = ("train",)
    parameters = (Parameter("epochs", 1.0, low=0.0, high=100.0), Parameter("rate", 0.05, low=0.0001, high=1.0))


class Student(_Technique):
    name = "student"
    parameters = (
        Parameter("depth", 0.5, low=0.05, high=1.0),
        Parameter("order", "influence", choices=("influence", "early", "late")),
    )


class Pruning(_Technique):
    name = "pruning"
    parameters = (
        Parameter("ratio", 0.3, low=0.0, high=0.9),
        Parameter("importance", "magnitude", choices=("magnitude", "taylor")),
        Parameter("round_to", 8, low=1, high=64),
    )


class Static(_Technique):
    name = "static"
    formats = ("onnx", "openvino")
    needs = ("calibration",)
    precision = "int8"
    parameters = (Parameter("calibration", 128, low=16, high=4096),)


class Dynamic(_Technique):
    name = "dynamic"
    formats = ("onnx",)
    precision = "int8_dynamic"


class _Engine(Engine):
    packages: ClassVar[tuple[str, ...]] = ()
    preload: ClassVar[tuple[str, ...]] = ()
    offered: ClassVar[Offer]

    def offer(self) -> Offer:
        return self.offered

    def build(self, source: Source, deployment: Deployment, out: Path) -> None:
        raise NotImplementedError

    def load(self, path: Path, deployment: Deployment, signature: Signature) -> Session:
        raise NotImplementedError


class Eager(_Engine):
    name = "eager"
    formats = ("module",)
    offered = Offer("eager", "1", {"cpu": ("fp32",)}, ("default", "channels_last"))


class Runtime(_Engine):
    name = "runtime"
    formats = ("onnx",)
    offered = Offer("runtime", "1", {"cpu": ("fp32", "int8", "int8_dynamic")}, ("all", "basic"))


class Vino(_Engine):
    name = "vino"
    formats = ("openvino", "onnx")
    options = (
        Parameter("streams", 1, low=1, high=64),
        Parameter("hint", "latency", choices=("latency", "throughput")),
    )
    offered = Offer("vino", "1", {"cpu": ("fp32", "bf16", "int8")})


class Absent(_Engine):
    name = "absent"
    formats = ("onnx",)
    offered = Offer("absent", reason="absent is not installed", remedy="pip install absent")


# Recovery stands first in the table: the order of application must not depend on it.
TECHNIQUES: Mapping[str, Technique] = {t.name: t for t in (Recovery(), Student(), Pruning(), Static(), Dynamic())}
ENGINES: Mapping[str, Engine] = {e.name: e for e in (Eager(), Runtime(), Vino(), Absent())}
OFFERS: Mapping[str, Offer] = {name: engine.offer() for name, engine in ENGINES.items()}


class Resolve:
    """`resolve` against the plugins above."""

    def __call__(self, text: str, overrides: Mapping[str, Any] | None = None, **facts: Any) -> Space:
        file = parse_space(text, "test", overrides)
        declared = {name: Declared(engine.formats, engine.options) for name, engine in ENGINES.items()}
        return resolve(file, TECHNIQUES, OFFERS, TaskFacts(**facts), declared=declared, leads=leads)


TEXT = """
about: a space for tests
model:
  static: {calibration: [128, 512]}
  dynamic:
  recovery: {when: changed, rungs: [0.0625, 0.25, 1, 4], rate: [0.02, 0.05]}
  student: {optional: true, depth: [0.3, 0.5, 0.7, 0.9], order: [influence, early]}
  pruning:
    optional: true
    ratio: {low: 0.1, high: 0.5, step: 0.1}
    importance: {values: [magnitude, taylor], when: {student: false}}
deployment:
  engine:
    runtime: {precision: [fp32, int8, int8_dynamic], fusion: [all, basic]}
    vino: {precision: [fp32, bf16, int8]}
    eager: {precision: fp32, fusion: [default, channels_last]}
    absent:
  threads: [1, 2]
"""


@pytest.fixture
def resolved() -> Resolve:
    return Resolve()


@pytest.fixture
def text() -> str:
    return TEXT


@pytest.fixture
def space(resolved: Resolve) -> Space:
    return resolved(TEXT, cores=2)
