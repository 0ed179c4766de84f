"""From a task to a report, a front and a bundle that runs; and the same again on a warm store."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

Shell = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def job(shell: Shell, folder: Path, task: str, spaces: Path) -> Path:
    ended = shell("run", task, "--space", spaces / "tiny.yaml", "--budget", "6 candidates", "--name", "first")
    assert ended.returncode == 0, ended.stderr
    return folder / "results" / "first"


def timeline(job: Path) -> list[dict[str, Any]]:
    path = job / "logs" / "stages.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_the_job_decides_as_many_candidates_as_its_budget_says(job: Path) -> None:
    state = json.loads((job / "state.json").read_text())
    progress = state["progress"]
    assert state["status"] == "done"
    assert progress["measured"] + progress["eliminated"] + progress["failed"] == 6
    assert progress["measured"] >= 3, "the reference and two more; whatever they beat is eliminated"


def test_every_candidate_is_in_the_table_and_the_front_is_confirmed_on_test_data(job: Path) -> None:
    candidates = pd.read_parquet(job / "candidates.parquet")
    assert len(candidates) == 6
    front = pd.read_csv(job / "front.csv")
    assert len(front) >= 1
    assert set(front["split"]) == {"test"}
    assert (front["speedup_low"] <= front["speedup"]).all()


def test_the_job_has_one_reference_latency_by_which_all_others_are_told(job: Path) -> None:
    confirmed = json.loads((job / "confirmed.json").read_text())
    number_0 = pd.read_parquet(job / "candidates.parquet").set_index("number").loc[0]
    own = confirmed.pop(number_0["id"])["latency_ms"]["value"]
    assert confirmed
    for measured in confirmed.values():
        assert measured["latency_ms"]["value"] * measured["speedup"]["value"] == pytest.approx(own)


def test_the_recommended_config_is_faster_than_eager_at_little_loss(job: Path) -> None:
    told = json.loads((job / "bundle" / "bundle.json").read_text())
    assert told["test"]["speedup"]["low"] > 1
    assert told["test"]["score_drop"]["value"] <= 0.01


def test_the_bundle_keeps_its_promise_in_a_fresh_process(job: Path, shell: Shell) -> None:
    ended = shell("verify", job / "bundle", "--json")
    told = json.loads(ended.stdout)
    # Speed is promised for a quiet machine, which a test cannot ask for; outputs are promised always.
    assert told["examination"]["comparison"]["agreement"] == 1.0, ended.stdout
    assert "outputs differ" not in told["summary"]


def test_candidates_share_their_coordinating_processes(job: Path) -> None:
    results = [json.loads(path.read_text()) for path in (job / "tune").glob("*/result.json")]
    assert len(results) >= 6
    assert len({result["pid"] for result in results}) < len(results)


def test_the_report_names_every_config(job: Path) -> None:
    report = (job / "report.html").read_text()
    candidates = pd.read_parquet(job / "candidates.parquet")
    for identifier in candidates[candidates["outcome"] == "measured"]["id"]:
        assert identifier in report


def test_the_same_job_again_computes_nothing_anew(job: Path, shell: Shell, task: str, spaces: Path) -> None:
    ended = shell("run", task, "--space", spaces / "tiny.yaml", "--budget", "6 candidates", "--name", "second")
    assert ended.returncode == 0, ended.stderr
    assert timeline(job.parent / "second") == []
    first, second = (pd.read_parquet(job.parent / name / "candidates.parquet") for name in ("first", "second"))
    assert set(first["id"]) == set(second["id"])
    measured = (second["outcome"] == "measured").sum()
    trials = list((job.parent / "second" / "tune").glob("**/candidate-*"))
    assert len(trials) == len(second) - measured, "for what had been measured nobody was asked"


def test_a_job_that_was_killed_while_it_confirmed_goes_on_with_the_rest(
    job: Path, shell: Shell, tmp_path: Path
) -> None:
    again = tmp_path / "results" / job.name
    shutil.copytree(job, again)
    confirmed = json.loads((again / "confirmed.json").read_text())
    (again / "confirmed.json").write_text(json.dumps(dict(list(confirmed.items())[:2])))
    state = json.loads((again / "state.json").read_text())
    (again / "state.json").write_text(json.dumps(state | {"status": "interrupted"}))
    resumed = shell("resume", again)
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads((again / "confirmed.json").read_text()) == confirmed
    assert (again / "front.csv").read_text() == (job / "front.csv").read_text()


def test_a_name_that_is_taken_says_how_to_go_on(job: Path, shell: Shell, task: str) -> None:
    ended = shell("run", task, "--name", job.name)
    assert ended.returncode == 2
    assert "autoopt resume" in ended.stderr
    assert "Traceback" not in ended.stderr
