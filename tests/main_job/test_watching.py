"""A job is watched while it runs: over HTTP as programs do, and in a browser as people do.

One short job for all tests. Whatever is asked of a running job is asked by the fixture; the tests judge the answers.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

import pytest
import yaml
from playwright.sync_api import sync_playwright

from autoopt.records.job import mark as job_mark
from autoopt.search import metrics

ROOT = Path(__file__).parents[2]
CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
TOKEN = Path.home() / ".ray" / "auth_token"
PATIENCE_S, SCRAPED_S = 240.0, 60.0
pytestmark = pytest.mark.timeout(600)
NAME = "watched-digits-job"  # too long to stand in its stages' names itself
SERIES = {
    f"ray_{metrics.CANDIDATES}",
    f"ray_{metrics.HYPERVOLUME}",
    f"ray_{metrics.BEST_LATENCY_MS}",
    f"ray_{metrics.BEST_SPEEDUP}",
    f"ray_{metrics.STAGES}_total",
    f"ray_{metrics.STAGE_SECONDS}_bucket",
    f"ray_{metrics.SLOT_SECONDS}_total",
}
TRAINS = "train student d="

needs_chromium = pytest.mark.skipif(
    not CHROMIUM.exists(), reason=f"NOT TESTED: dashboards in a browser. No {CHROMIUM}: apt-get install chromium"
)
needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None,
    reason="NOT TESTED: a real Prometheus. There is none: apt-get install prometheus",
)


@dataclass
class Watched:
    """What a job said of itself while it ran."""

    folder: Path
    running: set[str] = field(default_factory=set)
    tasks: dict[str, set[str]] = field(default_factory=dict)
    """The states in which each task was seen, by name."""
    metrics: str = ""
    without_token: int = 0
    """The HTTP status."""
    page: str = ""
    """What a browser shows of the job, where there is one."""
    answers: dict[str, list[Any]] = field(default_factory=dict)
    """Prometheus', by query."""

    @property
    def samples(self) -> list[tuple[str, dict[str, str], float]]:
        """Those of the scrape that are ours: name, labels, value."""
        found = re.findall(r"^(ray_autoopt_\w+)\{(.*)\} ([\d.e+-]+)$", self.metrics, re.MULTILINE)
        return [(name, dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(value)) for name, labels, value in found]

    @property
    def exported(self) -> set[str]:
        """The names of the scrape, ours and Ray's."""
        return set(re.findall(r"^(ray_\w+)\{", self.metrics, re.MULTILINE))

    @property
    def missing(self) -> set[str]:
        """What is still to be seen."""
        slots = {labels.get("slot", "") for _, labels, _ in self.samples}
        missing = (SERIES | figures()) - self.exported | {"lane", "trainer"} - slots
        trained = self.running & {name.partition(" · ")[0] for name in self.tasks}
        return missing if any(name.startswith(TRAINS) for name in trained) else missing | {TRAINS}


def get(address: str, token: str = "") -> str:
    asked = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"} if token else {})
    with urllib.request.urlopen(asked, timeout=20) as answer:
        text: str = answer.read().decode()
    return text


def queries() -> list[str]:
    """The dashboard's, for every job, over half a minute."""
    board = json.loads((ROOT / "docs" / "grafana.json").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return [query.replace("$__rate_interval", "30s").replace("$job", ".+") for query in asked]


def figures() -> set[str]:
    """The names of the figures that the dashboard shows."""
    return {name for query in queries() for name in re.findall(r"\bray_\w+", query)}


@contextmanager
def prometheus(folder: Path, dashboard: str) -> Iterator[Callable[[str], list[Any]]]:
    """Run a real one as `docs/watching.md` says, more often and for that dashboard; yields what answers a query."""
    [told] = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "watching.md").read_text(), re.DOTALL)
    settings = yaml.safe_load(told)
    settings["global"] = {"scrape_interval": "2s"}
    [jobs] = settings["scrape_configs"]
    [found] = jobs["http_sd_configs"]
    found["url"] = found["url"].replace("http://127.0.0.1:8265", dashboard)
    found["refresh_interval"] = "2s"
    found["authorization"]["credentials_file"] = str(TOKEN)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    address = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'prometheus'}",
            f"--web.listen-address={address}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def ask(query: str) -> list[Any]:
        answer = json.loads(get(f"http://{address}/api/v1/query?query={urllib.parse.quote(query)}"))
        result: list[Any] = answer["data"]["result"]
        return result

    try:
        yield ask
    finally:
        process.terminate()
        process.wait()


@contextmanager
def optuna_dashboard(journal: Path) -> Iterator[str]:
    """Serve a study's journal; yields the address."""
    port = free_port()
    process = subprocess.Popen(
        [Path(sys.executable).with_name("optuna-dashboard"), journal, "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        ends = time.monotonic() + 30.0
        while True:
            with suppress(URLError):
                get(f"{address}/api/studies")
                break
            assert process.poll() is None
            assert time.monotonic() < ends
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def in_browser(dashboard: str, token: str) -> str:
    """The page of the job, with the table of its stages."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = chromium.new_context(viewport={"width": 1366, "height": 1000})
        context.add_cookies([{"name": "ray-authentication-token", "value": token, "url": dashboard}])
        page = context.new_page()
        page.goto(f"{dashboard}/#/jobs")
        page.get_by_role("link", name="01000000").first.click()
        page.get_by_text("Task Table").click()
        page.get_by_role("combobox", name="Function or Class Name").fill("_run_stage")
        page.get_by_role("option", name="_run_stage").click()
        page.get_by_label("Page Size").fill("100")
        with suppress(Exception):  # the test says what is missing
            page.get_by_text(TRAINS).first.wait_for(timeout=15_000)
        text = page.inner_text("body")
        chromium.close()
    return text


def look(watched: Watched, dashboard: str, token: str) -> None:
    """Ask the dashboard for the stages, and the node for its metrics."""
    chosen = "&filter_keys=func_or_class_name&filter_predicates=%3D&filter_values=_run_stage"
    listed = json.loads(get(f"{dashboard}/api/v0/tasks?limit=1000{chosen}", token))
    for task in listed["data"]["result"]["result"]:
        watched.tasks.setdefault(task["name"], set()).add(task["state"])
    [node] = json.loads(get(f"{dashboard}/nodes?view=summary", token))["data"]["summary"]
    watched.metrics = get(f"http://127.0.0.1:{node['raylet']['metricsExportPort']}/metrics")


@contextmanager
def told_by_watch(folder: Path) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Run ``autoopt watch --json``; yields what gives the progress of every line so far."""
    lines = folder.with_name("watched.jsonl")
    with lines.open("w") as file:
        process = subprocess.Popen([sys.executable, "-m", "autoopt", "watch", str(folder), "--json"], stdout=file)

    def told() -> list[dict[str, Any]]:
        whole = [line for line in lines.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [json.loads(line)["state"]["progress"] for line in whole]

    try:
        yield told
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def watch(job: subprocess.Popen[bytes], folder: Path, scratch: Path) -> Watched:
    """Until everything has been seen; fails where the job ends before."""
    watched = Watched(folder)
    ends = time.monotonic() + PATIENCE_S
    with ExitStack() as stack:
        while not (folder / "state.json").exists():
            assert job.poll() is None
            time.sleep(0.1)
        told = stack.enter_context(told_by_watch(folder))
        dashboard, token, ask = "", "", None
        while watched.missing:
            assert job.poll() is None, f"the job has ended with {job.returncode} before {watched.missing}"
            assert time.monotonic() < ends, f"in vain: {watched.missing}"
            time.sleep(0.5)
            watched.running = {name for progress in told() for name in progress["running"]}
            dashboard = next((progress["dashboard"] for progress in told() if progress["dashboard"]), "")
            if not dashboard:
                continue
            token = token or TOKEN.read_text().strip()
            with suppress(TimeoutError):  # a busy machine: once more
                look(watched, dashboard, token)
            if ask is None and shutil.which("prometheus"):
                ask = stack.enter_context(prometheus(scratch, dashboard))
        watched.without_token = status_of(f"{dashboard}/api/v0/tasks")
        if ask is not None:
            watched.answers = {query: [] for query in queries()}
            ends = time.monotonic() + SCRAPED_S
            while not all(watched.answers.values()) and time.monotonic() < ends:  # the test says what is missing
                time.sleep(1.0)
                watched.answers = {query: ask(query) for query in queries()}
        if CHROMIUM.exists():
            watched.page = in_browser(dashboard, token)
        assert job.poll() is None, "the job has ended too early"
    return watched


def status_of(address: str) -> int:
    try:
        get(address)
    except HTTPError as error:
        return error.code
    return 200


@pytest.fixture(scope="module")
def watched(folder: Path, task: str, spaces: Path) -> Iterator[Watched]:
    command = [sys.executable, "-m", "autoopt", "run", task, "--space", str(spaces / "watched.yaml"), "--name", NAME]
    process = subprocess.Popen(
        [*command, "--budget", "10m"],
        cwd=folder,
        env=os.environ | {"AUTOOPT_STORE": str(folder / "store")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield watch(process, folder / "results" / NAME, folder)
    finally:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE_S)
        process.kill()
        process.wait()


def test_the_stages_are_tasks_of_ray_with_names_for_people(watched: Watched) -> None:
    mark = f" · job {job_mark(NAME)}"
    assert all(name.endswith(mark) for name in watched.tasks), "every stage says whose it is"
    assert any(re.fullmatch(rf"{TRAINS}0\.\d to \d+ epochs{mark}", name) for name in watched.tasks)
    verbs = {name.split()[0] for name in watched.tasks}
    assert {"train", "build", "measure", "export", "student", "teach"} <= verbs
    states = set.union(*watched.tasks.values())
    assert "FINISHED" in states
    assert "FAILED" not in states


def test_progress_says_what_runs(watched: Watched) -> None:
    assert any(name.startswith(TRAINS) for name in watched.running)
    assert not any(" · job " in name for name in watched.running), "it is known whose they are"


def test_the_dashboard_wants_the_token_that_the_endpoint_of_the_metrics_does_not(watched: Watched) -> None:
    assert watched.without_token == 401
    assert watched.metrics


def test_every_figure_arrives_at_the_nodes_endpoint_with_its_job_and_task(watched: Watched) -> None:
    assert {name for name, _, _ in watched.samples} >= SERIES
    for _, labels, _ in watched.samples:
        assert (labels["autoopt_job"], labels["task"]) == (NAME, "digits")


def test_the_figures_agree_with_each_other(watched: Watched) -> None:
    def total(name: str, **wanted: str) -> float:
        return sum(
            value for told, labels, value in watched.samples if told == name and wanted.items() <= labels.items()
        )

    assert total("ray_autoopt_candidates", outcome="measured") >= 1
    assert total("ray_autoopt_candidates", outcome="failed") == 0
    computed = total("ray_autoopt_stages_total", source="computed")
    assert computed == total("ray_autoopt_stage_seconds_count") > 0
    assert total("ray_autoopt_stages_total", source="store") > 0, "trials found what the groundwork had made"
    assert total("ray_autoopt_slot_seconds_total", slot="lane") > 1.0, "seconds of measuring"
    assert total("ray_autoopt_slot_seconds_total", slot="trainer") > 0
    assert total("ray_autoopt_best_speedup") > 1.0
    assert total("ray_autoopt_best_latency_ms") > 0


def test_the_histogram_of_every_job_comes_from_one_process(watched: Watched) -> None:
    told_by = {labels["WorkerId"] for name, labels, _ in watched.samples if name.startswith("ray_autoopt_stage_sec")}
    assert len(told_by) == 1, "a series a process would stay in the agent's memory for ever"


def test_every_figure_of_the_grafana_dashboard_is_exported(watched: Watched) -> None:
    assert figures() <= watched.exported


@needs_prometheus
def test_prometheus_answers_every_query_of_the_grafana_dashboard(watched: Watched) -> None:
    assert watched.answers
    for query, answer in watched.answers.items():
        assert answer, f"nothing for {query}"
        assert all(series["value"][1] != "NaN" for series in answer), query
    of_job = [answer for query, answer in watched.answers.items() if "by (autoopt_job)" in query]
    assert all(series["metric"]["autoopt_job"] == NAME for answer in of_job for series in answer)


@needs_chromium
def test_a_browser_shows_the_job_and_its_stages(watched: Watched) -> None:
    assert f"--name {NAME}" in watched.page, "the job's entry"
    assert re.search(rf"{TRAINS}0\.\d to \d+ epochs · job {job_mark(NAME)}", watched.page)
    assert "TrainingDesk" not in watched.page


def test_optuna_dashboard_opens_the_study(watched: Watched) -> None:
    with optuna_dashboard(watched.folder / "study.journal") as address:
        [study] = json.loads(get(f"{address}/api/studies"))["study_summaries"]
        trials = json.loads(get(f"{address}/api/studies/{study['study_id']}?after=0"))["trials"]
    assert study["directions"] == ["maximize", "minimize"]
    told = {attribute["key"] for trial in trials for attribute in trial["user_attrs"]}
    assert {"candidate", "outcome"} <= told


@needs_chromium
def test_a_browser_shows_the_study(watched: Watched) -> None:
    with optuna_dashboard(watched.folder / "study.journal") as address, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = chromium.new_page()
        page.goto(f"{address}/dashboard/studies/0")
        page.get_by_text("Pareto Front").first.wait_for(timeout=30_000)
        assert "autoopt" in page.inner_text("header")
        chromium.close()
