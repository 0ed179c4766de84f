"""``report.md``: the page's content in short, for a terminal, a pull request or a mail."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from autoopt.front import Front, Pick
from autoopt.front.words import figure, interval, number
from autoopt.report import census, load, prose
from autoopt.report.data import ReportData
from autoopt.report.html import environment_lines
from autoopt.report.waterfall import waterfall


def render(data: ReportData) -> str:
    """The text."""
    parts = [
        f"# {_inline(data.job)}",
        _facts(data),
        *(f"> {_inline(line)}" for line in prose.caveats(data)),
        *_recommended(data),
        "## Pareto front",
        _front(data),
        *_load(data),
        "## What each choice bought",
        *_bought(data),
        "## How candidates ended",
        _census(data),
        *_exclusions(data),
        "## How the numbers were taken",
        "\n".join(f"- {_inline(line)}" for line in prose.how_taken(data)),
        "## Environment",
        "\n".join(f"- {name}: {_inline(text)}" for name, text in environment_lines(data)),
    ]
    return "\n\n".join(parts) + "\n"


def _facts(data: ReportData) -> str:
    state = "complete" if data.complete else "interrupted"
    took = prose.duration(max(0.0, data.ended_at - data.started_at))
    return _inline(
        f"{data.task.name}, {data.task.metric}; space {data.space}; {data.scenario}; budget {data.budget}; "
        f"{state}, {prose.moment(data.started_at)}, {took}"
    )


def _recommended(data: ReportData) -> list[str]:
    pick = data.recommended
    if pick is None:
        return []
    title = "## Recommended" if pick.met else "## Nearest to the goal"
    text = f"{pick.sentence()} {pick.lossless_sentence()} {pick.reason}"
    return [title, _inline(" ".join(text.split()))]


def _front(data: ReportData) -> str:
    if data.front is None:
        return "No front: the reference was not measured."
    return table(*front_cells(data.front, data.recommended))


def front_cells(front: Front, pick: Pick | None) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows of the front as texts, the fastest first, with the recommended config, which a star marks."""
    words = front.words
    unit = ", points" if words.in_points else ""
    under_load = any(config.rate is not None for config in front)
    header: tuple[str, ...] = (
        "#",
        "config",
        "speed-up",
        "95 % CI",
        "requests a second" if under_load else "latency, ms",
        f"drop{unit}",
        "95 % CI",
        words.metric,
        "MB",
    )
    rows: list[tuple[str, ...]] = []
    for config in front.listed_with(pick):
        drop = words.scaled(config.score_drop)
        rows.append(
            (
                f"{config.number} ★" if pick is not None and config.id == pick.config.id else str(config.number),
                config.describe(),
                figure(config.speedup, "×"),
                interval(config.speedup),
                figure(config.rate or config.latency_ms) if config.rate or not under_load else "",
                figure(drop),
                interval(drop),
                words.score(config.score),
                number(config.size_mb),
            )
        )
    return header, rows


def _load(data: ReportData) -> list[str]:
    rows = load.rows(data)
    if not rows:
        return []
    header = ("#", "config", "requests a second", "95 % CI", "p50 there, ms", "p99 there, ms", "mean batch")
    cells = [
        (str(row.number), row.name, row.rate, row.rate_interval, row.p50_ms, row.p99_ms, row.mean_batch) for row in rows
    ]
    return [
        "## Under load",
        f"99 % of the requests within {number(load.bound_ms(data) or 0.0)} ms.",
        table(header, cells),
    ]


def _bought(data: ReportData) -> list[str]:
    drawn = waterfall(data)
    rows = [(bar.label, bar.factor, bar.total, bar.extra_drop, bar.drop) for bar in drawn.bars]
    header = ("added", "this step", "so far", "drop of this step", "drop so far")
    return [*([table(header, rows)] if rows else []), _inline(drawn.note)]


def _census(data: ReportData) -> str:
    header = ("outcome", "cause", "where", "count", "for example")
    rows = [
        (
            line.outcome,
            line.cause,
            line.stage,
            str(line.count),
            f"#{line.example_number} {line.example}" * bool(line.example),
        )
        for line in census.census(data.rows)
    ]
    return table(header, rows) if rows else "No candidate was decided."


def _exclusions(data: ReportData) -> list[str]:
    if not data.exclusions:
        return []
    rows = [(item.what, item.why, item.remedy) for item in data.exclusions]
    return ["## Not offered here", table(("choice", "why", "what would bring it in"), rows)]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_inline(cell) for cell in line) + " |" for line in lines)


def _inline(text: str) -> str:
    """One line that neither breaks a table nor is taken for HTML."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
