"""Jobs on a real cluster: sent, watched, compared, cancelled and resumed from a folder that shares nothing with it but the store."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from autoopt.testing.service import Service


@pytest.fixture(scope="module")
def done(service: Service, space: Path, digits: str) -> Any:
    """A job on both kinds of hardware, to its end."""
    sent = service.told(
        "submit", digits, "--space", space, "--budget", "4 candidates", "--name", "both", "--address", service.address
    )
    assert sent["status"] in {"submitted", "running"}, "submitting returns at once"
    watched = service.shell("watch", "both", "--address", service.address, "--json", timeout_s=280)
    assert watched.returncode == 0, watched.stderr + "".join(
        service.shell("logs", "both", "--address", service.address).stdout
    )
    return service.told("status", "both", "--address", service.address)


def test_a_job_runs_on_the_cluster_to_its_end(done: Any) -> None:
    assert done["state"]["status"] == "done"
    progress = done["state"]["progress"]
    assert progress["measured"] >= 2
    assert progress["measured"] + progress["eliminated"] == 3
    assert done["spec"]["address"] == done["address"]


def test_each_hardware_is_measured_where_it_is(service: Service, done: Any) -> None:
    assert done["state"]["status"] == "done"
    table = pd.read_csv(service.store / "jobs/both/front.csv")
    candidates = pd.read_parquet(service.store / "jobs/both/candidates.parquet")
    # The nodes are as fast as each other: whichever is tried later may be given up after a probe, by a hair.
    assert set(candidates["hardware"]) == {"cpu", "edge"}
    assert set(candidates["outcome"]) <= {"measured", "eliminated"}
    measured = candidates[candidates["outcome"] == "measured"]
    assert len(table) >= 1
    kinds = Counter((run["kind"], run["name"]) for run in service.lines("both"))
    # One more than candidates: what the edge's are timed in turn with is nobody's candidate.
    assert kinds["measure", "validation"] == len(measured) + 1, "each on its own hardware, none twice"


def test_no_stage_is_computed_twice(service: Service, done: Any) -> None:
    assert done["state"]["status"] == "done"
    assert max(Counter(run["key"] for run in service.lines("both")).values()) == 1


def test_the_front_and_the_report_are_fetched_and_a_config_is_exported(
    service: Service, done: Any, tmp_path: Path
) -> None:
    assert done["state"]["status"] == "done"
    picked = service.told("pick", "both", "--address", service.address, "--max-accuracy-drop", "0.05")
    assert picked["met"] is True
    report = Path(service.told("report", "both", "--address", service.address)["report"])
    assert report.is_relative_to(service.folder / "results" / "both")
    assert "<html" in report.read_text()
    bundle = tmp_path / "bundle"
    service.told("export", "both", "--address", service.address, "-o", bundle)
    assert (bundle / "bundle.json").exists()


def test_the_log_is_shown_from_anywhere(service: Service, done: Any) -> None:
    assert done["state"]["status"] == "done"
    lines = service.shell("logs", "both", "--address", service.address).stdout
    assert "autoopt.jobs.drive" in lines
    followed = service.shell("logs", "both", "--follow", "--address", service.address)
    assert followed.returncode == 0


def test_jobs_are_listed(service: Service, done: Any) -> None:
    assert done["state"]["status"] == "done"
    assert "both" in [each["job"] for each in service.told("jobs", "--address", service.address)]


def test_a_cancelled_job_ends_soon_leaves_nothing_running_and_goes_on(
    service: Service, space: Path, digits: str, done: Any
) -> None:
    assert done["state"]["status"] == "done"
    service.told(
        "submit", digits, "--space", space, "--budget", "5 candidates", "--seed", "1", "--name", "cut",
        "--store", service.store, "--address", service.address,
    )  # fmt: skip
    wait_for(lambda: service.told("status", "cut", "--address", service.address)["state"]["status"] == "running")
    began = time.monotonic()
    cancelled = service.told("cancel", "cut", "--address", service.address)
    assert time.monotonic() - began < 12, "ten seconds, and the shell's own start"
    assert cancelled["state"]["status"] == "cancelled"
    wait_for(lambda: lanes(service) == [0, 0])
    service.told("resume", "cut", "--address", service.address)
    watched = service.shell("watch", "cut", "--address", service.address, "--json", timeout_s=280)
    assert json.loads(watched.stdout.splitlines()[-1])["state"]["status"] == "done", watched.stderr
    assert set(Counter(run["key"] for run in service.lines("cut")).values()) <= {1}


def lanes(service: Service) -> list[float]:
    found = service.told("cluster", "status", "--address", service.address)
    return [node["slots"]["lane"]["used"] for node in found["nodes"] if node["alive"]]


def wait_for(true: Callable[[], bool], limit_s: float = 100) -> None:
    end = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end
        time.sleep(0.5)
