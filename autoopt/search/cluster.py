"""The Ray cluster that a job works on: one of its own on this machine, or one that it shares with other jobs.

Its own listens on loopback only, reports nothing, and ends with the job. Ray's CPUs are logical and pin nothing, so stages ask for
slots of our own (lanes, trainers, builders, finishers), and their processes are pinned by us.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoopt.search.capacity import Capacity
from autoopt.search.commons import Shared
from autoopt.workers.node import VARIABLE, Node

KIND = "hardware"
"""The label that says of which kind a node is."""

# What the processes of a cluster need in the environment *before* Ray is imported.
ENVIRONMENT = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray lowers its workers' priority by 15; whatever else the machine does would then preempt a measurement.
    "RAY_worker_niceness": "0",
    # Ray ends idle workers beyond the number of cores after a second, and with them the warmed parents of our stages.
    "RAY_num_workers_soft_limit": "32",
    # The dashboard's agent looks at every process; each five seconds is more than a job of minutes needs.
    "REPORTER_UPDATE_INTERVAL_MS": "15000",
    "RAY_AUTH_MODE": "token",
    "OPENVINO_TELEMETRY_DISABLE": "1",
    "NNCF_TELEMETRY_DISABLE": "1",
}

LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Keeps Ray on loopback: it rewrites a node address of 127.0.0.1 to the routable one and listens everywhere otherwise
(docs/decisions.md)."""

# What the process that drives a job needs, likewise.
DRIVER = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
    # A thread that still asks for something when the cluster has been left would silently join another.
    "RAY_ENABLE_AUTO_CONNECT": "0",
    # We handle Ctrl-C ourselves: running candidates are told as interrupted, best so far is written.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # A candidate that reports no objective (eliminated, failed) is no error.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_WARN_THRESHOLD_S": "5",
    # Tune adds writers for CSV and TensorBoard of its own accord; the latter starts threads for every trial. Who wants one passes it.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}


@dataclass(frozen=True)
class Cluster:
    """Where a job works."""

    dashboard: str
    """The address of Ray's dashboard."""
    own: Node | None = None
    """The machine, where the cluster is the job's own."""
    commons: Shared | None = None
    """What it has in common with other jobs, where there may be any."""

    def capacity(self, job: str) -> Capacity:
        """What the job may use now: nodes come and go, and so do other jobs."""
        if self.own is not None:
            return Capacity.of(self.own.slots)
        import ray

        whole = Capacity.of(ray.cluster_resources())
        return whole.shared_by(self.commons.attend(job)) if self.commons else whole


@contextmanager
def local_cluster(node: Node) -> Iterator[Cluster]:
    """Start Ray on this machine as one node, and stop it at the end.

    ``address="local"`` always starts a new cluster: a stale file of a dead one would be joined otherwise.
    """
    _prepare({**LOOPBACK, **ENVIRONMENT, **DRIVER})
    os.environ.update(node.environment)
    private_token()
    import ray

    before = os.sched_getaffinity(0)
    # Whatever Ray starts inherits this: its servers and our coordinators stay off the lane's cores.
    os.sched_setaffinity(0, node.cores.work)
    # Ray makes its files and sockets writable for everybody, so they lie in a folder that is not; its path must be short.
    with tempfile.TemporaryDirectory(prefix="autoopt-ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        context = _init(
            address="local",
            resources=node.slots,
            labels={KIND: node.kind},
            include_dashboard=True,
            dashboard_host="127.0.0.1",
            _temp_dir=str(Path(folder, "ray")),  # which it opens to everybody
            **_quiet(),
        )
        try:
            yield Cluster(_address(context), own=node)
        finally:
            ray.shutdown()
            os.sched_setaffinity(0, before)
            os.environ.pop(VARIABLE, None)


@contextmanager
def joined_cluster(job: str) -> Iterator[Cluster]:
    """Join the cluster whose job this process is, and leave it at the end."""
    _prepare({**ENVIRONMENT, **DRIVER})
    import ray

    context = _init(address="auto", **_quiet())
    try:
        commons = Shared()
        commons.summon()
        try:
            yield Cluster(_address(context), commons=commons)
        finally:
            commons.leave(job)
    finally:
        ray.shutdown()


def _init(**arguments: Any) -> Any:
    """`ray.init`, which takes SIGTERM for itself: it is given back, for who sends it wants the job to end in good order.

    Ray would raise SystemExit in the midst of whatever the main thread does, and print a stack first.
    """
    import ray

    before = signal.getsignal(signal.SIGTERM)
    context = ray.init(**arguments)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)
    return context


def _prepare(environment: Mapping[str, str]) -> None:
    """Set what Ray reads when it is imported.

    Where it has been (callbacks and stoppers are Ray's own classes), it is told again: it would ask its own servers without the token
    that they want, and listen everywhere.
    """
    for name, value in environment.items():
        os.environ.setdefault(name, value)
    if "ray" not in sys.modules:
        return
    from ray._private import auto_init_hook, ray_constants
    from ray._raylet import Config  # type: ignore[attr-defined]  # left out of its stub

    auto_init_hook.enable_auto_connect = os.environ.get("RAY_ENABLE_AUTO_CONNECT", "") != "0"
    Config.initialize("")  # as Ray itself does where it turns the token on
    ray_constants.ENABLE_RAY_CLUSTER = os.environ.get("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "1") != "0"


def alive_kinds() -> frozenset[str]:
    """The kinds of the nodes that are there and have a lane."""
    import ray

    return frozenset(node["Labels"].get(KIND, "") for node in ray.nodes() if has_lane(node))


def has_lane(node: dict[str, Any]) -> bool:
    """Whether one of `ray.nodes` is there and can measure."""
    return bool(node["Alive"]) and node["Resources"].get("lane", 0) > 0


def _quiet() -> dict[str, Any]:
    return {"logging_level": logging.WARNING, "log_to_driver": False, "configure_logging": True}


def _address(context: Any) -> str:
    return f"http://{context.dashboard_url}" if context.dashboard_url else ""


def private_token() -> Path:
    """Ray's authentication token, readable by the user alone; made where there is none.

    Ray itself writes it world-readable under the usual umask.
    """
    path = token_path()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if path.stat().st_uid == os.getuid():
            path.chmod(0o600)
        return path
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))
    return path


def token_path() -> Path:
    """Where Ray looks for the token: ``$RAY_AUTH_TOKEN_PATH``, else ``~/.ray/auth_token``."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token").expanduser()
