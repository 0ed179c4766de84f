"""Which engine, precision and fusion level serve two networks soonest, on an NVIDIA GPU and on one core of the processor?

    python benchmarks/gpu/gpu.py [--budget 3m30s] [--hardware cuda --hardware cpu] [--direct]

Ten minutes at most. Runs a search for each network over the engines that there are; without the search's packages (Ray, Optuna) the same
deployments are built and measured one after the other. The last line is one JSON object; without a GPU it is ``{"skipped": reason}``, and
the exit status is 0.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autoopt.records import nvidia

HERE = Path(__file__).parent
NETWORKS = ("convolutions", "attention")
SEARCH_NEEDS = ("ray", "optuna", "pydantic", "yaml", "pandas")


def main() -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", default="3m30s", help="of each network's search (default: %(default)s)")
    parser.add_argument("--hardware", action="append", choices=("cuda", "cpu"), help="default: both")
    parser.add_argument("--direct", action="store_true", help="without the search")
    options = parser.parse_args()
    hardware = options.hardware or ["cuda", "cpu"]
    gpu = nvidia.gpu()
    if gpu is None and "cuda" in hardware:
        print(json.dumps({"skipped": "there is no NVIDIA GPU that a driver tells of (NVML)"}))
        return
    missing = [name for name in SEARCH_NEEDS if importlib.util.find_spec(name) is None]
    how = "direct" if missing or options.direct else "search"
    found: dict[str, Any] = {"gpu": asdict(gpu) if gpu else None, "how": how}
    with tempfile.TemporaryDirectory(prefix="autoopt-gpu-") as folder:
        if how == "search":
            found |= {name: searched(name, hardware, options.budget, Path(folder)) for name in NETWORKS}
        else:
            print(f"without the search (missing: {', '.join(missing) or 'nothing'})", file=sys.stderr)
            import direct

            found |= direct.measured(NETWORKS, hardware, Path(folder))
    print(json.dumps(found))


def searched(name: str, hardware: list[str], budget: str, folder: Path) -> dict[str, Any]:
    """By the search: what is on the front, and how many candidates came to which end."""
    import autoopt

    space = folder / "space.yaml"
    space.write_text((HERE / "space.yaml").read_text().replace("[cuda, cpu]", f"[{', '.join(hardware)}]"))
    result = autoopt.search(f"{HERE / name}.py:task", space, budget, name=name, results=folder, store=folder / "store")
    progress = result.progress
    found = {"decided": progress.decided, "measured": progress.measured, "failed": progress.failed}
    if result.front is None:
        return found | {"ended": result.message}
    configs = [
        {
            "served": config.candidate.describe(),
            "hardware": config.candidate.deployment.hardware,
            "speedup": [round(value, 2) for value in asdict(config.judged.speedup).values()],
            "latency_ms": round(config.judged.latency_ms.value, 4),
            "agreement": round(config.judged.agreement, 4),
            "told": dict(config.judged.effective.details),
            "remarks": list(config.judged.remarks),
        }
        for config in result.front
    ]
    return found | {
        "front": configs,
        "recommended": result.front.pick(max_accuracy_drop=0.01).config.candidate.describe(),
    }


if __name__ == "__main__":
    main()
