"""Who is in a cluster and what runs there, over HTTP: for any client with the token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from autoopt.cluster import labels
from autoopt.cluster.access import ask, reach
from autoopt.records.hardware import DEFAULT
from autoopt.search.cluster import KIND

LANE, TRAINER, BUILDER = "lane", "trainer", "builder"
RUNNING = ("PENDING", "RUNNING")
_MANY = 10_000


@dataclass(frozen=True)
class Slots:
    """So many of a node's slots of one kind."""

    total: float
    used: float | None
    """None where the cluster has not counted yet: in its first seconds."""


@dataclass(frozen=True)
class NodeView:
    """A node as the cluster knows it."""

    id: str
    """Ray's."""
    name: str
    """The id by which its machine knows it (`autoopt cluster down --node`); empty where another command started it."""
    address: str
    """By which the other nodes reach it."""
    host: str
    """Its machine's name; empty where another command started it."""
    head: bool
    alive: bool
    trouble: str
    """Why it is not alive."""
    kind: str
    """Of hardware."""
    cpu: str
    cuda: str
    """Its GPU; empty where there is none."""
    autoopt: str
    """The version; empty where another command started it."""
    engines: Mapping[str, str] = field(default_factory=dict)
    """Those that offer something there, with their versions; as Ray's labels hold them."""
    slots: Mapping[str, Slots] = field(default_factory=dict)

    @property
    def lane(self) -> Slots | None:
        """The right to measure; None where nothing is measured."""
        return self.slots.get(LANE)


@dataclass(frozen=True)
class JobView:
    """A job of the cluster's, ours or not."""

    id: str
    status: str
    """Ray's word: PENDING, RUNNING, SUCCEEDED, FAILED, STOPPED."""
    started_at: float | None
    """Seconds since the epoch."""
    entrypoint: str
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self.status in RUNNING


def nodes(address: str) -> tuple[NodeView, ...]:
    """The nodes of the cluster, the head first, those that have left last.

    Args:
        address: of its dashboard.

    Raises:
        ClusterError: it cannot be reached, or does not let us in.
    """
    address = reach(address).address
    listed = ask(address, f"/api/v0/nodes?detail=1&limit={_MANY}")["data"]["result"]["result"]
    usage = _usage(address)
    found = [_view(node, usage.get(node["node_id"])) for node in listed]
    return tuple(sorted(found, key=lambda node: (not node.alive, not node.head, node.kind, node.host, node.name)))


def jobs(address: str) -> tuple[JobView, ...]:
    """The cluster's jobs that were submitted, the latest first.

    Args:
        address: of its dashboard.

    Raises:
        ClusterError: see `nodes`.
    """
    listed = ask(reach(address).address, "/api/jobs/")
    found = [_job(job) for job in listed if job.get("type") == "SUBMISSION"]
    return tuple(sorted(found, key=lambda job: -(job.started_at or float("inf"))))


def _usage(address: str) -> dict[str, dict[str, Any]]:
    status = ask(address, "/api/cluster_status")["data"].get("clusterStatus") or {}
    return (status.get("loadMetricsReport") or {}).get("usageByNode") or {}


def _view(node: Mapping[str, Any], usage: Mapping[str, Any] | None) -> NodeView:
    told: dict[str, str] = node.get("labels") or {}
    totals: dict[str, float] = node.get("resources_total") or {}
    alive = node["state"] == "ALIVE"
    return NodeView(
        id=node["node_id"],
        name=told.get(labels.NODE, ""),
        address=node["node_ip"],
        host=told.get(labels.HOST, ""),
        head=bool(node["is_head_node"]),
        alive=alive,
        trouble="" if alive else node.get("state_message") or "",
        kind=told.get(KIND, DEFAULT),
        cpu=told.get(labels.CPU, ""),
        cuda=told.get(labels.CUDA, ""),
        autoopt=told.get(labels.AUTOOPT, ""),
        engines=labels.engines_of(told),
        slots={
            name: Slots(totals[name], None if usage is None else usage.get(name, (0.0, 0.0))[0])
            for name in (LANE, TRAINER, BUILDER)
            if name in totals
        },
    )


def _job(job: Mapping[str, Any]) -> JobView:
    started = job.get("start_time")
    return JobView(
        id=job["submission_id"],
        status=job["status"],
        started_at=None if started is None else started / 1000,
        entrypoint=job["entrypoint"],
        metadata=job.get("metadata") or {},
    )
