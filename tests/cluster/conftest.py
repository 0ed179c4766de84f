"""A real cluster of two nodes on this machine, started and stopped by the shell's own commands."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from autoopt.testing.clusters import Place, place_for_clusters


@dataclass(frozen=True)
class Running:
    """The two nodes."""

    place: Place
    head: dict[str, Any]
    edge: dict[str, Any]

    @property
    def address(self) -> str:
        return str(self.head["dashboard"])


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Nothing runs there; whatever a test starts is stopped."""
    with place_for_clusters(tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A head of the kind "default" and a node of the kind "edge", a core each."""
    first, *others = sorted(os.sched_getaffinity(0))
    if not others:
        pytest.skip("two nodes need two cores")
    with place_for_clusters(tmp_path_factory.mktemp("home")) as place:
        head = place.head("--cores", str(first))
        edge = place.up("--join", head["address"], "--hardware", "edge", "--cores", str(others[0]))
        yield Running(place, head, edge)


@pytest.fixture
def client(cluster: Running, monkeypatch: pytest.MonkeyPatch) -> Running:
    """The cluster, with its token in this process's environment."""
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(cluster.place.token_file))
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    return cluster
