"""`optuna-dashboard` opens a study as it is: a process of its own, asked over HTTP."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest

from autoopt.errors import FailureKind
from autoopt.records import Candidate, Eliminated, Failed, Measured
from autoopt.search.storage import begin_study, open_storage, study_name
from autoopt.search.study import CandidateStudy, Proposal
from autoopt.search.study_url import parse_study
from autoopt.space import Space
from autoopt.testing.postgres import PostgresServer

START_S = 60.0
Outcomes = Callable[[Candidate, float, float], Measured]


@contextmanager
def dashboard(url: str, password: str, log: Path) -> Iterator[str]:
    """Its address. The password in the environment: the process list shows command lines."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).with_name("optuna-dashboard")), "--port", str(port), "--quiet", url]
    with (
        log.open("w") as out,
        subprocess.Popen(command, env=os.environ | {"PGPASSWORD": password}, stdout=out, stderr=out) as process,
    ):
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def answer(address: str, log: Path) -> Any:
    """What it says, as soon as it is there."""
    ends = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(address, timeout=START_S) as response:
                return json.load(response)
        except URLError:
            if time.monotonic() > ends:
                pytest.fail(log.read_text())
            time.sleep(0.2)


def test_the_dashboard_shows_a_jobs_candidates_with_their_figures(
    space: Space,
    reference: Candidate,
    outcome: Outcomes,
    postgres: PostgresServer,
    database: str,
    tmp_path: Path,
) -> None:
    place, log = parse_study(database), tmp_path / "log"
    begin_study(place, "my-job")
    study = CandidateStudy(open_storage(place, tmp_path), space, name=study_name(place, "my-job"), sampler="random")
    study.enqueue([Proposal(reference, "reference")])
    endings = [outcome(reference, 0.92, 2.0), Eliminated("latency", "slow"), Failed("build", FailureKind.CRASHED, "x")]
    for ending in endings:
        asked = study.ask()
        assert asked is not None
        study.tell(asked.number, ending)
    study.ask()
    with dashboard(place.without_password.full, postgres.password, log) as address:
        (summary,) = answer(f"{address}/api/studies", log)["study_summaries"]
        assert summary["study_name"] == "autoopt/my-job"
        shown = answer(f"{address}/api/studies/{summary['study_id']}?after=0", log)
        with urllib.request.urlopen(f"{address}/dashboard", timeout=START_S) as page:
            assert "<title>Optuna Dashboard</title>" in page.read().decode()
    trials = shown["trials"]
    assert [trial["state"] for trial in trials] == ["Complete", "Pruned", "Pruned", "Running"]
    assert trials[0]["values"] == [0.92, 2.0]
    assert {parameter["name"] for parameter in trials[0]["params"]} >= {"engine"}
    attributes = {each["key"]: each["value"] for each in trials[1]["user_attrs"]}
    assert json.loads(attributes["outcome"])["rung"] == "latency"
