"""What the nodes of a shared cluster are: each kind of hardware as one of its nodes sees it, alike on all of them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from autoopt.errors import JobError, SpaceError
from autoopt.records import canonical_json, from_json, to_json
from autoopt.records.hardware import named
from autoopt.search.cluster import KIND, alive_kinds, has_lane
from autoopt.space.kinds import missing_kinds, no_such_hardware
from autoopt.space.schema import SpaceFile
from autoopt.workers.engines.base import Offer
from autoopt.workers.node import Hardware, Node

LOOK_LIMIT_S, INSTALL_LIMIT_S = 180.0, 1800.0
_LOOK_AGAIN_S = 2.0


@dataclass(frozen=True)
class Seen:
    """A kind of hardware: what plans depend on, and what the engines offer there."""

    hardware: Hardware
    offers: Mapping[str, Offer]


@ray.remote(num_cpus=0, max_retries=2)  # type: ignore[untyped-decorator]  # Ray's
def _look(install: tuple[str, ...]) -> tuple[Any, Any]:
    from autoopt.search.preparation import engines_here
    from autoopt.search.remote import meet

    node = Node.here()
    meet(node, shared=True)
    return to_json(node.hardware), to_json(engines_here(install=install))


def look_at_nodes(install: tuple[str, ...] = ()) -> dict[str, Seen]:
    """Every kind of hardware that the cluster has.

    Args:
        install: engines to install first where they are missing.

    Raises:
        JobError: there is no lane, a node does not answer, or two nodes of the same kind differ.
    """
    nodes = [node for node in ray.nodes() if has_lane(node)]
    asked = {
        node["NodeID"]: _look.options(
            name=f"look at {node['NodeManagerAddress']}",
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        ).remote(install)
        for node in nodes
    }
    kinds: dict[str, list[Seen]] = defaultdict(list)
    for node in nodes:
        seen = _answer(node, asked[node["NodeID"]], INSTALL_LIMIT_S if install else LOOK_LIMIT_S)
        if seen is not None:
            kinds[node["Labels"].get(KIND, "")].append(seen)
    if not kinds:
        message = (
            "no node of the cluster has a lane to measure on; `autoopt cluster up` starts one, and docs/cluster.md "
            "has the plain `ray start` line"
        )
        raise JobError(message)
    return {kind: _the_same(kind, seen) for kind, seen in sorted(kinds.items())}


def _answer(node: dict[str, Any], asked: Any, limit_s: float) -> Seen | None:
    """None from a node that has died since, which Ray notices late."""
    try:
        hardware, offers = ray.get(asked, timeout=limit_s)
    except (ray.exceptions.GetTimeoutError, ray.exceptions.RayError) as error:
        if not any(each["NodeID"] == node["NodeID"] and each["Alive"] for each in ray.nodes()):
            return None
        message = (
            f"the node {node['NodeManagerAddress']} did not say what it offers: {type(error).__name__}: {error}. "
            "`autoopt doctor` examines every node"
        )
        raise JobError(message) from error
    return Seen(from_json(Hardware, hardware), {name: from_json(Offer, offer) for name, offer in offers.items()})


def _the_same(kind: str, seen: list[Seen]) -> Seen:
    """The one that stands for all: always the same, whatever the order in which they came."""
    chosen = min(seen, key=lambda each: canonical_json(to_json(each.hardware)))
    for other in seen:
        differences = (
            *chosen.hardware.environment.unlike(other.hardware.environment),
            *_unlike_slots(chosen.hardware, other.hardware),
        )
        if differences:
            message = (
                f'two nodes call themselves "{kind}" and differ ({"; ".join(differences)}), so that their figures cannot be '
                "compared. Give them names of their own: `autoopt cluster up --hardware NAME`"
            )
            raise JobError(message)
    return Seen(chosen.hardware, {name: _everywhere(name, seen) for name in chosen.offers})


def _everywhere(name: str, seen: list[Seen]) -> Offer:
    """What an engine offers on all of them: the offer of one that has it only where every one has it."""
    offers = [each.offers[name] for each in seen if name in each.offers]
    return next((offer for offer in offers if not offer.available), offers[0])


def _unlike_slots(one: Hardware, other: Hardware) -> list[str]:
    pairs = (
        ("cores of the lane", one.lane, other.lane),
        ("cores beside it", one.work, other.work),
        ("slots", dict(one.slots), dict(other.slots)),
    )
    return [f"{name}: {mine} here, {theirs} there" for name, mine, theirs in pairs if mine != theirs]


def merged(seen: Mapping[str, Seen]) -> dict[str, Offer]:
    """What each engine offers in the whole cluster: every device of every kind of node, as candidates name them."""
    found: dict[str, Offer] = {}
    for name in {name: None for each in seen.values() for name in each.offers}:
        offers = {kind: each.offers[name] for kind, each in seen.items() if name in each.offers}
        best = next((offer for offer in offers.values() if offer.available), next(iter(offers.values())))
        precisions = {
            named(kind, device): executed
            for kind, offer in offers.items()
            if offer.available
            for device, executed in offer.precisions.items()
        }
        found[name] = replace(best, precisions=precisions, slow_build=any(o.slow_build for o in offers.values()))
    return found


def require_hardware(
    file: SpaceFile, *, wait: bool, waiting: Callable[[str], None], stopped: Callable[[], bool]
) -> bool:
    """See that every hardware which the space names is there; False where the waiting for it was ended.

    Args:
        file: the space.
        wait: whether to wait for what is not.
        waiting: told what is waited for.
        stopped: ends the waiting.

    Raises:
        SpaceError: it is not, and nobody asked to wait.
    """
    while missing := missing_kinds(file, kinds := alive_kinds()):
        if not wait:
            raise SpaceError(no_such_hardware(file.name, missing, kinds))
        waiting(", ".join(missing))
        if stopped():
            return False
        time.sleep(_LOOK_AGAIN_S)
    return True
