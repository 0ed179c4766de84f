"""A job as it may really end: 60 candidates of every outcome, made of the record classes, the same at every run."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from autoopt.errors import FailureKind
from autoopt.front import Config, build_front
from autoopt.records import (
    Candidate,
    Deployment,
    Effective,
    Eliminated,
    Environment,
    Estimate,
    Failed,
    Fidelity,
    Latency,
    Measured,
    Measurement,
    Outcome,
    RatePoint,
    Served,
    StageRun,
    Step,
)
from autoopt.report import Exclusion, ReportData, Row, TaskFacts

STARTED_AT = 1_790_000_000.0
REFERENCE_MS = 3.42
REFERENCE_SCORE = 0.9342
HOSTILE = "<script>window.hacked = true</script> & \"quotes\" </script><img src=x onerror='window.hacked = true'>"

ENVIRONMENT = Environment(
    cpu="AMD EPYC 9654 96-Core Processor",
    cores=2,
    memory_bytes=16_400_000_000,
    flags=("avx2",),
    system="Linux 6.12.0",
    python="3.13.5",
    packages={"autoopt": "0.1.0", "torch": "2.13.0", "onnxruntime": "1.31.0", "openvino": "2026.4.0"},
)

UNCHANGED: tuple[Step, ...] = ()
PTQ = Step("quantize_static", {"preset": "mixed", "samples": 512})
SMALLER = Step("student", {"depth": 0.56, "width": 0.75})
PRUNED = Step("structured_pruning", {"importance": "taylor", "ratio": 0.3})
RECOVERED = Step("recovery", {"epochs": 4.0, "temperature": 3.0})

# Model half, precision, engine: the true speed-up and drop that the synthetic measurements scatter about.
KNOWN: list[tuple[tuple[Step, ...], str, str, float, float]] = [
    (UNCHANGED, "fp32", "torch_eager", 1.0, 0.0),
    (UNCHANGED, "fp32", "torchscript", 1.45, 0.0),
    (UNCHANGED, "fp32", "inductor", 1.9, 0.0),
    (UNCHANGED, "fp32", "onnxruntime", 3.6, 0.0),
    (UNCHANGED, "fp32", "openvino", 4.1, 0.0),
    (UNCHANGED, "int8_dynamic", "onnxruntime", 2.2, 0.0008),
    ((PTQ,), "int8", "onnxruntime", 7.9, 0.0016),
    ((PTQ,), "int8", "openvino", 9.3, 0.0012),
    ((PRUNED, RECOVERED), "fp32", "openvino", 7.0, 0.0035),
    ((PRUNED, RECOVERED, PTQ), "int8", "openvino", 14.1, 0.0044),
    ((PRUNED, RECOVERED, PTQ), "int8", "onnxruntime", 11.6, 0.0043),
    ((SMALLER, RECOVERED), "fp32", "openvino", 9.0, 0.0047),
    ((SMALLER, RECOVERED, PTQ), "int8", "openvino", 18.2, 0.0056),
    ((SMALLER, PRUNED, RECOVERED, PTQ), "int8", "openvino", 24.5, 0.0152),
    ((SMALLER, PRUNED, RECOVERED, PTQ), "int8", "onnxruntime", 20.3, 0.0149),
]


def estimate(value: float, half_width: float) -> Estimate:
    return Estimate(value, value - half_width, value + half_width)


def measurement(candidate: Candidate, split: str, speedup: float, drop: float, number: int) -> Measurement:
    samples = {"validation": 5000, "test": 10000}[split]
    reference = REFERENCE_SCORE + (0.0041 if split == "validation" else 0.0)
    score = reference - drop
    relative = 0.0 if speedup == 1.0 else 0.012
    latency_ms = REFERENCE_MS / speedup
    changed = abs(drop) + (0.0 if drop == 0 else 0.006)
    return Measurement(
        candidate_id=candidate.id,
        split=split,
        samples=samples,
        scenario="single_stream",
        speedup=Estimate(speedup, speedup * (1 - relative), speedup * (1 + 1.1 * relative)),
        latency_ms=Estimate(latency_ms, latency_ms * (1 - relative), latency_ms * (1 + 1.1 * relative)),
        score=estimate(score, 1.96 * math.sqrt(score * (1 - score) / samples)),
        score_drop=estimate(drop, 1.96 * math.sqrt(changed / samples)),
        agreement=1 - changed,
        latency=Latency(latency_ms, 1.2 * latency_ms, 1.02 * latency_ms, REFERENCE_MS, 24, 900, number % 7),
        fidelity=Fidelity(0.998, 0.02, 0.004, 512),
        size_bytes=round(1_100_000 / math.sqrt(speedup)),
        peak_rss_bytes=31_000_000,
        load_s=0.08,
        first_ms=3 * latency_ms,
        effective=Effective("2026.4.0", "cpu", candidate.deployment.precision, candidate.deployment.threads),
        environment=ENVIRONMENT,
        taken_at=datetime.fromtimestamp(STARTED_AT + 8.0 * (number + 1), UTC).isoformat(),
        remarks=("the interval was still wider than asked when the cap was reached",) if number % 9 == 4 else (),
    )


def stages(number: int, *kinds: str) -> tuple[StageRun, ...]:
    return tuple(
        StageRun(kind, kind, f"{number:064d}", (number + index) % 3 == 0, STARTED_AT + 8.0 * number, 1.5 + index)
        for index, kind in enumerate(kinds)
    )


def measured(number: int, candidate: Candidate, speedup: float, drop: float) -> Row:
    taken = measurement(candidate, "validation", speedup, drop, number)
    return Row(
        number, candidate, Measured(taken, f"{number:064x}", stages=stages(number, "technique", "build", "measure"))
    )


def known_rows() -> list[Row]:
    noise = random.Random(7)
    rows = []
    for number, (steps, precision, engine, speedup, drop) in enumerate(KNOWN):
        candidate = Candidate(steps, Deployment(engine, precision))
        seen = drop if drop == 0 else drop + noise.gauss(0, 0.0008)
        rows.append(measured(number, candidate, speedup, seen))
    return rows


def random_measured(number: int, noise: random.Random) -> Row:
    ratio = round(noise.uniform(0.1, 0.7), 3)
    steps: tuple[Step, ...] = (Step("structured_pruning", {"importance": "magnitude", "ratio": ratio}), RECOVERED)
    engine, precision = noise.choice(
        [("openvino", "int8"), ("onnxruntime", "int8"), ("openvino", "fp32"), ("inductor", "fp32")]
    )
    if precision == "int8":
        steps = (*steps, PTQ)
    base = {"openvino": 4.1, "onnxruntime": 3.6, "inductor": 1.9}[engine] * (2.1 if precision == "int8" else 1.0)
    drop = 0.002 + 0.06 * ratio**2.5 + abs(noise.gauss(0, 0.003))
    candidate = Candidate(steps, Deployment(engine, precision, threads=noise.choice([1, 2])))
    return measured(number, candidate, base * (1 + 1.1 * ratio), drop)


def unmeasured(number: int, noise: random.Random) -> Row:
    outcomes: list[Outcome] = [
        Eliminated("latency", "12.1× as probed; 14.1× are reached at a smaller drop", speedup=noise.uniform(2, 12)),
        Eliminated("latency", "6.3× as probed; 9.3× are reached without any training", speedup=noise.uniform(2, 9)),
        Eliminated("recovery 0.5 epochs", "even the most optimistic end lies 4 points below", 16.0, 0.871),
        Failed("build tensorrt_like", FailureKind.UNSUPPORTED, HOSTILE, log=f"Traceback\n{HOSTILE}"),
        Failed("measure inductor", FailureKind.CRASHED, "died by SIGSEGV", log="free(): invalid pointer"),
        Failed("build inductor", FailureKind.TIMED_OUT, "took longer than 60 s"),
        Failed("technique recovery", FailureKind.DIVERGED, "the loss became NaN in epoch 2"),
        Failed("measure onnxruntime", FailureKind.NOT_AS_ASKED, "asked for 1 thread, 2 ran"),
        Failed("measure openvino", FailureKind.DISAGREEMENT, "agrees on 61.2 % of samples with its network"),
        Failed("build openvino", FailureKind.OUT_OF_MEMORY, "needed more than 2.0 GB"),
    ]
    width = round(noise.uniform(0.25, 1.0), 3)
    candidate = Candidate(
        (Step("student", {"width": width, "depth": 0.5}), RECOVERED), Deployment(noise.choice(["inductor", "openvino"]))
    )
    return Row(number, candidate, outcomes[number % len(outcomes)])


def job_rows(count: int) -> tuple[Row, ...]:
    noise = random.Random(3)
    rows = known_rows()
    for number in range(len(rows), count):
        rows.append(random_measured(number, noise) if number % 3 else unmeasured(number, noise))
    return tuple(rows[:count])


def configs_of(rows: tuple[Row, ...]) -> list[Config]:
    return [
        Config(row.candidate, row.outcome.measurement, None, row.outcome.artifact_key, row.number)
        for row in rows
        if isinstance(row.outcome, Measured)
    ]


def confirmed(config: Config) -> Config:
    """Measured afresh on test: a little worse than the search thought."""
    seen = config.validation
    drop = seen.score_drop.value + (0.0 if seen.score_drop.value == 0 else 0.0007)
    test = measurement(
        config.candidate, "test", seen.speedup.value * (1.0 if config.number == 0 else 0.994), drop, config.number
    )
    return Config(config.candidate, seen, test, config.artifact_key, config.number)


def report_data(count: int, *, confirm: bool = True, complete: bool = True) -> ReportData:
    rows = job_rows(count)
    configs = configs_of(rows)
    front = build_front(configs, configs[0]) if configs else None
    if front is not None and confirm:
        ids = {config.id for config in front} | {configs[0].id} | ({front.lossless.id} if front.lossless else set())
        judged = [confirmed(config) if config.id in ids else config for config in configs]
        front = build_front(judged, judged[0])
    return ReportData(
        job="fashion-mnist-2026-09-21",
        task=TaskFacts(
            "fashion_mnist",
            "accuracy",
            {"train": 50000, "validation": 5000, "test": 10000},
            "ResNet-20, 0.27 M parameters",
        ),
        space="cpu",
        scenario="single_stream",
        budget="10 minutes",
        started_at=STARTED_AT,
        ended_at=STARTED_AT + 8.0 * count + 20.0,
        complete=complete,
        front=front,
        rows=rows,
        environment=ENVIRONMENT,
        exclusions=(
            Exclusion("tensorrt", "no NVIDIA GPU on this machine"),
            Exclusion("bf16 in openvino", "the processor has no AVX-512 BF16: it would silently run as FP32"),
            Exclusion("torchao", "the package torchao is not installed", "pip install torchao"),
        ),
        quantizers=frozenset({"quantize_static"}),
        command="autoopt run examples/fashion_mnist/task.py:task --space cpu --budget 10m",
    )


def under_load(data: ReportData) -> ReportData:
    """The same job as a server's: every measurement has a curve, the reference kept up with no rate."""
    assert data.front is not None

    def loaded(measurement: Measurement) -> Measurement:
        rate = 0.0 if measurement.speedup.value == 1.0 else 1000 / measurement.latency_ms.value
        points = [
            RatePoint(
                share * (rate or 100.0),
                900,
                1.0 / (1.1 - share),
                6.0 / (1.1 - share),
                1 + 7 * share,
                held=share < 1 and bool(rate),
            )
            for share in (0.25, 0.5, 0.99, 1.05)
        ]
        points.append(RatePoint(2 * (rate or 100.0), 900, math.inf, math.inf, 0.0, held=False))
        served = Served(20.0, Estimate(rate, 0.97 * rate, 1.04 * rate), tuple(points), 0.03, 0.2)
        return replace(measurement, scenario="server", served=served)

    def config(each: Config) -> Config:
        deployment = replace(each.candidate.deployment, batch=8, batching=("static", "dynamic")[each.number % 2])
        candidate = each.candidate if each.number == 0 else replace(each.candidate, deployment=deployment)
        test = None if each.test is None else loaded(each.test)
        return replace(each, candidate=candidate, validation=loaded(each.validation), test=test)

    configs = {each.number: config(each) for each in data.configs}
    rows = [
        replace(
            row,
            candidate=configs[row.number].candidate,
            outcome=replace(row.outcome, measurement=loaded(row.outcome.measurement)),
        )
        if isinstance(row.outcome, Measured)
        else row
        for row in data.rows
    ]
    return replace(data, scenario="server", rows=tuple(rows), front=build_front(list(configs.values()), configs[0]))


@pytest.fixture(scope="session")
def served_data() -> ReportData:
    return under_load(report_data(60))


@pytest.fixture(scope="session")
def make_data() -> Callable[..., ReportData]:
    return report_data


@pytest.fixture(scope="session")
def data() -> ReportData:
    return report_data(60)


@pytest.fixture(scope="session")
def hostile() -> str:
    return HOSTILE
