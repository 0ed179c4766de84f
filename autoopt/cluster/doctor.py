"""Examine this machine, a cluster, a store and a study, and say what to mend."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from autoopt.cluster import joining, machine, remote, started, stores
from autoopt.cluster.access import normalized, reach
from autoopt.cluster.checks import Check, ok, problem, warning
from autoopt.cluster.host import host_here
from autoopt.cluster.look import look
from autoopt.cluster.nodes import NodeView, nodes
from autoopt.cluster.processes import is_loopback, is_up, listeners, processes_of
from autoopt.errors import ClusterError
from autoopt.workers.node import Node

HERE = "here"


def examine(
    address: str | None = None, store: str | None = None, study: str | None = None, temp_dir: Path | None = None
) -> tuple[Check, ...]:
    """Every check that can be made.

    Args:
        address: of a cluster's dashboard; None: this machine alone.
        store: the address of a store, tried from here and from every node.
        study: the address of a study's database, tried from here and from the head.
        temp_dir: the folder of the clusters that were started here.

    Raises:
        ClusterError: the cluster's address is none.
    """
    if address is not None:
        address = normalized(address)
    return tuple(_checks(address, store, study, temp_dir))


def _checks(address: str | None, store: str | None, study: str | None, temp_dir: Path | None) -> Iterator[Check]:
    yield from _here(client=address is not None)
    yield from _started_here(temp_dir)
    if store is not None:
        yield remote.tried(f"{HERE}: store", stores.try_store(store))
    if study is not None:
        yield remote.tried(f"{HERE}: study", stores.try_study(study))
    if address is not None:
        yield from _cluster(address, store, study)


def _here(*, client: bool) -> Iterator[Check]:
    yield machine.check_packages(f"{HERE}: packages", joining.here())
    try:
        yield machine.check_engines(f"{HERE}: engines", look(), needed=not client)
    except ClusterError as error:
        yield problem(f"{HERE}: engines", str(error))
    yield machine.check_compiler()
    host = host_here(Node.here())
    yield machine.check_cores(f"{HERE}: cores", host)
    yield machine.check_disks(f"{HERE}: disks", host)
    yield machine.check_token(f"{HERE}: token", host)


def _started_here(temp_dir: Path | None) -> Iterator[Check]:
    for record in started.read_all(started.clusters_folder(temp_dir)):
        what = f"{HERE}: node {record.id}"
        beyond = [place for place in listeners(processes_of(record)) if not is_loopback(place)]
        if not is_up(record):
            yield problem(
                what,
                "was started here, and is not whole any more",
                f"autoopt cluster down --node {record.id}, then start it again",
            )
        elif beyond and is_loopback(record.host):
            yield problem(
                what,
                f"listens on {', '.join(sorted(beyond))}, and was to stay on loopback",
                f"autoopt cluster down --node {record.id}",
            )
        else:
            yield ok(what, f"runs, of the kind {record.kind}")


def _cluster(address: str, store: str | None, study: str | None) -> Iterator[Check]:
    try:
        asked = time.time()
        head = reach(address)
        clock_s = head.clock - (asked + time.time()) / 2
        there = nodes(address)
    except ClusterError as error:
        yield problem("cluster", str(error))
        return
    yield ok("cluster", f"{address} answers and accepts the token; Ray {head.ray}")
    yield remote.check_clock("head: clock", clock_s, "this machine's")
    yield from _nodes(there)
    try:
        found = remote.examined(address, store, study)
    except ClusterError as error:
        yield problem("nodes", str(error))
        return
    yield from remote.judge(found, there, joining.here())


def _nodes(there: Sequence[NodeView]) -> Iterator[Check]:
    alive = [node for node in there if node.alive]
    gone = [node for node in there if not node.alive]
    yield ok("nodes", f"{len(alive)} alive{f', {len(gone)} left earlier' if gone else ''}")
    lanes = [node.lane for node in alive if node.lane is not None]
    held = sum(1 for lane in lanes if lane.used)
    if not lanes:
        yield problem(
            "lanes",
            "no node has one, so that nothing can be measured",
            "start a node without --no-lane: autoopt cluster up --join …",
        )
    elif held == len(lanes):
        yield warning(
            "lanes",
            f"all {held} are held: jobs that measure wait for each other",
            "start another node of the kind that is waited for",
        )
    else:
        yield ok("lanes", f"{len(lanes) - held} of {len(lanes)} free")
