"""Is a job twice as fast on two nodes as on one?

A job of independent trainings, each one stage that takes its time and no processor (see `simulated`): one node measures and drives
the job, and one or two others train, with four trainer slots each. Timed is what the job is for: from the moment at which the first
training begins to the end of the last, as the job's ``stages.jsonl`` has them. The two are run in turn, each in a cluster of its own.

    python benchmarks/service/nodes.py --rounds 2

Takes twenty minutes. The last line is one JSON object with the figures and the target.
"""

from __future__ import annotations

import argparse
import json
from statistics import median
from typing import Any

from service import HERE, figure, load, service, told, wait_for

TARGET = 1.9
SLOTS = 4
LIMIT_S = 600.0
TRAINING = "rehearsal"


def timed(nodes: int, candidates: int, seconds: float, number: int) -> dict[str, Any]:
    """A job on so many nodes that train."""
    trainers = [
        ["--no-lane", "--cores", "0", "--share-cores", "--trainers", str(SLOTS), "--hardware", "trainer"]
    ] * nodes
    with service(["--trainers", "0"], *trainers) as cluster:
        space = cluster.root / "independent.yaml"
        text = (HERE / "independent.yaml").read_text()
        space.write_text(text.replace("seconds_per_epoch: 1000.0", f"seconds_per_epoch: {1000 * seconds}"))
        job = cluster.submit(f"nodes-{nodes}-{number}", space, f"{candidates} candidates")
        wait_for(job.ended, "the job's end", LIMIT_S, every_s=1.0)
        wanted = load()
        stages = [stage for stage in job.stages() if stage.name == TRAINING]
        state = job.state()
    took_s = max(stage.ended for stage in stages) - min(stage.began for stage in stages)
    return {
        "nodes": nodes,
        "status": state["status"],
        "trainings": len(stages),
        "seconds": round(took_s, 2),
        "per_minute": round(60 * len(stages) / took_s, 1),
        "at_best_s": round(sum(stage.seconds for stage in stages) / (SLOTS * nodes), 2),
        "wanted": wanted,
    }


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=2, help="how often each is run (default: 2)")
    parser.add_argument(
        "--candidates", type=int, default=49, help="of each job, the reference among them (default: 49)"
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="of each training (default: 30)")
    options = parser.parse_args()
    found = []
    for number in range(options.rounds):
        for nodes in (1, 2):
            told(f"round {number + 1}, {nodes} of 2 nodes …")
            found.append(timed(nodes, options.candidates, options.seconds, number))
            told(json.dumps(found[-1]))
    per_training = {
        nodes: median(each["seconds"] / each["trainings"] for each in found if each["nodes"] == nodes)
        for nodes in (1, 2)
    }
    faster = round(per_training[1] / per_training[2], 3)
    print(json.dumps({"figures": found, "targets": {"two nodes against one": figure(faster, TARGET)}}))


if __name__ == "__main__":
    main()
