"""What a client sees of a cluster, and what a job on it finds there."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autoopt.cluster.nodes import JobView, NodeView, jobs, nodes
from autoopt.errors import ClusterError
from autoopt.testing.clusters import TwoNodes

PROGRAM = """
import json, os, sys, time
import ray
from autoopt.workers.node import Node

ray.init(address="auto", log_to_driver=False)

@ray.remote(num_cpus=0, max_retries=0)
def told(until):
    ends = time.monotonic() + 120
    while until and not os.path.exists(until) and time.monotonic() < ends:
        time.sleep(0.1)
    node = Node.here()
    return {"kind": node.kind, "lane": node.cores.lane, "affinity": sorted(os.sched_getaffinity(0)), "nice": os.nice(0),
            "meeting": node.meeting, "python": sys.executable}

edge = told.options(resources={"lane": 1}, label_selector={"hardware": "edge"}).remote(sys.argv[1])
default = told.options(resources={"trainer": 1}, label_selector={"hardware": "default"}).remote("")
print("told: " + json.dumps({"driver": sys.executable, "default": ray.get(default), "edge": ray.get(edge)}))
"""


@pytest.fixture(scope="module")
def lane_user(cluster: TwoNodes, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A job that holds the lane of the kind "edge" until there is a file; its id, and the file."""
    until = tmp_path_factory.mktemp("lane") / "enough"
    order = {"entrypoint": f"python -c '{PROGRAM}' {until}", "metadata": {"job": "a test's"}}
    return str(cluster.ask("/api/jobs/", order)["submission_id"]), until


def by_kind(cluster: TwoNodes) -> dict[str, NodeView]:
    return {node.kind: node for node in nodes(cluster.address) if node.alive}


def test_a_client_sees_each_nodes_kind_processor_engines_and_slots(client: TwoNodes) -> None:
    found = by_kind(client)
    assert set(found) == {"default", "edge"}
    assert [found[kind].head for kind in ("default", "edge")] == [True, False]
    assert found["edge"].name == client.edge["id"]
    for node in found.values():
        assert node.alive
        assert node.engines["onnxruntime"]
        assert node.cpu
        assert node.lane is not None
        assert node.lane.total == 1


def test_a_held_lane_is_shown_and_which_job_runs(
    client: TwoNodes, lane_user: tuple[str, Path], wait: Callable[..., Any]
) -> None:
    job, until = lane_user
    wait(lambda: (lane := by_kind(client)["edge"].lane) is not None and lane.used == 1)
    running: list[JobView] = [job for job in jobs(client.address) if job.runs]
    assert [each.id for each in running] == [job]
    assert running[0].metadata == {"job": "a test's"}
    shown = client.place.run("cluster", "status")
    assert shown.returncode == 0, shown.stderr
    rows = {
        line.split()[1]: line.split()[3] for line in shown.stdout.splitlines() if line.startswith((client.edge["id"],))
    }
    assert rows == {"edge": "held"}
    assert job in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 100
    until.touch()


def test_a_task_finds_its_node_and_ray_is_off_the_lanes_cores(
    client: TwoNodes, lane_user: tuple[str, Path], wait: Callable[..., Any]
) -> None:
    job, until = lane_user
    until.touch()
    ended = wait(lambda: next((each for each in jobs(client.address) if each.id == job and not each.runs), None))
    logs = client.ask(f"/api/jobs/{job}/logs")["logs"]
    assert ended.status == "SUCCEEDED", logs
    told = json.loads(next(line for line in logs.splitlines() if line.startswith("told: ")).removeprefix("told: "))
    assert told["driver"] == sys.executable
    for kind, node in (("default", client.head), ("edge", client.edge)):
        assert told[kind]["kind"] == kind
        assert told[kind]["lane"] == node["lane"]
        assert told[kind]["affinity"] == node["work"]
        assert told[kind]["meeting"].startswith(node["folder"])
        assert told[kind]["nice"] == 0
        assert told[kind]["python"] == sys.executable


def test_status_without_an_address_is_of_the_head_that_was_started_here(cluster: TwoNodes) -> None:
    done = cluster.place.run("cluster", "status", "--json")
    assert json.loads(done.stdout)["address"] == cluster.address


def test_cores_of_a_lane_are_not_given_twice(cluster: TwoNodes) -> None:
    done = cluster.place.run(
        "cluster", "up", "--join", cluster.head["address"], "--cores", str(cluster.edge["lane"][0])
    )
    assert done.returncode == 2
    assert f"core {cluster.edge['lane'][0]} would be shared with the node {cluster.edge['id']}" in done.stderr
    assert len(cluster.place.records()) == 2


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "127.0.0.1:1"])
def test_nobody_answers(address: str) -> None:
    with pytest.raises(ClusterError, match=r"no cluster answers at http://127\.0\.0\.1:1 "):
        nodes(address)
