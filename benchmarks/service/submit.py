"""How long after ``autoopt submit`` does the first candidate start, on a cluster that has run a job before?

Real engines, the digits example, a store of its own for each job, so that nothing has been computed before. A candidate has
started when the first stage of any (the original is the first) begins, as the job's ``stages.jsonl`` has it; the time counts from
the start of the command, so the shell's own start, the upload, the driver's imports and the look at the nodes are in it. Each job is
cancelled when that has been seen. The first job meets a cold cluster, and is told apart.

    python benchmarks/service/submit.py --rounds 5

Takes about three minutes. The last line is one JSON object with the figures and the target.
"""

from __future__ import annotations

import argparse
import json
import time
from statistics import median
from typing import Any

from service import HERE, Service, figure, load, service, told, wait_for

TARGET_S = 10.0
LIMIT_S = 120.0
TASK = f"{HERE.parents[1] / 'examples' / 'digits' / 'task.py'}:task"


def timed(cluster: Service, number: int) -> dict[str, Any]:
    """A job, from its command to its first stage."""
    begun = time.time()
    job = cluster.submit(f"submit-{number}", "quick", "50 candidates", TASK, store=cluster.root / f"store-{number}")
    submitted_s = time.time() - begun
    wait_for(lambda: bool(job.stages()), "the first stage", LIMIT_S, every_s=0.1)
    first = min(job.stages(), key=lambda stage: stage.began)
    wanted = load()
    cluster.cancel(job)
    return {
        "warm": number > 0,
        "first_stage": f"{first.kind} {first.name}",
        "submitted_s": round(submitted_s, 2),
        "first_candidate_s": round(first.began - begun, 2),
        "wanted": wanted,
    }


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="jobs on the warm cluster (default: 5)")
    options = parser.parse_args()
    with service([], simulated=False) as cluster:
        found = []
        for number in range(options.rounds + 1):
            found.append(timed(cluster, number))
            told(json.dumps(found[-1]))
    warm = [each["first_candidate_s"] for each in found if each["warm"]]
    targets = {"seconds to the first candidate, warm": figure(median(warm), TARGET_S, at_least=False)}
    print(json.dumps({"figures": found, "targets": targets}))


if __name__ == "__main__":
    main()
