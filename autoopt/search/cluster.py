"""A job's Ray cluster: loopback only, no telemetry, slots for lanes, trainers, builders and finishers.

Ray's CPUs are logical and pin nothing, so stages ask for slots of our own, and their processes are pinned by us.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autoopt.workers.node import VARIABLE, Node

KIND = "hardware"
"""The label that says of which kind a node is."""

# What every process of a cluster needs in its environment *before* Ray is imported. The first keeps Ray on loopback: it
# rewrites a node address of 127.0.0.1 to the routable one and listens everywhere otherwise (docs/decisions.md).
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
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
DRIVER = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
    # We handle Ctrl-C ourselves: running candidates are told as interrupted, best so far is written.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # A candidate that reports no objective (eliminated, failed) is no error.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_WARN_THRESHOLD_S": "5",
    # Tune adds writers for CSV and TensorBoard of its own accord; the latter starts threads for every trial. Who wants one passes it.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}
"""What the process needs besides that runs a job."""


@contextmanager
def local_cluster(node: Node) -> Iterator[str]:
    """Start Ray on this machine as one node, and stop it at the end; yields the dashboard's address.

    ``address="local"`` always starts a new cluster: a stale file of a dead one would be joined otherwise.
    """
    for name, value in (LOOPBACK | ENVIRONMENT | DRIVER).items():
        os.environ.setdefault(name, value)
    os.environ.update(node.environment)
    private_token()
    import ray

    before = os.sched_getaffinity(0)
    # Whatever Ray starts inherits this: its servers and our coordinators stay off the lane's cores.
    os.sched_setaffinity(0, node.cores.work)
    context = ray.init(
        address="local",
        resources=node.slots,
        labels={KIND: node.kind},
        include_dashboard=True,
        dashboard_host="127.0.0.1",
        logging_level=logging.WARNING,
        log_to_driver=False,
        configure_logging=True,
    )
    try:
        yield f"http://{context.dashboard_url}" if context.dashboard_url else ""
    finally:
        ray.shutdown()
        os.sched_setaffinity(0, before)
        os.environ.pop(VARIABLE, None)


def private_token() -> Path:
    """Let only the user read Ray's authentication token, and make one where there is none.

    Ray itself writes it world-readable under the usual umask.

    Returns:
        The token's file: ``$RAY_AUTH_TOKEN_PATH``, else ``~/.ray/auth_token``.
    """
    path = token_path()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if path.stat().st_uid == os.getuid():
            path.chmod(0o600)
        return path
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))
    return path


def token_path() -> Path:
    """Where Ray looks for the token."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token").expanduser()
