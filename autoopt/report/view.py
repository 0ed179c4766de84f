"""The page's tables as plain values: every cell a text to show and a key to sort by."""

from __future__ import annotations

from dataclasses import dataclass, replace

from autoopt.front import Config
from autoopt.front.words import ScoreWords, figure, interval, number
from autoopt.records import Effective, Eliminated, Estimate, Failed, Measurement, StageRun
from autoopt.records.outcome import outcome_name
from autoopt.report.data import ReportData, Row
from autoopt.report.load import bound_ms
from autoopt.report.points import roles_of
from autoopt.report.prose import duration


@dataclass(frozen=True)
class CellView:
    """One cell: the text, the interval under it, and what it sorts by (None: last)."""

    text: str = ""
    small: str = ""
    key: float | str | None = None


@dataclass(frozen=True)
class RowView:
    """One candidate."""

    number: int
    model: str
    served: str
    engine: str
    outcome: str
    roles: tuple[str, ...]
    cells: tuple[CellView, ...]
    """In the order of `columns`."""
    facts: tuple[tuple[str, str], ...]
    """What the opened row shows."""
    log: str


def columns(words: ScoreWords, *, under_load: bool = False) -> tuple[str, ...]:
    """The headers of `RowView.cells`."""
    drop = "drop, points" if words.in_points else "drop"
    rate = ("requests a second",) if under_load else ()
    return (*rate, "latency, ms", "speed-up", drop, f"{words.metric}, test", f"{words.metric}, validation", "size, MB")


def rows(data: ReportData) -> tuple[RowView, ...]:
    """A row a candidate, the measured ones by latency, then the others in the order of the search."""
    configs = {config.number: config for config in data.configs}
    decided = {row.number for row in data.rows}
    roles = roles_of(data)
    words = ScoreWords(data.task.metric, in_points=False) if data.front is None else data.front.words
    shown = [_row_view(row, configs.get(row.number), roles.get(row.number, []), words) for row in data.rows]
    # The reference may have been measured apart from the search.
    shown += [_config_view(configs[extra], roles[extra], words) for extra in configs.keys() - decided]
    latencies = {number: config.latency_ms.value for number, config in configs.items()}
    in_order = sorted(shown, key=lambda row: (latencies.get(row.number, float("inf")), row.number))
    if bound_ms(data) is None:
        return tuple(in_order)
    return tuple(replace(row, cells=(_rate_cell(configs.get(row.number)), *row.cells)) for row in in_order)


def _rate_cell(config: Config | None) -> CellView:
    return CellView() if config is None or config.rate is None else _cell(config.rate)


def _row_view(row: Row, config: Config | None, roles: list[str], words: ScoreWords) -> RowView:
    if config is not None:
        return _config_view(config, roles, words, row.outcome.stages)
    model, served = row.candidate.describe().split(" | ", 1)
    return RowView(
        number=row.number,
        model=model,
        served=served,
        engine=row.candidate.deployment.engine,
        outcome=outcome_name(row.outcome),
        roles=(),
        cells=_unmeasured_cells(row, words),
        facts=(*_how_ended(row), *_stage_facts(row.outcome.stages)),
        log=row.outcome.log if isinstance(row.outcome, Failed) else "",
    )


def _config_view(config: Config, roles: list[str], words: ScoreWords, stages: tuple[StageRun, ...] = ()) -> RowView:
    model, served = config.describe().split(" | ", 1)
    return RowView(
        number=config.number,
        model=model,
        served=served,
        engine=config.candidate.deployment.engine,
        outcome="measured",
        roles=tuple(roles),
        cells=_measured_cells(config, words),
        facts=(*_config_facts(config), *_stage_facts(stages)),
        log="",
    )


def _measured_cells(config: Config, words: ScoreWords) -> tuple[CellView, ...]:
    drop = words.scaled(config.score_drop)
    test = CellView() if config.test is None else _score_cell(config.test.score, words)
    return (
        _cell(config.latency_ms),
        _cell(config.speedup, "×"),
        _cell(drop),
        test,
        _score_cell(config.validation.score, words),
        CellView(number(config.size_mb), "", config.size_mb),
    )


def _unmeasured_cells(row: Row, words: ScoreWords) -> tuple[CellView, ...]:
    """A probe's figures have no interval; they are shown as such."""
    empty = CellView()
    if not isinstance(row.outcome, Eliminated):
        return (empty,) * len(columns(words))
    speedup, score = row.outcome.speedup, row.outcome.score
    probed_speed = empty if speedup is None else CellView(f"{number(speedup)}×", "probe", speedup)
    probed_score = empty
    if score is not None:
        probed_score = CellView(number(words.factor * score) + words.percent, "probe", score)
    return (empty, probed_speed, empty, empty, probed_score, empty)


def _cell(estimate: Estimate, unit: str = "") -> CellView:
    exact = estimate.low == estimate.high
    return CellView(figure(estimate, unit), "" if exact else interval(estimate), estimate.value)


def _score_cell(score: Estimate, words: ScoreWords) -> CellView:
    return CellView(words.score(score), interval(words.scaled(score)), score.value)


def _how_ended(row: Row) -> tuple[tuple[str, str], ...]:
    outcome = row.outcome
    if isinstance(outcome, Failed):
        return (("failed in", outcome.stage), ("cause", str(outcome.kind)), ("message", outcome.message))
    if isinstance(outcome, Eliminated):
        return (("eliminated at", outcome.rung), ("because", outcome.reason))
    return ()


def _config_facts(config: Config) -> tuple[tuple[str, str], ...]:
    judged = config.judged
    effective = judged.effective
    facts = [
        ("candidate", f"{config.id}, network {config.candidate.model_id}"),
        ("judged on", f"{judged.split}, {judged.samples:,} samples, at {judged.taken_at}"),
        ("really ran", _ran(effective)),
        ("latency", f"median {number(judged.latency.median_ms)} ms, p90 {number(judged.latency.p90_ms)} ms (this run)"),
        (
            "timing",
            f"{judged.latency.rounds} rounds, {judged.latency.calls} calls, {judged.latency.discarded} discarded",
        ),
        ("agreement with the reference", f"{number(100 * judged.agreement, 2)} % of samples"),
        ("memory", f"{number(judged.peak_rss_bytes / 1e6)} MB"),
        ("energy", _energy(judged)),
        ("load, first call", f"{number(judged.load_s)} s, {number(judged.first_ms)} ms"),
    ]
    return (*facts, *(("remark", remark) for remark in judged.remarks))


def _energy(judged: Measurement) -> str:
    if judged.energy_mj is not None:
        return f"{figure(judged.energy_mj)} mJ a sample ({interval(judged.energy_mj)}), of the whole package"
    return "unknown: it is measured when a config is confirmed, where the machine tells it (RAPL, NVML)"


def _ran(effective: Effective) -> str:
    details = [f"{name} {value}" for name, value in effective.details.items()]
    if effective.time:
        shares = sorted(effective.time.items(), key=lambda pair: -pair[1])
        details.append(
            "of the compute nodes' time " + ", ".join(f"{100 * share:.0f} % {name}" for name, share in shares)
        )
    threads = f"{effective.threads} thread{'s' if effective.threads > 1 else ''}"
    return ", ".join(
        [f"version {effective.engine_version}", effective.hardware, effective.precision, threads, *details]
    )


def _stage_facts(stages: tuple[StageRun, ...]) -> tuple[tuple[str, str], ...]:
    if not stages:
        return ()
    parts = [f"{stage.name} ({'from the store' if stage.cached else duration(stage.seconds)})" for stage in stages]
    return (("stages", " → ".join(parts)),)
