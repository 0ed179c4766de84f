"""A study of ten thousand candidates in PostgreSQL: how long resuming, asking, telling and reporting take.

    python benchmarks/service/study.py                       # 10,000 candidates, a server and a job of its own
    python benchmarks/service/study.py --job results/mine    # with the records of that job, whose store must be there

A small job is run first (digits, a minute or two), so that task, space, setup and measurements are real ones. Its records are
written ten thousand times under other candidates of its space, with other figures, exactly as `CandidateStudy` stores them; eight
candidates are left running and twenty waiting, as a killed job leaves them. What is measured runs in fresh processes.

The last line is one JSON object with the figures and the targets.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import optuna
import sqlalchemy
from optuna.distributions import distribution_to_json
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial

from autoopt.jobfolder import JobFolder, JobStatus, write_json
from autoopt.jobs.stored import stored_rows
from autoopt.records import Candidate, Eliminated, Estimate, Failed, Measured, Outcome, to_json
from autoopt.search.preparation import Prepared, engines_here, prepare_job
from autoopt.search.storage import begin_study, open_storage, study_name
from autoopt.search.study import CandidateStudy, Proposal
from autoopt.search.study_url import VARIABLE, StudyUrl, known_study, parse_study
from autoopt.space import draw, parse_space
from autoopt.testing.postgres import postgres_server
from autoopt.workers import process
from autoopt.workers.node import Node, share_cores

ROOT = Path(__file__).parents[2]
TASK = f"{ROOT / 'examples/digits/task.py'}:task"
NAME = "ten-thousand"
RUNNING, WAITING, TRIES = 8, 20, 20
RESUME_S, REPORT_S, CALL_S = 30.0, 60.0, 0.1


def real_job(folder: Path) -> JobFolder:
    """A small job, run through the shell."""
    command = [sys.executable, "-m", "autoopt", "run", TASK, "--space", "cpu", "--budget", "12 candidates"]
    command += ["--name", "real", "--results", str(folder), "--store", str(folder / "store"), "--study", "journal"]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return JobFolder(folder / "real")


def prepared_of(job: JobFolder) -> Prepared:
    """The job's space and setup, found again as a resumed job finds them."""
    spec = job.spec()
    if spec.store is None:
        sys.exit(f"{job.path} is on the user's default store; give a job with a store of its own (--store)")
    space_file = parse_space(spec.space_text, spec.space)
    node = Node(share_cores(spec.options.get("lane_cores")))
    try:
        return prepare_job(spec, job, space_file, spec.store, lambda: ({node.kind: node.hardware}, engines_here()))
    finally:
        process.shutdown()


def endings(outcomes: Sequence[Outcome], random: Random) -> Iterator[Callable[[Candidate], Outcome]]:
    """Of ten candidates four are measured, five eliminated, one fails; their records are real ones with other figures."""
    kinds = [[each for each in outcomes if isinstance(each, kind)] for kind in (Measured, Eliminated, Failed)]
    while True:
        (record,) = random.choices([random.choice(kind or kinds[0]) for kind in kinds], (4, 5, 1))

        def made(candidate: Candidate, record: Outcome = record) -> Outcome:
            return figures(record, candidate, random) if isinstance(record, Measured) else record

        yield made


def figures(record: Measured, candidate: Candidate, random: Random) -> Measured:
    """Faster costs accuracy, more or less."""
    doublings = random.uniform(0, 5)
    speedup, drop = 2.0**doublings, max(-0.005, random.gauss(0.004 * doublings**2 / 2, 0.01))
    known = record.measurement
    base = known.latency_ms.value * known.speedup.value
    around = lambda value, by: Estimate(value, value - by, value + by)  # noqa: E731 (three fields in one)
    measurement = replace(
        known,
        candidate_id=candidate.id,
        speedup=around(speedup, speedup / 30),
        latency_ms=around(base / speedup, base / speedup / 30),
        score=around(known.score.value + known.score_drop.value - drop, 0.004),
        score_drop=around(drop, 0.006),
    )
    return replace(record, measurement=measurement)


def trials_of(prepared: Prepared, outcomes: Sequence[Outcome], count: int) -> list[FrozenTrial]:
    """What a search of so many candidates leaves when it is killed."""
    random, space = Random(0), prepared.space
    storage = InMemoryStorage()
    study = CandidateStudy(storage, space, sampler="random")
    first = next(each for each in outcomes if isinstance(each, Measured))
    study.record(Proposal(prepared.setup.reference, "reference"), first)
    ending = endings(outcomes, random)
    known = set(study.seen())
    drawn: list[Candidate] = []
    while len(drawn) < count + RUNNING + WAITING:
        candidate = draw(space, random)
        if candidate.id not in known:
            known.add(candidate.id)
            drawn.append(candidate)
    for candidate in drawn[: count - 1]:
        study.record(Proposal(candidate, "a neighbour of a config on the front"), next(ending)(candidate))
    for candidate in drawn[count : count + RUNNING]:
        study.ask([Proposal(candidate, "one technique by itself")])
    study.enqueue([Proposal(candidate, "an earlier job on this store tried it") for candidate in drawn[-WAITING:]])
    return storage.get_all_trials(0, deepcopy=False)


def fill(study: StudyUrl, name: str, prepared: Prepared, trials: Sequence[FrozenTrial]) -> None:
    """Write them in bulk: one by one they would take ten minutes."""
    from optuna.storages._rdb import models

    found = optuna.load_study(study_name=name, storage=open_storage(study, Path()))
    found.set_user_attr("space", prepared.space.fingerprint)
    finite = models.TrialValueModel.TrialValueType.FINITE

    def utc(moment: datetime | None) -> datetime | None:
        return None if moment is None else moment.astimezone(UTC).replace(tzinfo=None)

    def trial(number: int, each: FrozenTrial) -> dict[str, Any]:
        times = {"datetime_start": utc(each.datetime_start), "datetime_complete": utc(each.datetime_complete)}
        identity = {"trial_id": number + 1, "number": number, "study_id": found._study_id}  # noqa: SLF001 (Optuna's own way)
        return {**identity, "state": each.state, **times}

    def parameters(each: FrozenTrial) -> Iterator[dict[str, Any]]:
        for key, value in each.params.items():
            chosen_from = each.distributions[key]
            yield {
                "param_name": key,
                "param_value": chosen_from.to_internal_repr(value),
                "distribution_json": distribution_to_json(chosen_from),
            }

    def values(each: FrozenTrial) -> Iterator[dict[str, Any]]:
        for objective, value in enumerate(each.values or []):
            yield {"objective": objective, "value": value, "value_type": finite}

    def attributes(known: dict[str, Any]) -> Iterator[dict[str, Any]]:
        return ({"key": key, "value_json": json.dumps(value)} for key, value in known.items())

    tables: list[tuple[Any, Callable[[FrozenTrial], Iterator[dict[str, Any]]]]] = [
        (models.TrialParamModel, parameters),
        (models.TrialValueModel, values),
        (models.TrialUserAttributeModel, lambda each: attributes(each.user_attrs)),
        (models.TrialSystemAttributeModel, lambda each: attributes(each.system_attrs)),
    ]
    engine = sqlalchemy.create_engine(study.full)
    with engine.begin() as connection:
        rows = [trial(number, each) for number, each in enumerate(trials)]
        connection.execute(sqlalchemy.insert(models.TrialModel.__table__), rows)
        connection.execute(sqlalchemy.text(f"SELECT setval('trials_trial_id_seq', {len(trials)})"))
        for model, rows_of in tables:
            rows = [{"trial_id": number + 1, **row} for number, each in enumerate(trials) for row in rows_of(each)]
            connection.execute(sqlalchemy.insert(model.__table__), rows)
    engine.dispose()


def killed_job(real: JobFolder, study: StudyUrl) -> JobFolder:
    """A job's folder as it is after kill -9, with its study in the database."""
    path = real.path.with_name(NAME)
    path.mkdir()
    job = JobFolder(path)
    write_json(job.spec_path, to_json(replace(real.spec(), name=NAME, study=study.shown)))
    shutil.copy(real.setup_path, job.setup_path)
    write_json(job.state_path, to_json(replace(real.state(), status=JobStatus.INTERRUPTED, process=None)))
    return job


def resumed(job: JobFolder) -> dict[str, float]:
    """Open, reconcile, ask, tell; in seconds. In a process of its own."""
    prepared = prepared_of(job)
    spec = job.spec()
    where = known_study(spec.study)
    outcome = next(outcome for _, _, outcome in stored_rows(real_of(job)) if isinstance(outcome, Measured))
    began, began_cpu = time.perf_counter(), time.process_time()
    study = CandidateStudy(
        open_storage(where, job.study_path), prepared.space, name=study_name(where, spec.name), seed=spec.seed
    )
    opened_s = time.perf_counter() - began
    stale = study.reconcile()
    first = study.ask()
    resume_s, resume_cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
    assert stale == RUNNING, stale
    assert first is not None
    while study.waits:
        study.ask()
    random, times = Random(1), {"proposal": [], "sampler": [], "tell": []}  # type: dict[str, list[float]]
    for _ in range(TRIES):
        for kind, proposals in (("proposal", [Proposal(draw(prepared.space, random), "x")]), ("sampler", [])):
            began = time.perf_counter()
            asked = study.ask(proposals)
            between = time.perf_counter()
            assert asked is not None
            times[kind].append(between - began)
            study.tell(asked.number, outcome)
            times["tell"].append(time.perf_counter() - between)
    return {
        "open_s": opened_s,
        "resume_s": resume_s,
        "resume_cpu_s": resume_cpu_s,
        "ask_proposal_s": statistics.median(times["proposal"]),
        "ask_sampler_s": statistics.median(times["sampler"]),
        "ask_sampler_longest_s": max(times["sampler"]),
        "tell_s": statistics.median(times["tell"]),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def real_of(job: JobFolder) -> JobFolder:
    """The job whose records these are."""
    return JobFolder(job.path.with_name("real"))


def measure(job: JobFolder, study: StudyUrl) -> dict[str, Any]:
    """Both in fresh processes."""
    environment = os.environ | {VARIABLE: study.full}
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "autoopt", "report", str(job.path)], check=True, env=environment, stdout=sys.stderr
    )
    report_s, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, __file__, "--resume", str(job.path)]
    done = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {
        **{name: round(value, 3) for name, value in found.items()},
        "report_s": round(report_s, 1),
        "report_cpu_s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "report_mb": round(job.report_path.stat().st_size / 1e6, 1),
    }


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Make the study, measure, judge."""
    if options.job is None:
        real = real_job(folder)
    else:
        real = JobFolder(folder / "real")
        shutil.copytree(options.job, real.path)
    outcomes = [outcome for _, _, outcome in stored_rows(real)]
    prepared = prepared_of(real)
    trials = trials_of(prepared, outcomes, options.candidates)
    with postgres_server() as server:
        study = parse_study(server.new_database())
        begin_study(study, NAME)
        fill(study, study_name(study, NAME), prepared, trials)
        job = killed_job(real, study)
        found = measure(job, study)
    return {
        "figures": found,
        "targets": {
            f"resume < {RESUME_S:g} s": found["resume_s"] < RESUME_S,
            f"report < {REPORT_S:g} s": found["report_s"] < REPORT_S,
            f"ask, by a proposal < {CALL_S:g} s": found["ask_proposal_s"] < CALL_S,
            f"tell < {CALL_S:g} s": found["tell_s"] < CALL_S,
        },
        "candidates": options.candidates,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {prepared_cpu(outcomes)}, Python {platform.python_version()}",
        "load_average": os.getloadavg()[0],
        "command": " ".join([Path(sys.executable).name, *sys.argv]),
    }


def prepared_cpu(outcomes: Sequence[Outcome]) -> str:
    """The processor, as a measurement names it."""
    return next(each.measurement.environment.cpu for each in outcomes if isinstance(each, Measured))


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=10_000)
    parser.add_argument("--job", type=Path, help="a job's folder; its journal has the records, its store the task")
    parser.add_argument("--resume", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if options.resume is not None:
        print(json.dumps(resumed(JobFolder(options.resume))))
        return
    with tempfile.TemporaryDirectory(prefix="autoopt-study-") as folder:
        print(json.dumps(run(options, Path(folder))))


if __name__ == "__main__":
    main()
