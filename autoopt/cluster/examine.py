"""The examination of a cluster from within: a job of Ray's that asks every node, and prints one line.

``python -m autoopt.cluster.examine``, started by the doctor through Ray's Jobs API. What it is to look at may hold passwords, so
it stands in a file that travels with the job and is removed when it has been read.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoopt.cluster.host import Host, host_here
from autoopt.cluster.joining import Versions, here
from autoopt.cluster.look import Look, look
from autoopt.cluster.stores import Answer, leave_mark, remove_mark, try_store, try_study
from autoopt.cluster.travel import send_only
from autoopt.errors import AutooptError
from autoopt.records import from_json, to_json
from autoopt.workers.node import Node

ORDER = "examination.json"
MARK = "autoopt examination: "
_CLOCK_TRIES = 3


@dataclass(frozen=True)
class Order:
    """What is examined."""

    store: str | None
    study: str | None
    patience_s: float
    """For all nodes together."""
    nonce: str
    """Makes every examination's file another one: Ray would otherwise take what it has already, and that was removed."""


@dataclass(frozen=True)
class Examined:
    """What a node has said."""

    versions: Versions
    host: Host
    look: Look | None
    trouble: str = ""
    """Why its engines could not be looked at."""
    store: Answer | None = None


@dataclass(frozen=True)
class NodeAnswer:
    """A node's answer, as it was received on the head."""

    examined: Examined | None
    """None where it did not answer."""
    clock_s: float = 0.0
    """How far its clock is ahead of the head's, in seconds."""


@dataclass(frozen=True)
class Examination:
    """Of a cluster."""

    nodes: Mapping[str, NodeAnswer]
    """By Ray's id."""
    study: Answer | None
    """From the head."""


def main() -> None:
    """On the head, as a job's process."""
    path = Path(ORDER)
    order = from_json(Order, json.loads(path.read_text()))
    path.unlink()
    found = Examination(_ask_nodes(order), None if order.study is None else try_study(order.study))
    print(MARK + json.dumps(to_json(found)), flush=True)


def _ask_nodes(order: Order) -> dict[str, NodeAnswer]:
    import ray

    send_only(None)
    ray.init(address="auto", log_to_driver=False)
    ends = time.monotonic() + order.patience_s
    there = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    with _marked(order.store) as mark:
        return _answers({node: _on(node, _examine).remote(order.store, mark) for node in there}, ends)


@contextmanager
def _marked(store: str | None) -> Iterator[str | None]:
    """A file in the store that every node must see; none where the store does not work from here."""
    if store is None or try_store(store).error is not None:
        yield None
        return
    mark = leave_mark(store)
    try:
        yield mark
    finally:
        remove_mark(store, mark)


def _answers(asked: Mapping[str, Any], ends: float) -> dict[str, NodeAnswer]:
    import ray

    found = {}
    for node, answer in asked.items():
        try:
            told = ray.get(answer, timeout=max(0.1, ends - time.monotonic()))
        except (ray.exceptions.GetTimeoutError, ray.exceptions.RayError):
            ray.cancel(answer, force=True)
            found[node] = NodeAnswer(None)
        else:
            found[node] = NodeAnswer(from_json(Examined, told), _clock_of(node))
    return found


def _on(node: str, function: Any) -> Any:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    pinned = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(num_cpus=0, max_retries=0)(function).options(scheduling_strategy=pinned, name="autoopt doctor")


def _clock_of(node: str) -> float:
    """How far the node's clock is ahead of this machine's: the answer that came quickest says it best."""
    import ray

    ask = _on(node, _now)
    answers = []
    for _ in range(_CLOCK_TRIES):
        sent = time.time()
        try:
            theirs = ray.get(ask.remote(), timeout=10)
        except (ray.exceptions.GetTimeoutError, ray.exceptions.RayError):
            continue
        received = time.time()
        answers.append((received - sent, theirs - (sent + received) / 2))
    return min(answers)[1] if answers else 0.0


def _now() -> float:
    return time.time()


def _examine(store: str | None, mark: str | None) -> Any:
    """On each node."""
    seen, trouble = None, ""
    try:
        seen = look()
    except AutooptError as error:
        trouble = str(error)
    host = host_here(Node.here(), rays=True)
    return to_json(Examined(here(), host, seen, trouble, None if store is None else try_store(store, mark)))


if __name__ == "__main__":
    # Under its own name, so that the nodes import it and are not sent its code.
    from autoopt.cluster.examine import main as run

    run()
