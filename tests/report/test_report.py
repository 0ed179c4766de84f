from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from autoopt.records import Estimate
from autoopt.report import ReportData, html, load, markdown, write_report

MakeData = Callable[..., ReportData]
MAX_BYTES = 5_500_000


def page_data(page: str) -> dict[str, list[dict[str, object]]]:
    found = re.search(r'<script type="application/json" id="page-data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1], parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


@pytest.mark.parametrize(("count", "complete"), [(0, False), (1, False), (60, True), (500, True)])
def test_every_size_of_job_gets_all_four_files(make_data: MakeData, tmp_path: Path, count: int, complete: bool) -> None:  # noqa: FBT001 (a case)
    paths = write_report(make_data(count, complete=complete), tmp_path)
    assert {path.name for path in paths} == {"report.html", "report.md", "front.csv", "candidates.parquet"}
    assert (tmp_path / "report.html").stat().st_size < MAX_BYTES
    assert set(tmp_path.iterdir()) == set(paths)  # no half written file is left behind
    assert len(pd.read_parquet(tmp_path / "candidates.parquet")) == count


def test_messages_of_failed_candidates_are_text_and_never_markup(data: ReportData, hostile: str) -> None:
    page = html.render(data)
    assert hostile not in page
    assert "&lt;script&gt;window.hacked" in page
    assert "<script>window.hacked" not in page
    assert "<script" not in markdown.render(data)


def test_a_hostile_job_name_is_escaped_in_the_page_s_json_too(data: ReportData, hostile: str) -> None:
    assert data.front is not None
    metric = "</script><b>"
    task, front = replace(data.task, metric=metric), replace(data.front, metric=metric)
    page = html.render(replace(data, job=hostile, task=task, front=front))
    assert "</script><b>" not in page
    assert page_data(page)["axes"]["score"].startswith("</script><b>")  # type: ignore[call-overload] # of JSON


def test_a_figure_that_is_no_number_is_left_out_of_the_json(data: ReportData) -> None:
    first, *others = data.rows
    broken = replace(first.outcome.measurement, score=Estimate(0.9, math.nan, math.inf))  # type: ignore[union-attr] # measured
    rows = (replace(first, outcome=replace(first.outcome, measurement=broken)), *others)
    page = html.render(replace(data, rows=rows, front=None))
    point = next(point for point in page_data(page)["points"] if point["number"] == 0)
    assert point["score"] == [0.9, None, None]


def test_the_page_asks_for_nothing_and_forbids_the_browser_to(data: ReportData) -> None:
    page = html.render(data)
    assert "default-src 'none'" in page
    without_library = re.sub(r'id="plotly-gzip">.*?</script>', "", page, flags=re.DOTALL)
    assert not re.search(r'(src|href)="(?!#|data:)', without_library)
    assert "http://" not in without_library
    assert "https://" not in without_library


def test_the_same_job_gives_the_same_bytes(data: ReportData) -> None:
    assert html.render(data) == html.render(data)


def test_page_and_text_say_the_recommended_config_in_a_sentence(data: ReportData) -> None:
    assert data.recommended is not None
    sentence = data.recommended.sentence()
    assert "measured on the test split" in sentence
    assert sentence in html.render(data)
    assert sentence in markdown.render(data)


def test_both_splits_stand_side_by_side(data: ReportData) -> None:
    page = html.render(data)
    assert "accuracy, test" in page
    assert "accuracy, validation" in page
    assert "measured afresh on the test split (10,000 samples)" in page


def test_an_unconfirmed_front_is_called_that(make_data: MakeData) -> None:
    page = html.render(make_data(60, confirm=False))
    assert "validation only" in page
    assert "not confirmed on the test split yet" in page


def test_an_interrupted_job_says_so_first(make_data: MakeData) -> None:
    data = make_data(60, complete=False)
    assert "interrupted" in markdown.render(data).split("## ", 1)[0]
    assert "This job was interrupted" in html.render(data)


def test_a_job_without_candidates_says_what_is_missing(make_data: MakeData) -> None:
    page = html.render(make_data(0))
    assert "No config was measured" in page
    assert "The reference was not measured" in page


def test_exclusions_carry_reason_and_remedy(data: ReportData) -> None:
    for text in (html.render(data), markdown.render(data)):
        assert "no AVX-512 BF16" in text
        assert "pip install torchao" in text


def test_environments_that_are_unlike_are_warned_about(data: ReportData) -> None:
    elsewhere = replace(data.environment, cpu="Intel Xeon 6980P")
    assert "unlike environments" in markdown.render(replace(data, environment=elsewhere))
    assert "unlike environments" not in markdown.render(data)


def test_front_csv_has_a_row_a_config_with_intervals(data: ReportData, tmp_path: Path) -> None:
    write_report(data, tmp_path)
    table = pd.read_csv(tmp_path / "front.csv")
    assert data.front is not None
    assert list(table["id"]) == [config.id for config in data.front]
    assert (table["latency_ms_low"] <= table["latency_ms"]).all()
    assert (table["split"] == "test").all()


def test_candidates_parquet_flattens_every_outcome_with_its_parameters(data: ReportData, tmp_path: Path) -> None:
    write_report(data, tmp_path)
    table = pd.read_parquet(tmp_path / "candidates.parquet").set_index("number")
    failed = table[table["outcome"] == "failed"]
    assert set(failed["failure"]) >= {"crashed", "diverged", "timed out"}
    assert failed["message"].notna().all()
    assert table.loc[table["outcome"] == "eliminated", "probed_speedup"].notna().any()
    assert table.loc[12, "student.width"] == "0.75"
    assert bool(table.loc[12, "on_front"])
    assert table["work_s"].sum() > 0


def test_how_often_its_stages_were_started_again_stands_with_each_candidate(data: ReportData, tmp_path: Path) -> None:
    stages = tuple(replace(stage, retries=2) for stage in data.rows[3].outcome.stages)
    changed = replace(data.rows[3], outcome=replace(data.rows[3].outcome, stages=stages))
    write_report(replace(data, rows=(*data.rows[:3], changed, *data.rows[4:])), tmp_path)
    retries = pd.read_parquet(tmp_path / "candidates.parquet").set_index("number")["retries"]
    assert retries[changed.number] == 2 * len(stages) > 0
    assert retries.sum() == retries[changed.number]


def test_column_types_do_not_depend_on_what_occurred(make_data: MakeData, tmp_path: Path) -> None:
    dtypes = []
    for count in (1, 60):
        write_report(make_data(count), tmp_path / str(count))
        dtypes.append(pd.read_parquet(tmp_path / str(count) / "candidates.parquet").dtypes)
    for name in dtypes[0].index:
        assert dtypes[0][name] == dtypes[1][name], name


def test_a_report_is_replaced_while_it_is_read(data: ReportData, make_data: MakeData, tmp_path: Path) -> None:
    write_report(make_data(1), tmp_path)
    with (tmp_path / "report.md").open() as old:
        write_report(data, tmp_path)
        assert "## Pareto front" in old.read()
    assert data.recommended is not None
    assert data.recommended.sentence() in (tmp_path / "report.md").read_text()


def test_a_servers_report_tells_rates_and_what_was_kept(served_data: ReportData) -> None:
    assert served_data.recommended is not None
    sentence = served_data.recommended.sentence()
    assert "requests a second, 99 % of them within 20 ms" in sentence
    page, text = html.render(served_data), markdown.render(served_data)
    for shown in (page, text):
        assert "Under load" in shown
        assert "none held" in shown  # the reference
        assert "requests a second" in shown
    assert "a Poisson process" in page
    rates = [row.rate for row in load.rows(served_data)]
    assert len(rates) <= 6
    kinds = {load.batching_of(config) for config, _ in load.chosen(served_data)}
    assert kinds == {"one at a time", "static", "dynamic"}


def test_a_job_without_load_says_nothing_of_it(data: ReportData) -> None:
    assert "Under load" not in html.render(data) + markdown.render(data)
    assert load.bound_ms(data) is None
