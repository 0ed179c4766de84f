from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from autoopt.records import Step
from autoopt.report import ReportData, front_table, progress_line


def printed(data: ReportData) -> str:
    assert data.front is not None
    console = Console(file=io.StringIO(), width=140)
    console.print(front_table(data.front, data.recommended))
    return console.file.getvalue()  # type: ignore[attr-defined] # a StringIO


def test_the_table_lists_the_front_and_stars_the_recommended_config(data: ReportData) -> None:
    text = printed(data)
    assert data.front is not None
    assert data.recommended is not None
    starred = next(line for line in text.splitlines() if line.startswith("★"))
    assert f" {data.recommended.config.number} " in starred
    assert "measured on the test split" in text


def test_what_looks_like_markup_is_printed_as_it_is(data: ReportData) -> None:
    assert data.front is not None
    first = data.front[0]
    odd = replace(first, candidate=replace(first.candidate, model=(Step("[bold red]odd[/]"),)))
    table = front_table(replace(data.front, configs=(odd,)))
    console = Console(file=io.StringIO(), width=140)
    console.print(table)
    assert "[bold red]odd[/]" in console.file.getvalue()  # type: ignore[attr-defined] # a StringIO


def test_the_progress_line_counts_outcomes_and_time_left(data: ReportData) -> None:
    assert data.front is not None
    line = progress_line({"measured": 7, "eliminated": 3, "failed": 0}, data.front, data.front[1], 40, 200)
    speed = f"{data.front[1].speedup.value:.3g}"
    expected = (
        f"10 decided (7 measured, 3 eliminated) · front {len(data.front)} · best {speed}× · 40 s, 3 min 20 s left"
    )
    assert line == expected
    assert progress_line({}, [], None, 2.5) == "0 decided · front 0 · 2.5 s"
