"""How much of the time are slots busy, when stages take a second and cost nothing? What is missing is the controller's doing.

A job of simulated trainings (see `simulated`) on a cluster of two nodes with a core each: one measures and drives the job, one trains, with
1, 8 or 32 trainer slots. Each candidate trains in eight rungs of a second, each a stage of its own that asks the training desk, and before and after
that it is made, probed, built and measured, as any candidate is; those stages do nothing, in slots of their own. The engine is the null engine.

The busy share is the stages' time in trainer slots, from the moment at which a stage's work begins to its end as the job's
``stages.jsonl`` has them, over slots × window. The window begins five seconds after all slots were busy for the first time (or a minute
after the job began, where they never are) and lasts as long as asked; then the job is cancelled. So neither starting nor ending is in it. ``useful`` counts a second for each
stage, and leaves out what starting a process and keeping its result cost within the slot: on a machine whose cores are
busy otherwise this is the first to suffer. ``wanted`` is how many processes wanted a core in the last minute.

    python benchmarks/service/overhead.py --slots 1 8 32 --window 45

Takes about two minutes for each. The last line is one JSON object with the figures and the targets.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from service import HERE, JobHere, Service, StageTime, figure, load, service, told, wait_for

TARGETS = {8: 0.95, 32: 0.90}
TRAINING = "rehearsal"
SETTLED_S, FULL_LIMIT_S = 5.0, 60.0


def busy_s(stages: Sequence[StageTime], since: float, until: float) -> float:
    """Seconds of the stages that lie within the window."""
    return sum(max(0.0, min(stage.ended, until) - max(stage.began, since)) for stage in stages)


def at_once(stages: Sequence[StageTime]) -> int:
    """The most that ran at a time."""
    changes = sorted([(stage.began, 1) for stage in stages] + [(stage.ended, -1) for stage in stages])
    most = running = 0
    for _, change in changes:
        running += change
        most = max(most, running)
    return most


def trainings(job: JobHere) -> list[StageTime]:
    """The stages that held a trainer."""
    return [stage for stage in job.stages() if stage.name == TRAINING]


def measured(cluster: Service, slots: int, stage_s: float, window_s: float) -> dict[str, Any]:
    """One setting's figures."""
    space = cluster.root / "training.yaml"
    space.write_text((HERE / "training.yaml").read_text().replace("1000.0", str(1000 * stage_s)))
    job = cluster.submit(f"slots-{slots}", space, "1000000 candidates")
    began = time.time()
    with contextlib.suppress(SystemExit):  # a machine that cannot keep them all busy never has them all busy at once
        wait_for(lambda: at_once(trainings(job)) >= slots, "all trainings at once", FULL_LIMIT_S, every_s=1.0)
    full_after_s = time.time() - began
    time.sleep(SETTLED_S)
    since, used, decided = time.time(), cluster.processor_s(), job.decided()
    time.sleep(window_s)
    until, used_then, decided_then = time.time(), cluster.processor_s(), job.decided()
    # A stage is told when it has ended: those that the window's end cut through come a little later.
    time.sleep(2 * stage_s + 1)
    stages = trainings(job)
    every = [stage for stage in job.stages() if since <= stage.ended < until]
    wanted = load()
    cluster.cancel(job)
    candidates = decided_then - decided
    ended = [stage for stage in stages if since <= stage.ended < until]
    window = until - since
    costs = {name: used_then[name] - used.get(name, 0.0) for name in sorted(used_then)}
    return {
        "slots": slots,
        "stage_s": stage_s,
        "busy": round(busy_s(stages, since, until) / (slots * window), 4),
        "useful": round(len(ended) * stage_s / (slots * window), 4),
        "window_s": round(window, 1),
        "candidates": candidates,
        "training_stages": len(ended),
        "all_stages": len(every),
        "idle_slot_s_per_candidate": round((slots * window - busy_s(stages, since, until)) / max(1, candidates), 3),
        "processor_s_per_candidate": {name: round(cost / max(1, candidates), 3) for name, cost in costs.items()},
        "processor_s_per_stage": round(sum(costs.values()) / max(1, len(every)), 4),
        "most_at_once": at_once(stages),
        "full_after_s": round(full_after_s, 1),
        "wanted": wanted,
    }


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 8, 32], help="trainer slots (default: 1 8 32)")
    parser.add_argument("--stage", type=float, default=1.0, help="seconds of each training stage (default: 1)")
    parser.add_argument("--window", type=float, default=45.0, help="seconds of each measurement (default: 45)")
    parser.add_argument("--keep", type=Path, help="copy the jobs' logs there")
    options = parser.parse_args()
    found = []
    for slots in options.slots:
        told(f"{slots} slots …")
        # The lane's core is free for the other node: nothing is measured in earnest.
        trains = ["--no-lane", "--cores", "0", "--share-cores", "--trainers", str(slots)]
        with service(["--trainers", "0"], trains) as cluster:
            found.append(measured(cluster, slots, options.stage, options.window))
            told(json.dumps(found[-1]))
            if options.keep:
                keep(cluster, slots, options.keep)
    targets = {
        f"busy at {each['slots']} slots, stages of {options.stage:g} s": figure(each["busy"], TARGETS[each["slots"]])
        for each in found
        if each["slots"] in TARGETS
    }
    print(json.dumps({"figures": found, "targets": targets}))


def keep(cluster: Service, slots: int, folder: Path) -> None:
    """Copy what the job has printed."""
    import shutil

    shutil.copytree(cluster.store / "jobs" / f"slots-{slots}", folder / f"slots-{slots}", dirs_exist_ok=True)


if __name__ == "__main__":
    main()
