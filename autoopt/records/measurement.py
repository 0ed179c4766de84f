"""A measurement: an immutable record of one artifact, judged in one environment, each figure with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from autoopt.records.environment import Environment

SINGLE_STREAM, OFFLINE, SERVER = "single_stream", "offline", "server"
SCENARIOS = (SINGLE_STREAM, OFFLINE, SERVER)
"""MLPerf's terms: the time of one request of one sample; the time per sample at the deployment's batch, in all its instances; the
highest rate of requests, arriving at random, of which 99 % are answered in time."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its two-sided 95 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Latency:
    """What the clock said, in this run on this machine. For comparisons use the paired speed-up instead."""

    median_ms: float
    p90_ms: float
    mean_ms: float
    reference_median_ms: float
    """The reference's, timed in turn with this artifact."""
    rounds: int
    """A B B A rounds kept."""
    calls: int
    """Timed calls kept, of this artifact."""
    discarded: int
    """Bursts thrown away because the process had been preempted."""


@dataclass(frozen=True)
class Effective:
    """What really ran, read back from the engine and the operating system."""

    engine_version: str
    hardware: str
    precision: str
    threads: int
    details: Mapping[str, str] = field(default_factory=dict)
    nodes: Mapping[str, int] = field(default_factory=dict)
    """Compute nodes (convolutions, matrix products, recurrent cells) by the precision that they execute in; empty where unknown."""
    time: Mapping[str, float] = field(default_factory=dict)
    """What share of the compute nodes' time each precision has; empty where the runtime does not tell."""


@dataclass(frozen=True)
class Fidelity:
    """The artifact's outputs against those of the network it was built from, on the same inputs."""

    agreement: float
    """Share of samples with the same arg-max (or, where outputs are no class scores, within tolerance), in [0, 1]."""
    max_difference: float
    """The largest absolute difference, divided by the standard deviation of what the source's outputs do from sample to sample."""
    mean_difference: float
    """The mean absolute difference, divided likewise."""
    samples: int


@dataclass(frozen=True)
class RatePoint:
    """A server watched at one rate of requests."""

    rate: float
    """Requests a second."""
    requests: int
    p50_ms: float
    """From a request's arrival to its answer."""
    p99_ms: float
    mean_batch: float
    held: bool
    """Whether 99 % were answered within the bound, and the queue did not grow."""


@dataclass(frozen=True)
class Served:
    """What a server does under load; requests arrive at random (a Poisson process)."""

    bound_ms: float
    """What 99 % of the requests may take."""
    rate: Estimate
    """The highest rate that held, requests a second; the interval reaches to the lowest that did not. 0 where none held."""
    curve: tuple[RatePoint, ...]
    """Every rate that was tried, rising."""
    harness_p50_ms: float
    """What queue and Python take of a request without any network."""
    harness_p99_ms: float
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measurement:
    """One artifact, timed against the reference and judged on one split."""

    candidate_id: str
    split: str
    """"validation" while searching; "test" when confirmed."""
    samples: int
    """Of the split, that it was judged on."""
    scenario: str
    """"single_stream", "offline" or "server" (MLPerf's terms)."""
    speedup: Estimate
    """The reference's time per sample divided by this artifact's, timed in turn: drift cancels. Of a server: its highest rate of
    requests under the bound, divided by what the reference would do at most, never idle and whatever the latency."""
    latency_ms: Estimate
    """Milliseconds per sample: the job's reference latency divided by the speed-up. Comparable within a job."""
    score: Estimate
    """The task's metric on the split; higher is better."""
    score_drop: Estimate
    """The reference's score minus this one's, on the same samples (paired)."""
    agreement: float
    """Share of the split's samples on which this artifact and the reference network predict the same, in [0, 1]."""
    latency: Latency
    fidelity: Fidelity
    size_bytes: int
    peak_rss_bytes: int
    """Memory that loading and running the artifact added to its process."""
    load_s: float
    first_ms: float
    """The first inference after loading."""
    effective: Effective
    environment: Environment
    taken_at: str
    """ISO 8601, UTC."""
    remarks: tuple[str, ...] = ()
    """What a reader should know, in words: noise, a cap that was reached, …"""
    served: Served | None = None
    """Of the scenario "server"."""
    energy_mj: Estimate | None = None
    """Millijoules a sample, of everything that the counters cover; None where it was not asked for, or the machine does not tell."""
    schema: int = 1
