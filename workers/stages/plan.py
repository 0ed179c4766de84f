"""From a candidate to stages: which steps, in which order, each with the key that the store answers to.

A candidate's stages are a chain::

    task → technique … technique → (recovery rung …) → export → quantization → build → measure
           └── structure, untrained ──┘ └─ training ─┘ └────────── serving ──────────┘

Serving the *untrained* structure gives the probe: how fast a candidate runs depends on its structure, not on its weights.
Candidates that share a prefix of the chain share its folders.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from autoopt import engine_environments
from autoopt.errors import FailureKind, StageError
from autoopt.records import Candidate, Deployment, to_json
from autoopt.records.candidate import DYNAMIC, STATIC
from autoopt.workers import formats
from autoopt.workers.engines import engine as engine_named
from autoopt.workers.engines.base import Engine
from autoopt.workers.stages.setup import Setup
from autoopt.workers.stages.stage import Role, Stage
from autoopt.workers.techniques import technique as technique_named
from autoopt.workers.techniques.base import FEATURES_VERSION, KEPT_FEATURES, Technique
from autoopt.workers.techniques.checks import checked_params

# The teacher's outputs and features are computed a chunk at a time: enough to share, small enough not to compute what nobody reads.
TEACHER_CHUNK = 8192
PROBE_CALIBRATION = 32
# A probe only has to tell whether training is worth it.
PROBE_TIMING = {"target_half_width": 0.04, "max_s": 1.2}
# While searching, a rough interval does; what is confirmed is timed with the defaults.
SEARCH_TIMING = {
    "target_half_width": 0.02,
    "max_s": 2.0,
    "window_s": 0.7,
    "rate_step": 1.1,
    "searches": 1,
    "load_s": 12.0,
}
SMALLER = 4
"""A dynamic batch that is not full goes to an artifact at most so many times too large: each size is one more to build and to keep in memory."""


@dataclass(frozen=True)
class Network:
    """A network in the store: the key of the folder that holds it, and its format.

    ``outputs`` is the key of the folder whose ``outputs.npy`` says what this network answers; None for the original.
    """

    key: str
    format: str
    outputs: str | None = None


@dataclass(frozen=True)
class Serving:
    """The stages that turn a network into a measured artifact, in order."""

    building: tuple[Stage, ...]
    """The last one builds the artifact."""
    measuring: tuple[Stage, ...]
    """The last one measures; before it, what may run while another config is timed."""
    smaller: Mapping[str, str] = field(default_factory=dict)
    """The keys of the artifacts for smaller batches, by their size."""

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All of them."""
        return (*self.building, *self.measuring)

    @property
    def artifact_key(self) -> str:
        """The built artifact's key."""
        return self.building[-1].key


def original(setup: Setup) -> Network:
    """The task's own network."""
    return Network(setup.task_key, setup.source_format)


def trains(candidate: Candidate) -> bool:
    """Whether the candidate's network is changed and trained."""
    return any(technique_named(step.technique).needs_training for step in candidate.model)


def structure(candidate: Candidate, setup: Setup) -> tuple[tuple[Stage, ...], Network]:
    """The stages that change the network without training it, and the network that they leave."""
    network = original(setup)
    stages = []
    for step in candidate.model:
        technique = technique_named(step.technique)
        if technique.needs_training or technique.precision is not None:
            continue
        if network.format not in technique.formats:
            message = (
                f"{technique.name} takes {' or '.join(technique.formats)}; the task's network is {network.format}."
            )
            raise StageError(FailureKind.UNSUPPORTED, message)
        stage = _technique_stage(technique, step.params, network, setup, Role.BUILDER)
        stages.append(stage)
        network = Network(stage.key, network.format, outputs=stage.key)
    return tuple(stages), network


@dataclass(frozen=True)
class Rung:
    """Training up to ``epochs`` (cumulative): the stages that it needs and the network that it leaves."""

    epochs: float
    step_epochs: float
    stages: tuple[Stage, ...]
    network: Network


def training(candidate: Candidate, network: Network, setup: Setup) -> tuple[Rung, ...]:
    """The rungs of the candidate's recovery, the shortest first; empty where nothing is trained."""
    rungs: list[Rung] = []
    for step in candidate.model:
        technique = technique_named(step.technique)
        if not technique.needs_training:
            continue
        until = float(checked_params(technique, step.params)["epochs"])
        ends = [end for end in setup.rungs if end < until] + [until]
        start = 0.0
        for end in ends:
            params = {**step.params, "epochs": end - start, "offset": start}
            taught = tuple(teachers(end, setup))
            parents = tuple(stage.key for stage in taught)
            stage = _technique_stage(technique, params, network, setup, Role.TRAINER, parents)
            network = Network(stage.key, network.format, outputs=stage.key)
            rungs.append(Rung(end, end - start, (*taught, stage), network))
            start = end
    return tuple(rungs)


def teachers(epochs: float, setup: Setup) -> Iterable[Stage]:
    """The chunks of the teacher's outputs and features that training up to ``epochs`` reads."""
    needed = min(setup.training_samples, round(epochs * setup.training_samples))
    for start in range(0, needed, TEACHER_CHUNK):
        yield Stage(
            kind="teacher",
            name="features",
            params={
                "start": start,
                "stop": min(start + TEACHER_CHUNK, setup.training_samples),
                "features": KEPT_FEATURES,
            },
            parents=(setup.task_key,),
            role=Role.TRAINER,
            timeout_s=setup.stage_timeout_s,
            # NumPy draws those that are kept.
            salt={"version": FEATURES_VERSION, "packages": versions(("torch", "onnx", "onnxruntime", "numpy"))},
        )


def original_outputs(split: str, setup: Setup) -> Stage:
    """The original's outputs on a split, in the prepared task's own folder, where every measurement looks for them."""
    return Stage(
        kind="original",
        name=split,
        params={},
        parents=(setup.task_key,),
        role=Role.BUILDER,
        timeout_s=setup.stage_timeout_s,
        salt={"packages": versions(("torch", "onnxruntime"))},
    )


def probe(candidate: Candidate, network: Network, setup: Setup) -> Serving:
    """Serve an untrained structure and time it. Calibrated on few samples: their values do not change the speed."""
    steps = []
    for step in candidate.model:
        if any(parameter.name == "calibration" for parameter in technique_named(step.technique).parameters):
            step = replace(step, params={**step.params, "calibration": PROBE_CALIBRATION})  # noqa: PLW2901
        steps.append(step)
    probed = replace(candidate, model=tuple(steps))
    return _serving(probed, network, setup, kind="probe", split="none")


def look(candidate: Candidate, serving: Serving, setup: Setup) -> Stage:
    """Time an artifact as roughly as a probe, before it is measured."""
    return _measure_stage("probe", "none", _Built(serving.artifact_key), original(setup), candidate, setup)


def measurement(
    candidate: Candidate, network: Network, setup: Setup, split: str, samples: int | None = None
) -> Serving:
    """Serve a finished network, time it and judge it on a split, or on so many samples drawn of it."""
    return _serving(candidate, network, setup, kind="measure", split=split, samples=samples)


def reference_on(deployment: Deployment, setup: Setup) -> Serving:
    """The measurement of what a deployment is timed in turn with."""
    return measurement(setup.reference_for(deployment), original(setup), setup, "validation")


def _serving(
    candidate: Candidate, network: Network, setup: Setup, *, kind: str, split: str, samples: int | None = None
) -> Serving:
    deployment = candidate.deployment
    engine = engine_named(deployment.engine)
    role = Role.FINISHER if kind == "measure" and trains(candidate) else Role.BUILDER
    stages: list[Stage] = []
    quantization = next(
        (step for step in candidate.model if technique_named(step.technique).precision is not None), None
    )
    technique = technique_named(quantization.technique) if quantization else None
    target = _format_for(engine, technique, network)
    served = network
    path = formats.path(network.format, target) or ()
    if quantization is not None and target == network.format != "module":
        path = (target,)  # a quantizer wants the deployment's batch, and a file from elsewhere may leave it open
    for step_format in path:
        stage = _export_stage(step_format, served, deployment, setup, role)
        stages.append(stage)
        served = Network(stage.key, step_format, network.outputs)
    if quantization is not None and technique is not None:
        stage = _technique_stage(technique, quantization.params, served, setup, role)
        stages.append(stage)
        served = Network(stage.key, served.format, network.outputs)
    build = _build_stage(engine, served, deployment, setup, role)
    ahead = _predicted_ahead(split, build, candidate, setup, samples)
    smaller = _smaller(candidate, network, setup) if kind == "measure" else {}
    built = _Built(build.key, {str(size): each.artifact_key for size, each in smaller.items()})
    measure = _measure_stage(kind, split, built, network, candidate, setup, samples, ahead)
    also = [stage for each in smaller.values() for stage in each.building]
    return Serving((*also, *stages, build), (*ahead, measure), built.smaller)


@dataclass(frozen=True)
class _Built:
    """The artifact's key, and those of the smaller batches by their size."""

    key: str
    smaller: Mapping[str, str] = field(default_factory=dict)


def _smaller(candidate: Candidate, network: Network, setup: Setup) -> dict[int, Serving]:
    """The same network built for the smaller batches that dynamic batching calls for, by their size."""
    deployment = candidate.deployment
    if setup.scenario != "server" or deployment.batching != DYNAMIC:
        return {}
    sizes = smaller_batches(deployment.batch)
    alone = {size: replace(candidate, deployment=replace(deployment, batch=size, batching=STATIC)) for size in sizes}
    return {size: _serving(each, network, setup, kind="measure", split="none") for size, each in alone.items()}


def smaller_batches(batch: int) -> tuple[int, ...]:
    """Besides the largest one: 1 for 2 to 4, 1 and 2 for 8, 1 and 4 for 16, 1, 2 and 8 for 32."""
    sizes = set()
    while batch > 1:
        batch = max(1, batch // SMALLER)
        sizes.add(batch)
    return tuple(sorted(sizes))


def _format_for(engine: Engine, technique: Technique | None, network: Network) -> str:
    """The first of the engine's formats that the quantization takes too and that the network can be converted to."""
    for name in engine.formats:
        if (technique is None or name in technique.formats) and formats.path(network.format, name) is not None:
            return name
    wanted = f" after {technique.name}" if technique else ""
    message = f"{engine.name} takes {' or '.join(engine.formats)}{wanted}; a network in {network.format} leads to none of them."
    raise StageError(FailureKind.UNSUPPORTED, message)


def _technique_stage(
    technique: Technique,
    params: Mapping[str, Any],
    network: Network,
    setup: Setup,
    role: Role,
    extra_parents: tuple[str, ...] = (),
) -> Stage:
    tool = formats.engine_of(network.format)
    packages = technique.packages_by_format.get(network.format, technique.packages)
    return Stage(
        kind="technique",
        name=technique.name,
        params={"format": network.format, "seed": setup.seed, "values": checked_params(technique, params)},
        parents=(setup.task_key, network.key, *extra_parents),
        role=role,
        timeout_s=setup.stage_timeout_s,
        salt={"version": technique.version, "packages": versions(packages, tool)},
        engine=tool,
    )


def _export_stage(target: str, network: Network, deployment: Deployment, setup: Setup, role: Role) -> Stage:
    tool = formats.engine_of(target)
    return Stage(
        kind="export",
        name=target,
        params={"from": network.format, "batch": deployment.batch},
        parents=(setup.task_key, network.key),
        role=role,
        timeout_s=setup.stage_timeout_s,
        salt={"packages": versions(formats.packages(target), tool)},
        engine=tool,
    )


def _build_stage(engine: Engine, network: Network, deployment: Deployment, setup: Setup, role: Role) -> Stage:
    on_node, environment = deployment.on_node, setup.hardware_of(deployment).environment
    fields = to_json(on_node)
    kept = {name: fields[name] for name in engine.build_fields if name in fields}
    kept["options"] = {name: value for name, value in deployment.options.items() if name in engine.build_fields}
    return Stage(
        kind="build",
        name=engine.name,
        params={"format": network.format, "deployment": {**to_json(Deployment(engine.name)), **kept}},
        parents=(setup.task_key, network.key),
        role=role,
        timeout_s=setup.stage_timeout_s,
        # Some engines compile for the instructions, or the GPU, of the machine at hand.
        salt={
            "packages": versions(engine.packages, engine.name),
            "flags": environment.flags,
            **({"gpu": environment.gpu.name} if on_node.hardware == "cuda" and environment.gpu else {}),
        },
        kind_of_node=deployment.kind,
        engine=engine.name,
    )


def _predicted_ahead(
    split: str, build: Stage, candidate: Candidate, setup: Setup, samples: int | None
) -> tuple[Stage, ...]:
    """The artifact's outputs on the test split, found beside the lane: confirming ten configs takes half as long.

    Not in the search, where somebody trains there; nor for the reference, whose outputs are the original's.
    """
    deployment = candidate.deployment
    hardware = setup.hardware_of(deployment)
    alone = hardware.exclusive or deployment.threads > hardware.work
    if split != "test" or alone or candidate == setup.reference_for(deployment):
        return ()
    stage = Stage(
        kind="predict",
        name=split,
        params={"deployment": to_json(deployment.on_node), "samples": samples},
        parents=(setup.task_key, build.key),
        role=Role.FINISHER,
        timeout_s=setup.stage_timeout_s,
        salt={"environment": to_json(hardware.environment)},
        kind_of_node=deployment.kind,
    )
    return (stage,)


def _measure_stage(
    kind: str,
    split: str,
    built: _Built,
    network: Network,
    candidate: Candidate,
    setup: Setup,
    samples: int | None = None,
    ahead: tuple[Stage, ...] = (),
) -> Stage:
    parents = [setup.task_key, built.key]
    deployment = candidate.deployment
    hardware, reference = setup.hardware_of(deployment), setup.reference_for(deployment)
    if candidate != reference:
        serving = reference_on(deployment, setup)
        parents += [serving.artifact_key, serving.stages[-1].key]
    return Stage(
        kind=kind,
        name=split,
        params={
            "candidate": candidate.id,
            "deployment": to_json(deployment.on_node),
            "reference": to_json(reference.deployment.on_node),
            "scenario": setup.scenario,
            "lane": hardware.lane,
            "settings": {**_timing(kind, split), **setup.settings},
            "outputs": network.outputs if kind == "measure" else None,
            "samples": samples,
            "predicted": bool(ahead),
            "smaller": list(built.smaller),
            "p99_ms": setup.p99_ms,
            "executed": {"nodes": setup.executed_nodes, "time": setup.executed_time},
        },
        parents=(
            *parents,
            *((network.outputs,) if kind == "measure" and network.outputs else ()),
            *(stage.key for stage in ahead),
            *built.smaller.values(),
        ),
        role=Role.LANE,
        timeout_s=setup.stage_timeout_s,
        salt={"environment": to_json(hardware.environment)},
        kind_of_node=deployment.kind,
    )


def _timing(kind: str, split: str) -> dict[str, float]:
    if kind == "probe":
        return PROBE_TIMING
    return SEARCH_TIMING if split == "validation" else {}


@cache
def versions(packages: tuple[str, ...], engine: str | None = None) -> dict[str, str]:
    """The version of each distribution, in the engine's own environment where it has one; "absent" where there is none.

    Looked up in files, and a candidate's plan asks a hundred times.
    """
    return {package: engine_environments.version(package, engine) or "absent" for package in packages}
