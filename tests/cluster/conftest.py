"""A real cluster of two nodes on this machine, started and stopped by the shell's own commands."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from autoopt.testing.clusters import Place, TwoNodes, place_for_clusters

SECRET = "hush7Password"
STUDY = f"postgresql+psycopg://user:{SECRET}@127.0.0.1:1/studies"


@pytest.fixture
def wait() -> Callable[..., Any]:
    """``wait(condition)`` until it is true; what it gave."""

    def wait(condition: Callable[[], Any], limit_s: float = 90) -> Any:
        ends = time.monotonic() + limit_s
        while not (found := condition()):
            assert time.monotonic() < ends, "it did not come true"
            time.sleep(0.2)
        return found

    return wait


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Nothing runs there; whatever a test starts is stopped."""
    with place_for_clusters(tmp_path) as made:
        yield made


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoNodes]:
    """A head of the kind "default" and a node of the kind "edge", a core each."""
    first, *others = sorted(os.sched_getaffinity(0))
    if not others:
        pytest.skip("two nodes need two cores")
    with place_for_clusters(tmp_path_factory.mktemp("home")) as place:
        head = place.head("--cores", str(first))
        edge = place.up("--join", head["address"], "--hardware", "edge", "--cores", str(others[0]))
        yield TwoNodes(place, head, edge)


@pytest.fixture
def client(cluster: TwoNodes, monkeypatch: pytest.MonkeyPatch) -> TwoNodes:
    """The cluster, with its token in this process's environment."""
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(cluster.place.token_file))
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    return cluster


@dataclass(frozen=True)
class Doctored:
    """What the doctor has said of the cluster, with a store that works and a study that does not."""

    code: int
    checks: dict[str, dict[str, str]]
    printed: str
    seen: list[str]
    """Command lines in which the study's password was seen meanwhile."""


@pytest.fixture(scope="package")
def doctored(cluster: TwoNodes, tmp_path_factory: pytest.TempPathFactory) -> Doctored:
    """The doctor takes a study's password to the head; meanwhile everybody looks at the list of processes."""
    seen: list[str] = []
    over = threading.Event()
    watcher = threading.Thread(target=_watch_command_lines, args=(seen, over))
    store = tmp_path_factory.mktemp("store")
    # By the environment: what the user writes into a command line is seen there.
    place = replace(cluster.place, variables={"AUTOOPT_STUDY": STUDY})
    watcher.start()
    try:
        done = place.run("doctor", "--address", cluster.address, "--store", str(store), "--json")
    finally:
        over.set()
        watcher.join()
    assert list(store.rglob("check-*")) == [], "what was tried is left"
    checks = {check["what"]: check for check in json.loads(done.stdout)["checks"]}
    return Doctored(done.returncode, checks, done.stdout + done.stderr, seen)


def _watch_command_lines(seen: list[str], over: threading.Event) -> None:
    while not over.wait(0.02):
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes().decode(errors="replace")
            except OSError:
                continue
            if SECRET in line:
                seen.append(line)
