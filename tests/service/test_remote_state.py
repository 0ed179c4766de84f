"""A job whose store is a bucket and whose study is a database: no folder is shared, and both need a password."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

import autoopt
from autoopt.testing.postgres import PostgresServer
from autoopt.testing.s3 import SECRET, S3Server
from autoopt.testing.service import Service

# A cluster's job at length; stores, studies and the service are tested each by themselves.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def away(service: Service, s3_server: S3Server, postgres: PostgresServer) -> Service:
    """A client that knows the passwords; the cluster does not."""
    variables = {"AUTOOPT_STORE": s3_server.url(s3_server.bucket()), "AUTOOPT_STUDY": postgres.new_database()}
    return service.with_variables(**variables)


@pytest.fixture(scope="module")
def done(away: Service, space: Path, digits: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A job for hardware that the driver's own node is not, watched to its end."""
    edge = tmp_path_factory.mktemp("space") / "edge.yaml"
    edge.write_text(space.read_text().replace("[cpu, edge]", "edge").replace("onnxruntime", "openvino"))
    told = away.told(
        "submit", digits, "--space", edge, "--budget", "3 candidates", "--name", "away", "--address", away.address
    )
    watched = away.shell("watch", "away", "--address", away.address, "--json", timeout_s=280)
    assert watched.returncode == 0, watched.stderr + away.shell("logs", "away", "--address", away.address).stdout
    return [told, away.told("status", "away", "--address", away.address)]


def test_it_runs_to_its_end_and_its_results_are_fetched_from_the_bucket(away: Service, done: Any) -> None:
    assert done[1]["state"]["status"] == "done"
    assert done[1]["spec"]["store"].startswith("s3://testing:***@bucket")
    assert away.told("pick", "away", "--address", away.address)["met"]
    report = Path(away.told("report", "away", "--address", away.address)["report"])
    assert "<html" in report.read_text()
    keys = Counter(json.loads(line)["key"] for line in stages(away, done))
    assert keys
    assert max(keys.values()) == 1, "no stage is computed twice"


def test_the_bundle_was_made_where_its_config_was_measured_and_runs_here(away: Service, done: Any) -> None:
    assert done[1]["state"]["status"] == "done"
    result = away.told("report", "away", "--address", away.address)
    with autoopt.load(Path(result["report"]).parent / "bundle") as model:
        assert model.manifest.deployment.hardware == "edge"
        assert model.deployment.hardware == "cpu", "of this machine"
        assert model(np.zeros((3, 1, 8, 8), np.float32)).shape == (3, 10)
    asked = away.place.ask(away.address, "/api/v0/tasks?detail=1&limit=1000")["data"]["result"]["result"]
    recorded = [task for task in asked if task["name"] == "record outputs"]
    assert [task["state"] for task in recorded] == ["FINISHED"] * len(recorded) != []
    edge = away.told("cluster", "status", "--address", away.address)["nodes"]
    assert {task["node_id"] for task in recorded} == {node["id"] for node in edge if node["kind"] == "edge"}


def stages(away: Service, done: Any) -> list[str]:
    from autoopt.workers.store import open_store

    assert done
    content = open_store(away.environment["AUTOOPT_STORE"]).files.read("jobs/away/logs/stages.jsonl")
    assert content is not None
    return content.decode().splitlines()


def test_no_node_file_or_answer_holds_a_password(away: Service, done: Any, postgres: PostgresServer) -> None:
    assert done[1]["state"]["status"] == "done"
    secrets = [SECRET, quote(SECRET, safe=""), postgres.password]
    sought = [word for secret in secrets for word in ("-e", secret)]
    folders = [away.place.clusters, away.place.home, away.folder, Path("/tmp/autoopt-0-code")]
    left = subprocess.run(
        ["grep", "-rlaF", *sought, *(str(folder) for folder in folders if folder.exists())],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert left.stdout == ""
    answers = ("/api/jobs/", "/api/v0/tasks?detail=1", "/api/v0/actors?detail=1", "/api/v0/runtime_envs?detail=1")
    told = json.dumps([done, *(away.place.ask(away.address, path) for path in answers)])
    assert not [secret for secret in secrets if secret in told]
    unpacked = list(away.place.clusters.rglob("_ray_pkg_*"))
    assert unpacked, "or this test looks in the wrong place"
    assert not [path for folder in unpacked for path in folder.rglob("request.json")]
