"""A real cluster of two kinds of hardware on this machine, and jobs that are sent to it from another user's folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoopt.testing.clusters import place_for_clusters
from autoopt.testing.service import Service

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def digits() -> str:
    """The task."""
    return f"{ROOT / 'examples/digits/task.py'}:task"


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A head of the kind "default" and a node of the kind "edge", a core each."""
    first, *others = sorted(os.sched_getaffinity(0))
    if not others:
        pytest.skip("two nodes need two cores")
    home = tmp_path_factory.mktemp("home")
    folder = tmp_path_factory.mktemp("client")
    with place_for_clusters(home) as place:
        head = place.head("--cores", str(first))
        place.up("--join", head["address"], "--hardware", "edge", "--cores", str(others[0]))
        yield Service(place, head["dashboard"], home / "store", folder)


@pytest.fixture(scope="session")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two kinds of hardware, an engine, one network: the smallest search that compares them."""
    path = tmp_path_factory.mktemp("space") / "two.yaml"
    path.write_text(
        "about: Tests of the service.\nscenario: single_stream\nmodel: {}\n"
        "deployment: {engine: {onnxruntime: {precision: [fp32]}}, hardware: [cpu, edge], threads: 1}\n"
    )
    return path
