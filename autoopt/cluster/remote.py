"""Examine a cluster from a client: submit the examination as a job of Ray's, and judge what the nodes have said."""

from __future__ import annotations

import json
import logging
import os
import secrets
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from autoopt.cluster import machine
from autoopt.cluster.checks import Check, ok, problem, warning
from autoopt.cluster.examine import MARK, ORDER, Examination, Examined, NodeAnswer, Order
from autoopt.cluster.joining import Versions
from autoopt.cluster.nodes import NodeView
from autoopt.cluster.processes import is_loopback
from autoopt.cluster.stores import Answer
from autoopt.errors import ClusterError
from autoopt.records import from_json, to_json

if TYPE_CHECKING:
    from ray.job_submission import JobStatus, JobSubmissionClient

PATIENCE_S = 120.0
"""For the nodes' answers; a node that is busy looks at its engines slowly."""
START_S = 60.0
CLOCK_S = 2.0
"""Clocks that differ by more make a mess of budgets and leases."""
_POLL_S = 0.5
_TAIL = 600


@dataclass(frozen=True)
class _Node:
    """Of the cluster's, with what it has said."""

    view: NodeView
    answer: NodeAnswer

    @property
    def name(self) -> str:
        return f"node {self.view.name or self.view.id[:6]}"


def examined(address: str, store: str | None, study: str | None, patience_s: float = PATIENCE_S) -> Examination:
    """Let every node of a cluster say how it stands.

    Args:
        address: of the dashboard, which has been reached.
        store: which is tried on every node.
        study: which is tried on the head.
        patience_s: how long the nodes may take.

    Raises:
        ClusterError: the examination did not run: autoopt is not installed on the head, say.
    """
    from ray.job_submission import JobStatus, JobSubmissionClient

    for name in ("ray", "ray.dashboard.modules.dashboard_sdk"):
        logging.getLogger(name).setLevel(logging.WARNING)  # they tell of each upload
    client = JobSubmissionClient(address)
    job = _submit(client, Order(store, study, patience_s, secrets.token_hex(8)))
    status = _await_end(client, job, START_S + patience_s)
    printed = client.get_job_logs(job)
    told = next((line.removeprefix(MARK) for line in printed.splitlines() if line.startswith(MARK)), None)
    if status != JobStatus.SUCCEEDED or told is None:
        raise ClusterError(_why(printed, client.get_job_info(job).message))
    return from_json(Examination, json.loads(told))


def _submit(client: JobSubmissionClient, order: Order) -> str:
    with tempfile.TemporaryDirectory(prefix="autoopt-") as folder:
        # A file, and not the runtime environment's variables: those are shown by the dashboard.
        descriptor = os.open(Path(folder) / ORDER, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(to_json(order), file)
        return str(
            client.submit_job(
                entrypoint="python -m autoopt.cluster.examine",
                submission_id=f"autoopt-doctor-{order.nonce}",
                runtime_env={"working_dir": folder},
                metadata={"autoopt": "doctor"},
            )
        )


def _await_end(client: JobSubmissionClient, job: str, patience_s: float) -> JobStatus:
    ends = time.monotonic() + patience_s
    while not (status := client.get_job_status(job)).is_terminal():
        if time.monotonic() > ends:
            client.stop_job(job)
            message = f"the examination did not end within {patience_s:.0f} s; the head is too busy, or a node hangs"
            raise ClusterError(message)
        time.sleep(_POLL_S)
    return status


def _why(printed: str, message: str | None) -> str:
    if "No module named 'autoopt" in printed or "No module named autoopt" in printed:
        return "the cluster's head does not find autoopt, or has an older one; install the same version there as here, for the Python that runs Ray"
    told = [line.strip() for line in (printed.strip() or message or "it said nothing").splitlines() if line.strip()]
    return f"the examination failed on the head: {told[-1][-_TAIL:]}"


def judge(found: Examination, views: Sequence[NodeView], mine: Versions) -> Iterator[Check]:
    """What the nodes have said, in checks.

    Args:
        found: what they said.
        views: the nodes, as the cluster lists them.
        mine: this machine's versions.
    """
    nodes = [_Node(view, found.nodes.get(view.id, NodeAnswer(None))) for view in views if view.alive]
    for node in nodes:
        if node.answer.examined is None:
            remedy = "look at its machine (is it overloaded?), stop it there and start it again"
            yield problem(node.name, "did not answer", remedy)
        else:
            yield from _judge_node(node, node.answer.examined, mine)
    yield from _judge_kinds(nodes)
    if found.study is not None:
        yield tried("head: study", found.study)


def _judge_node(node: _Node, said: Examined, mine: Versions) -> Iterator[Check]:
    yield _versions(f"{node.name}: packages", said.versions, mine)
    if said.look is None:
        yield problem(f"{node.name}: engines", said.trouble, "")
    else:
        yield machine.check_engines(f"{node.name}: engines", said.look)
    yield machine.check_cores(f"{node.name}: cores", said.host)
    yield machine.check_disks(f"{node.name}: disks", said.host)
    yield machine.check_token(f"{node.name}: token", said.host)
    yield check_clock(f"{node.name}: clock", node.answer.clock_s, "the head's")
    yield _listeners(f"{node.name}: listens on", node.view, said)
    if said.store is not None:
        yield tried(f"{node.name}: store", said.store)


def check_clock(where: str, ahead_s: float, of: str) -> Check:
    """Whether two clocks say the same."""
    told = f"{abs(ahead_s):.1f} s {'ahead of' if ahead_s > 0 else 'behind'} {of}"
    if abs(ahead_s) > CLOCK_S:
        return problem(where, told, "let NTP set the clocks of both machines (timedatectl set-ntp true)")
    return ok(where, f"as {of}, within {CLOCK_S:g} s")


def _versions(where: str, theirs: Versions, mine: Versions) -> Check:
    pairs = (
        ("autoopt", theirs.autoopt, mine.autoopt),
        ("Ray", theirs.ray, mine.ray),
        ("Python", _minor(theirs.python), _minor(mine.python)),
    )
    unlike = [f"{name} {there} there, {here} here" for name, there, here in pairs if there != here]
    if unlike:
        return problem(where, "; ".join(unlike), "install the same versions on all machines")
    return machine.check_packages(where, theirs)


def _minor(python: str) -> str:
    return ".".join(python.split(".")[:2])


def _listeners(where: str, view: NodeView, said: Examined) -> Check:
    if not said.host.listens:
        return ok(where, "loopback only")
    words = ("all interfaces" if ip_address(address).is_unspecified else address for address in said.host.listens)
    told = ", ".join(dict.fromkeys(words))
    if is_loopback(view.address):
        return problem(where, told, "the node was to stay on loopback: stop it, and start it with `autoopt cluster up`")
    return warning(where, told, "without TLS: let only a private network reach it")


def _judge_kinds(nodes: Sequence[_Node]) -> Iterator[Check]:
    """Nodes of one kind must be alike, for their figures are compared; and a kind without a lane measures nothing."""
    for kind in sorted({node.view.kind for node in nodes}):
        alike = [node for node in nodes if node.view.kind == kind]
        measuring = [node for node in alike if node.view.lane is not None]
        differences = [
            f"{first.name} and {other.name} differ ({'; '.join(unlike)})"
            for first, other in ((measuring[0], other) for other in measuring[1:])
            if (unlike := _unlike(first, other))
        ]
        what = f"kind {kind}"
        if differences:
            remedy = "make them alike, or give them names of their own (autoopt cluster up --hardware NAME)"
            yield problem(what, "; ".join(differences), remedy)
        elif not measuring:
            yield warning(
                what, "none of its nodes has a lane, so that nothing is measured on it", "start one without --no-lane"
            )
        else:
            yield ok(what, f"{len(alike)} nodes, alike" if len(alike) > 1 else "one node")


def _unlike(one: _Node, other: _Node) -> tuple[str, ...]:
    """How two nodes differ in what figures and plans depend on; empty where one of them has not answered."""
    said, told = one.answer.examined, other.answer.examined
    if said is None or told is None or said.look is None or told.look is None:
        return ()
    mine, theirs = said.host.cores, told.host.cores
    pairs = (
        ("engines", _listed(said.look.engines), _listed(told.look.engines)),
        ("cores of the lane", len(mine.lane), len(theirs.lane)),
        ("cores beside it", len(mine.work), len(theirs.work)),
        ("slots", _totals(one.view), _totals(other.view)),
    )
    differences = (f"{name}: {here} here, {there} there" for name, here, there in pairs if here != there)
    return (*said.look.environment.unlike(told.look.environment), *differences)


def _listed(engines: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(engines.items()))


def _totals(view: NodeView) -> str:
    return ", ".join(f"{slots.total:g} {name}" for name, slots in view.slots.items())


def tried(where: str, answer: Answer) -> Check:
    """How a store or a study answered."""
    if answer.error is not None:
        return problem(where, answer.error)
    if answer.missing:
        return warning(where, f"not tried: {answer.missing} is not installed", "pip install 'autoopt[search]'")
    if answer.clock_s is not None and abs(answer.clock_s) > CLOCK_S:
        return check_clock(where, answer.clock_s, "the machine's that asked")
    return ok(where, f"works ({answer.took_s:.1f} s)")
