"""A candidate as a Tune trial: a light coordinator that waits for its stages, which run as Ray tasks elsewhere."""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from ray import tune

from autoopt.errors import StoreError
from autoopt.records import Candidate, Outcome, from_json, outcome_to_json, to_json
from autoopt.records.outcome import Eliminated, Failed, Measured, outcome_name
from autoopt.search.desk import TrainingDesk
from autoopt.search.gate import DeskGate
from autoopt.search.naming import stage_name, task_name
from autoopt.search.remote import HardwareGoneError, Place, StoppedError, run_stage
from autoopt.workers.entry import Postponed, evaluate
from autoopt.workers.stages import plan
from autoopt.workers.stages.execute import Result
from autoopt.workers.stages.stage import Role, Stage
from autoopt.workers.store import Store


class CandidateTrial(tune.Trainable):  # type: ignore[misc]  # Ray has no types
    """One step: evaluate the candidate in ``config``; the outcome is the result. A thread of the job's own process."""

    def setup(self, config: dict[str, Any]) -> None:
        """Once a candidate."""
        assert _work is not None, "trials run within `at_work`"
        self._candidate = from_json(Candidate, config["candidate"])
        self._work = _work
        self._interrupted = threading.Event()

    def interrupt(self) -> None:
        """End the step within a second or so; from another thread."""
        self._interrupted.set()

    def step(self) -> dict[str, Any]:
        """Evaluate; never raises for what is the candidate's fault."""
        candidate, desk = self._candidate, self._work.desk
        try:
            gate = DeskGate(desk, self._interrupted)
            gate.wait_for_start(candidate)
            outcome: Outcome | Postponed = evaluate(candidate, self._work.place.setup, self._run, gate, self._knows)
        except StoppedError as error:
            outcome = Failed("start", error.kind, error.message)
        except (StoreError, HardwareGoneError) as error:
            # The job must stop, and be resumable once that is mended.
            desk.stop()
            return {"done": True, "kind": "stopped", "stopped_by": pickle.dumps(error).hex()}
        finally:
            desk.leave(candidate.id)
        # As text: Tune flattens nested results, and its loggers try to plot them.
        if isinstance(outcome, Postponed):
            return {"done": True, "kind": "postponed", "postponed": json.dumps(to_json(outcome))}
        return {
            "done": True,
            "kind": outcome_name(outcome),
            "outcome": json.dumps(outcome_to_json(outcome)),
            **_metrics(outcome),
        }

    def _run(self, stage: Stage) -> Result:
        candidate, work = self._candidate, self._work
        doing = stage_name(stage, candidate)

        def must_stop() -> bool:
            return work.desk.heartbeat(candidate.id, doing) or self._interrupted.is_set()

        name = task_name(stage, candidate, work.place.metrics.job)
        return run_stage(placed(stage, candidate, work.desk.settled), work.place, work.store, must_stop, name)

    def _knows(self, stage: Stage) -> bool:
        return self._work.store.get(stage.key) is not None

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: what a candidate has finished is in the store."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing."""


@dataclass(frozen=True)
class _Work:
    """What all candidates of the job that runs need."""

    place: Place
    desk: TrainingDesk
    store: Store


# Tune makes the trials, from what it can pickle; a process runs one job at a time.
_work: _Work | None = None


@contextmanager
def at_work(place: Place, desk: TrainingDesk, store: Store) -> Iterator[None]:
    """Within the context, trials are those of this job."""
    global _work  # noqa: PLW0603 (the process's, like Ray's cluster)
    _work = _Work(place, desk, store)
    try:
        yield
    finally:
        _work = None


def placed(stage: Stage, candidate: Candidate, settled: Callable[[], bool]) -> Stage:
    """Where a stage of the candidate runs: the first networks are built at the training's own priority.

    Left to what others leave over, twenty seconds of work on one take four minutes, and the trainer stands idle or bets on the
    network that came first.

    Args:
        stage: to run.
        candidate: whose stage it is.
        settled: whether builders can be spared.
    """
    hurries = stage.role is Role.BUILDER and plan.trains(candidate) and not settled()
    return replace(stage, role=Role.FINISHER) if hurries else stage


def _metrics(outcome: Outcome) -> dict[str, float]:
    """What Tune's callbacks and table show."""
    if isinstance(outcome, Measured):
        measured = outcome.measurement
        return {
            "score": measured.score.value,
            "latency_ms": measured.latency_ms.value,
            "speedup": measured.speedup.value,
            "score_drop": measured.score_drop.value,
        }
    if isinstance(outcome, Eliminated) and outcome.speedup is not None:
        return {"speedup": outcome.speedup}
    return {}
