"""Stopping leaves nothing behind, whatever was killed before, and stops nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from autoopt.cluster import down, started
from autoopt.cluster.look import boot
from autoopt.cluster.nodes import nodes
from autoopt.cluster.processes import processes_of
from autoopt.testing.clusters import Place, TwoNodes

# A job whose stage works in a process of its own, below the node's warmed parent; told to end, it says so.
PROGRAM = """
import pathlib, signal, sys, time
import ray

def ended(number, frame):
    pathlib.Path("{place}/ended").write_text("in good order")
    sys.exit(0)

ray.init(address="auto", log_to_driver=False)

@ray.remote(num_cpus=0, max_retries=0, resources={{"trainer": 1}}, label_selector={{"hardware": "{kind}"}})
def stage():
    from autoopt.workers import process
    from autoopt.workers.node import Node
    from autoopt.workers.process import Limits, Preload
    process.share(Node.here().meeting_of("node"))
    process.call("time:sleep", 600, Limits(timeout_s=600), Preload(("json",), ()), pathlib.Path("{place}/stage.log"))

running = stage.remote()
signal.signal(signal.SIGTERM, ended)
while True:
    time.sleep(1)
"""


def work(place: Place, address: str, folder: Path, kind: str) -> str:
    """Let a node of that kind work; the job's id."""
    (folder / "job.py").write_text(PROGRAM.format(place=folder, kind=kind))
    return str(place.ask(address, "/api/jobs/", {"entrypoint": f"python {folder / 'job.py'}"})["submission_id"])


def family(node: dict[str, Any]) -> list[str]:
    """Whatever lives of a node, found otherwise than `down` finds it: by files that are open below its folder, or named."""
    listed = subprocess.run(["ps", "-eo", "pid=,sid=,args="], capture_output=True, text=True, check=True).stdout
    found = []
    for line in listed.splitlines():
        if "<defunct>" in line:
            continue  # it has ended; its parent has not heard of it
        pid, sid, arguments = line.split(None, 2)
        if node["folder"] in arguments or int(sid) == node["session"] or _opens(int(pid), node["folder"]):
            found.append(line)
    return found


def _opens(pid: int, folder: str) -> bool:
    try:
        links = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
        return (
            any(link.startswith(folder) for link in links)
            or folder.encode() in Path(f"/proc/{pid}/environ").read_bytes()
        )
    except OSError:
        return False


def test_a_node_whose_parts_were_killed_leaves_nothing_and_the_others_stay(
    client: TwoNodes, wait: Callable[..., Any], tmp_path: Path
) -> None:
    node = client.place.up("--join", client.head["address"], "--hardware", "doomed", "--no-lane", "--share-cores")
    job = work(client.place, client.address, tmp_path, "doomed")
    wait(lambda: [line for line in family(node) if "zygote" in line])
    for process in psutil.process_iter():
        # All of Ray's; the stage's processes are in sessions of their own.
        if os.getsid(process.pid) == node["session"]:
            process.kill()
    done = client.place.run("cluster", "down", "--node", node["id"])
    assert done.returncode == 0, done.stderr
    assert family(node) == []
    assert not Path(node["folder"]).exists()
    assert {path.stem for path in client.place.records()} == {client.head["id"], client.edge["id"]}
    assert all(family(other) for other in (client.head, client.edge))
    client.ask(f"/api/jobs/{job}/stop", {})
    wait(lambda: client.ask(f"/api/jobs/{job}")["status"] == "STOPPED")


def test_jobs_end_in_good_order_then_everything_does_and_nothing_else(
    client: TwoNodes, place: Place, wait: Callable[..., Any], tmp_path: Path
) -> None:
    shutil.copy(
        client.place.clusters / "look.json", place.clusters
    )  # the same machine: its engines need no second look
    head = place.head("--no-lane", "--hardware", "own")
    work(place, head["dashboard"], tmp_path, "own")
    wait(lambda: [line for line in family(head) if "zygote" in line])
    begun = time.monotonic()
    done = place.run("cluster", "down")
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - begun < 40
    assert (tmp_path / "ended").read_text() == "in good order"
    assert family(head) == []
    assert place.records() == []
    assert {path.name for path in place.clusters.iterdir()} == {"nodes", "logs", "look.json"}
    assert (place.clusters / "logs" / head["id"] / "gcs_server.out").exists()
    # Ray takes its time to miss the node that was killed before.
    wait(lambda: {node.kind for node in nodes(client.address) if node.alive} == {"default", "edge"})
    assert place.run("cluster", "down").stdout == "nothing was started here\n"


def test_the_printed_command_starts_the_same_node(client: TwoNodes, wait: Callable[..., Any]) -> None:
    printed = client.place.run(
        "cluster", "up", "--print", "--join", client.head["address"], "--hardware", "printed", "--no-lane"
    )
    assert printed.returncode == 0, printed.stderr
    assert len(client.place.records()) == 2, "nothing is started"
    folder = Path(re.findall(r"--temp-dir (\S+)", printed.stdout)[0])
    record = started.Started(
        id=folder.name,
        kind="printed",
        head=False,
        address=client.head["address"],
        host="127.0.0.1",
        lane=(),
        work=(),
        folder=str(folder),
        boot=boot(),
    )
    try:
        run = subprocess.run(
            ["bash", "-ec", printed.stdout], env=client.place.environment, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stdout + run.stderr
        node = wait(lambda: next((node for node in nodes(client.address) if node.kind == "printed"), None))
        assert node.name == folder.name
        assert node.lane is None
        assert "trainer" in node.slots
        assert processes_of(record)
    finally:
        down.end(record, client.place.clusters)
    assert processes_of(record) == []
