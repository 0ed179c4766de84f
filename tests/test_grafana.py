"""The dashboard for Grafana, as far as it can be judged without one. That its figures exist is seen by `tests/main_job/test_watching.py`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from autoopt.search import metrics

BOARD: dict[str, Any] = json.loads((Path(__file__).parents[1] / "docs" / "grafana.json").read_text())
PANELS: list[dict[str, Any]] = BOARD["panels"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
# Ray's own that it shows besides.
RAYS = {"ray_resources", "ray_node_cpu_count"}
OURS = {
    **{f"ray_{name}": (*metrics._JOB, *labels) for name, (_, *labels) in metrics._GAUGES.items()},
    **{f"ray_{name}_total": (*metrics._JOB, *labels) for name, (_, *labels) in metrics._COUNTERS.items()},
    **{f"ray_{name}_bucket": (*metrics._JOB, *labels, "le") for name, (_, *labels) in metrics._HISTOGRAMS.items()},
}


def test_every_panel_is_told_apart_and_lies_beside_the_others() -> None:
    assert len({panel["id"] for panel in PANELS}) == len({panel["title"] for panel in PANELS}) == len(PANELS)
    taken = set()
    for panel in PANELS:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert all(0 <= x < 24 for x, _ in cells)
        taken |= cells


def test_whoever_imports_it_chooses_prometheus_and_the_jobs() -> None:
    variables = {variable["name"]: variable for variable in BOARD["templating"]["list"]}
    assert variables["datasource"]["query"] == "prometheus"
    assert variables["job"]["query"]["query"] == "label_values(ray_autoopt_candidates, autoopt_job)"
    sources = [panel["datasource"] for panel in PANELS]
    sources += [target["datasource"] for panel in PANELS for target in panel["targets"]]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
    assert "id" not in BOARD, "an import would replace another dashboard"


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_asks_for_figures_and_labels_that_there_are(query: str) -> None:
    for name, chosen in re.findall(r"(ray_\w+)(?:\{([^}]*)\})?", query):
        assert name in OURS or name in RAYS
        labels = set(re.findall(r"(\w+)=", chosen))
        assert name in RAYS or labels <= set(OURS[name])
        assert name in RAYS or "autoopt_job" in labels, "the jobs that were chosen"
    grouped = {label.strip() for group in re.findall(r"by \(([^)]*)\)", query) for label in group.split(",")}
    assert grouped <= {label for labels in OURS.values() for label in labels} | {"Name"}
    assert query.count("(") == query.count(")")


def test_every_figure_is_shown() -> None:
    shown = {name for query in QUERIES for name in re.findall(r"ray_\w+", query)}
    assert shown == {*OURS, *RAYS}


@pytest.mark.parametrize("label", ["job", "instance"])
def test_no_label_of_ours_is_one_that_prometheus_puts_on(label: str) -> None:
    assert all(label not in labels for labels in OURS.values())
