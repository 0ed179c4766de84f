"""What is asked of a measurement, and what its timing half answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from autoopt.records import Deployment, Effective, Estimate, Latency


@dataclass(frozen=True)
class ServedArtifact:
    """A built artifact and how to serve it."""

    engine: str
    path: str
    """The artifact's folder."""
    deployment: Deployment
    smaller: Mapping[str, str] = field(default_factory=dict)
    """Folders of the same network built for smaller batches, by their size: what dynamic batching calls for a batch that is not full."""

    @property
    def folder(self) -> Path:
        """The path as one."""
        return Path(self.path)


@dataclass(frozen=True)
class TimingSettings:
    """How long to time, and where."""

    target_half_width: float = 0.01
    """Stop when half the 95 % interval of the speed-up is no wider than this, relative to the speed-up."""
    max_s: float = 4.0
    """Stop after so long, unless the interval is useless."""
    useless_half_width: float = 0.1
    """An interval wider than this is given three times as long: on a busy machine it would mislead a whole search."""
    min_rounds: int = 16
    """A B B A rounds before the interval is first looked at; fewer only when ``max_s`` is over."""
    burst_ms: float = 12.0
    """About as long does one artifact run before it is the other's turn: long enough for warm caches, short against drift."""
    cores: tuple[int, ...] = ()
    """The lane's logical processors; empty for those that this process may use."""
    beside: tuple[int, ...] = ()
    """Those for the load generator; empty for the lane's."""
    window_s: float = 1.5
    """A server is watched for so long at each rate."""
    rate_step: float = 1.04
    """A rate is found when the next higher one that was tried and did not hold is no more than this factor away."""
    searches: int = 3
    """So often is it found anew: the middle one counts."""
    load_s: float = 35.0
    """When so long has been searched for the rate, no other one is tried: on a busy machine it would never end."""


@dataclass(frozen=True)
class Executed:
    """How much of a network must execute in the precision that was asked for; with less, it has fallen back."""

    nodes: float = 0.5
    """Of the compute nodes. Quantizers leave the last layer in FP32, which is half of the nodes of the smallest networks."""
    time: float = 0.1
    """Of the compute nodes' time, where the runtime tells it: what executes in INT8 is quick, and what does not is slow."""


@dataclass(frozen=True)
class MeasureRequest:
    """One measurement, or a probe (timing only)."""

    candidate_id: str
    artifact: ServedArtifact
    reference: ServedArtifact
    task: str
    """The prepared task's folder."""
    split: str | None
    """What to judge on; None for a probe."""
    scenario: str
    reference_latency_ms: float | None
    """The job's constant: the reference's milliseconds per sample. None where the artifact is the reference itself."""
    source_outputs: str | None = None
    """A .npy, (K, ...): what the network that the artifact was built from answers to the first K validation samples."""
    reference_outputs: str | None = None
    """A .npy, (N, ...): the original network's outputs on the split, where the prepared task is not to be asked for them."""
    own_outputs: str | None = None
    """A .npy, (N, ...): the artifact's outputs on the split, where they have been found before."""
    samples: int | None = None
    """Judge on so many of the split's samples, drawn at random; None for all."""
    settings: TimingSettings = field(default_factory=TimingSettings)
    p99_ms: float | None = None
    """A server's bound."""
    executed: Executed = field(default_factory=Executed)


@dataclass(frozen=True)
class Timing:
    """An artifact timed in turn with the reference."""

    speedup: Estimate
    """The reference's time per sample divided by the artifact's."""
    latency: Latency
    """Milliseconds a call, of whole batches."""
    effective: Effective
    load_s: float
    first_ms: float
    peak_rss_bytes: int
    timed_s: float
    """Of which the bursts took so long."""
    remarks: tuple[str, ...] = ()
