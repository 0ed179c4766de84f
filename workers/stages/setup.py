"""What all candidates of a job share: the task's folder, the reference, the hardware, how to measure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from autoopt.records import Candidate, Deployment
from autoopt.records.hardware import named
from autoopt.workers.node import Hardware


@dataclass(frozen=True)
class Setup:
    """A job's constants, as every stage and worker needs them."""

    task_key: str
    """The prepared task's fingerprint: the store's key of its folder."""
    source_format: str
    training_samples: int
    """Size of the train split; 0 where there is none."""
    reference: Candidate
    """What the job's figures are told against."""
    hardware: Mapping[str, Hardware]
    """By the kind of node; every candidate names one of them."""
    scenario: str = "single_stream"
    p99_ms: float | None = None
    """Of the scenario "server": what 99 % of the requests may take."""
    seed: int = 0
    rungs: tuple[float, ...] = ()
    """Recovery is done in these steps, in epochs, cumulative; after each the candidate may be eliminated."""
    executed_nodes: float = 0.5
    """The share of compute nodes that must run in the precision of a candidate, and that of their time (where it is known)."""
    executed_time: float = 0.1
    stage_timeout_s: float = 900.0
    memory_bytes: int | None = None
    """A stage's processes may use so much; None: four fifths of the node's."""
    disk_bytes: int | None = None
    """They may write so much; None: half of what is free, `LEAST_DISK_BYTES` at least."""
    install_engines: tuple[str, ...] = ()
    """Engines that a node prepares an environment for when it first needs one, once."""
    settings: dict[str, float] = field(default_factory=dict)
    """Overrides of the timing's defaults, by name (`autoopt.workers.measure.TimingSettings`)."""

    def hardware_of(self, deployment: Deployment) -> Hardware:
        """What serves it."""
        return self.hardware[deployment.kind]

    def reference_for(self, deployment: Deployment) -> Candidate:
        """What a deployment is timed in turn with: the reference on the same hardware."""
        served = self.reference.deployment
        hardware = named(deployment.kind, served.on_node.hardware)
        return replace(self.reference, deployment=replace(served, hardware=hardware))
