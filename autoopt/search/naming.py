"""What a stage's Ray task is called: ``train student d=0.5 to 1.2 epochs · job 3f2a``, for whoever looks at Ray's dashboard.

Nothing here knows a technique by its name: the verb follows from what the technique declares, and of its parameters the
fractions (floating-point numbers) are told, each by its first letter; whole numbers and words are settings of how it is done.
Names hold no candidate's number: candidates share stages, and Ray keeps a series of metrics for every name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoopt.records import Candidate, Step
from autoopt.records.job import mark
from autoopt.workers.stages.stage import Stage
from autoopt.workers.techniques import technique as technique_named

LONGEST = 70
_CUT = "…"


def task_name(stage: Stage, candidate: Candidate | None, job: str) -> str:
    """At most `LONGEST` characters, the job's mark at the end.

    Args:
        stage: that runs.
        candidate: whose stage it is; None for what all share.
        job: the job's name; see `autoopt.records.job.mark`.
    """
    end = f" · job {mark(job)}"
    room = LONGEST - len(end)
    text = stage_name(stage, candidate)
    return (text if len(text) <= room else text[: room - len(_CUT)].rstrip(" ,") + _CUT) + end


def stage_name(stage: Stage, candidate: Candidate | None) -> str:
    """The same without the job, and as long as it is."""
    if stage.kind == "technique":
        return _technique(stage, candidate)
    if stage.kind == "teacher":
        return f"teach samples {stage.params['start']} to {stage.params['stop']}"
    if stage.kind == "original":
        return f"original's outputs, {stage.name} split"
    return _verb(stage) + _network(candidate, _serves(stage, candidate))


def _technique(stage: Stage, candidate: Candidate | None) -> str:
    technique = technique_named(stage.name)
    values: Mapping[str, Any] = stage.params["values"]
    if technique.needs_training:
        until = float(values.get("epochs", 0.0)) + float(values.get("offset", 0.0))
        return f"train{_network(candidate, '')} to {until:.3g} epochs"
    if technique.precision is not None:
        return f"quantize{_network(candidate, f' to {technique.precision}')}"
    own = candidate.step(stage.name) if candidate else None
    return _step(own or Step(stage.name))


def _verb(stage: Stage) -> str:
    if stage.kind == "measure" and stage.name == "test":
        return "confirm"
    return {"probe": "probe", "measure": "measure", "predict": "predict"}.get(stage.kind, f"{stage.kind} {stage.name}")


def _serves(stage: Stage, candidate: Candidate | None) -> str:
    """``openvino int8, 1 thread``, as far as it is not said already."""
    if candidate is None or "deployment" not in stage.params:
        return ""
    served = candidate.deployment
    fusion = "" if served.fusion == "default" else f" {served.fusion}"
    if stage.kind == "build":
        return f" {served.precision}{fusion}"
    batch = "" if served.batch == 1 else f", batch {served.batch}"
    threads = f"{served.threads} thread{'' if served.threads == 1 else 's'}"
    instances = "" if served.instances == 1 else f", {served.instances} instances"
    return f" {served.engine} {served.precision}{fusion}{batch}, {threads}{instances}"


def _network(candidate: Candidate | None, before: str) -> str:
    """What comes before, and the changed network's structure."""
    steps = [step for step in candidate.model if _changes_structure(step)] if candidate else []
    network = ", ".join(map(_step, steps))
    if not network:
        return before
    return f"{before}, {network}" if before else f" {network}"


def _changes_structure(step: Step) -> bool:
    technique = technique_named(step.technique)
    return not technique.needs_training and technique.precision is None


def _step(step: Step) -> str:
    """``student d=0.5 w=0.75``."""
    fractions = {name: value for name, value in step.params.items() if isinstance(value, float)}
    letters = {name[0] for name in fractions}
    told = [f"{name[0] if len(letters) == len(fractions) else name}={value:.3g}" for name, value in fractions.items()]
    return " ".join([step.technique.replace("_", " "), *told])
