"""Stop nodes that were started here: politely, in Ray's own order, then for good; other Ray clusters are left alone."""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from autoopt.cluster import started
from autoopt.cluster.access import ask
from autoopt.cluster.nodes import RUNNING
from autoopt.cluster.processes import HEAD_SERVER, RAYLET, is_alive, is_up, named, processes_of
from autoopt.cluster.started import Started
from autoopt.errors import ClusterError

JOBS_S, POLITE_S, LAST_S = 10.0, 10.0, 5.0
ASK_S = 3.0
_POLL_S = 0.1
_LOGS_KEPT = 5


def down(temp_dir: Path | None = None, node: str | None = None) -> tuple[Started, ...]:
    """Stop all nodes that were started here, or one of them; leaves no process and no socket of theirs.

    Args:
        temp_dir: the clusters' folder, where `up` was given one.
        node: the id of one node.

    Returns:
        Those that were stopped, in that order: heads last.

    Raises:
        ClusterError: there is no such node here, or a process cannot be ended.
    """
    folder = started.clusters_folder(temp_dir)
    with started.alone(folder):
        there = started.read_all(folder)
        wanted = [record for record in there if node in (None, record.id)]
        if node is not None and not wanted:
            known = ", ".join(record.id for record in there) or "none"
            message = f"no node {node!r} was started here (in {folder}); there are: {known}"
            raise ClusterError(message)
        wanted.sort(key=lambda record: record.head)
        for record in wanted:
            end(record, folder)
    return tuple(wanted)


def end(record: Started, folder: Path) -> None:
    """End one node's processes and remove its files; its logs are kept.

    Raises:
        ClusterError: a process cannot be ended.
    """
    if record.head and is_up(record):
        _end_jobs(record)  # else somebody else's head may answer at its address
    for names in ((RAYLET,), (), (HEAD_SERVER,)):
        # The raylet takes leave of the head and ends its workers; the head's server goes last, for all others ask it.
        _end_politely(record, names)
    _end_for_good(record)
    _keep_logs(record, folder)
    shutil.rmtree(record.folder, ignore_errors=True)
    started.remove(record, folder)


def _end_jobs(record: Started) -> None:
    """Let the jobs end in good order, their best so far written, if the head still answers."""
    with contextlib.suppress(ClusterError):
        ends = time.monotonic() + JOBS_S
        asked: set[str] = set()
        while time.monotonic() < ends and (running := _jobs(record)):
            for job in set(running) - asked:
                ask(record.dashboard, f"/api/jobs/{job}/stop", patience_s=ASK_S, post={})
            asked |= set(running)
            time.sleep(_POLL_S)


def _jobs(record: Started) -> list[str]:
    listed = ask(record.dashboard, "/api/jobs/", patience_s=ASK_S)
    return [job["submission_id"] for job in listed if job["type"] == "SUBMISSION" and job["status"] in RUNNING]


def _end_politely(record: Started, names: Sequence[str]) -> None:
    there = processes_of(record)
    last = named(there, HEAD_SERVER)
    chosen = named(there, *names) if names else [process for process in there if process not in last]
    for process in chosen:
        _send(process, signal.SIGTERM)
    _await(chosen, POLITE_S)


def _end_for_good(record: Started) -> None:
    ends = time.monotonic() + LAST_S
    while left := processes_of(record):
        if time.monotonic() > ends:
            told = ", ".join(f"{process.pid} ({process.name()})" for process in left)
            message = f"these processes of the node {record.id} cannot be ended: {told}; look at what holds them, then stop it again"
            raise ClusterError(message)
        for process in left:
            _send(process, signal.SIGKILL)
        _await(left, 1.0)


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.Error:
        return


def _await(processes: Sequence[psutil.Process], patience_s: float) -> None:
    ends = time.monotonic() + patience_s
    while any(is_alive(process) for process in processes) and time.monotonic() < ends:
        time.sleep(_POLL_S)


def _keep_logs(record: Started, folder: Path) -> None:
    """Those of the last few nodes: jobs' own logs are among them."""
    kept = folder / "logs"
    kept.mkdir(mode=0o700, exist_ok=True)
    for logs in Path(record.folder).glob("session_2*/logs"):
        shutil.rmtree(kept / record.id, ignore_errors=True)  # of a node that was started twice, and stopped
        logs.rename(kept / record.id)
    old = sorted(kept.iterdir(), key=lambda path: path.stat().st_mtime)[:-_LOGS_KEPT]
    for path in old:
        shutil.rmtree(path, ignore_errors=True)
