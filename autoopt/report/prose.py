"""What the report says in sentences: how the numbers were taken, and what is known against them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from autoopt.front import Config
from autoopt.front.words import number
from autoopt.report.data import ReportData

_SCENARIOS = {
    "single_stream": "one request after the other (single_stream): the time from a call to its answer",
    "offline": "batches, one after the other (offline): the time of a call divided by its samples",
    "server": (
        "requests that arrive at random (server, a Poisson process): the highest rate at which 99 % are answered within the bound and the "
        "queue does not grow, found by bisection and held twice. The speed-up is that rate over what the reference does at most, never "
        "idle and whatever the latency; the ms of a request are one second divided by the rate"
    ),
}
MINUTE_S = 60
HOUR_S = 3600


def how_taken(data: ReportData) -> tuple[str, ...]:
    """How timing, scores and intervals came about, from what the measurements themselves say."""
    scenario = _SCENARIOS.get(data.scenario, data.scenario)
    lines = [
        f"Latency is measured for {scenario}, in a fresh process with pinned cores and the threads that the row names.",
        (
            "Each config is timed in turn with the reference, in short bursts (A B B A), so that drift of the machine hits "
            "both. What is trusted is the ratio, the speed-up; a latency in ms is the job's one reference latency divided by it."
        ),
        "Bursts during which the process was preempted are thrown away and counted."
        + _discarded([config for config in data.configs if config.judged.latency.rounds]),
        (
            f"The {data.task.metric} is that of the deployed artifact in its own engine, never of a simulation. "
            "A drop is paired with the reference on the same samples, which is why its interval is narrower than the score's."
        ),
        (
            "Intervals are two-sided at 95 %. A config leaves the front only for one that is distinguishably ahead on one axis "
            "and at most negligibly behind on the other; of two that cannot be told apart the faster is listed."
        ),
        _splits(data),
    ]
    return tuple(lines)


def _discarded(configs: Sequence[Config]) -> str:
    thrown = sum(config.judged.latency.discarded for config in configs)
    calls = sum(config.judged.latency.calls for config in configs)
    return f" In this job: {thrown:,} bursts thrown away, {calls:,} timed calls kept." if configs else ""


def _splits(data: ReportData) -> str:
    sizes = data.task.splits
    validation = f"the validation split ({sizes.get('validation', 0):,} samples)"
    if data.front is not None and data.front.confirmed:
        judged, size = data.front[0].judged.samples, sizes.get("test", 0)
        drawn = f"{judged:,} of its {size:,} samples, drawn at random" if judged < size else f"{size:,} samples"
        test = f"the test split ({drawn})"
        return (
            f"The search chose by {validation}. The front was then measured afresh on {test}, which the search never "
            "read: of many candidates the best on validation is partly the luckiest."
        )
    return (
        f"All figures are of {validation}, by which the search chose: of many candidates the best is partly the luckiest. "
        "The front was not confirmed on the test split yet."
    )


def caveats(data: ReportData) -> tuple[str, ...]:
    """What a reader must know first."""
    lines = []
    if not data.complete:
        lines.append("This job was interrupted. What follows is its best so far; it can be resumed.")
    if data.front is None:
        lines.append(
            "The reference was not measured, so there is no front: no candidate has anything to be compared with."
        )
    lines.extend(_environments(data))
    lines.extend(data.notes)
    return tuple(lines)


def _environments(data: ReportData) -> list[str]:
    differences = {line for config in data.configs for line in data.environment.unlike(config.judged.environment)}
    if not differences:
        return []
    return [f"Measured in unlike environments, whose latencies do not compare ({'; '.join(sorted(differences))})."]


def remarks(configs: Sequence[Config]) -> tuple[tuple[str, int], ...]:
    """What measurements remarked, with how many said so."""
    return tuple(Counter(remark for config in configs for remark in config.judged.remarks).most_common())


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 20 s``, ``1 h 05 min``."""
    whole = round(seconds)
    if whole < MINUTE_S:
        return f"{number(seconds, 1)} s" if seconds < MINUTE_S / 6 else f"{whole} s"
    if whole < HOUR_S:
        return f"{whole // MINUTE_S} min {whole % MINUTE_S:02d} s"
    return f"{whole // HOUR_S} h {whole % HOUR_S // MINUTE_S:02d} min"


def moment(epoch_s: float) -> str:
    """``2026-03-01 12:30 UTC``."""
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d %H:%M UTC")


def megabytes(size_bytes: float) -> str:
    """A size in MB (1,000,000 bytes)."""
    return f"{number(size_bytes / 1e6)} MB"
