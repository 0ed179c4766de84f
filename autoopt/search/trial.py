"""A candidate as a Tune trial: a light coordinator that waits for its stages, which run as Ray tasks elsewhere."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ray
from ray import tune

from autoopt.errors import StoreError
from autoopt.records import Candidate, Outcome, from_json, outcome_to_json, to_json
from autoopt.records.outcome import Eliminated, Failed, Measured, outcome_name
from autoopt.search.naming import stage_name, task_name
from autoopt.search.remote import DeskGate, HardwareGoneError, Place, StoppedError, run_stage
from autoopt.workers.entry import Postponed, evaluate
from autoopt.workers.stages import plan
from autoopt.workers.stages.execute import Result
from autoopt.workers.stages.stage import Role, Stage
from autoopt.workers.store import open_store

# A trial waits nearly all the time. Zero is refused by Tune's placement groups.
TRIAL_CPUS = 0.001


class CandidateTrial(tune.Trainable):  # type: ignore[misc]  # Ray has no types
    """One step: evaluate the candidate in ``config``; the outcome is the result."""

    def setup(self, config: dict[str, Any], place: Place, desk: Any) -> None:
        """Once a process; later candidates come by `reset_config`."""
        self.config = config
        self._place = place
        self._desk = desk
        self._store = open_store(place.store)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take another candidate in the same process: a new one costs a second."""
        self.config = new_config
        return True

    def step(self) -> dict[str, Any]:
        """Evaluate; never raises for what is the candidate's fault."""
        candidate = from_json(Candidate, self.config["candidate"])
        try:
            gate = DeskGate(self._desk)
            gate.wait_for_start(candidate)
            outcome: Outcome | Postponed = evaluate(
                candidate, self._place.setup, self._run(candidate), gate, self._knows
            )
        except StoppedError as error:
            outcome = Failed("start", error.kind, error.message)
        except (StoreError, HardwareGoneError) as error:
            # The job must stop, and be resumable once that is mended.
            ray.get(self._desk.stop.remote())
            return {"done": True, "kind": "stopped", "stopped_by": pickle.dumps(error).hex()}
        finally:
            ray.get(self._desk.leave.remote(candidate.id))
        # As text: Tune flattens nested results, and its loggers try to plot them.
        if isinstance(outcome, Postponed):
            return {"done": True, "kind": "postponed", "postponed": json.dumps(to_json(outcome))}
        return {
            "done": True,
            "kind": outcome_name(outcome),
            "outcome": json.dumps(outcome_to_json(outcome)),
            **_metrics(outcome),
        }

    def _run(self, candidate: Candidate) -> Any:
        def settled() -> bool:
            return bool(ray.get(self._desk.settled.remote()))

        def run(stage: Stage) -> Result:
            doing = stage_name(stage, candidate)

            def must_stop() -> bool:
                return bool(ray.get(self._desk.heartbeat.remote(candidate.id, doing)))

            name = task_name(stage, candidate, self._place.metrics.job)
            return run_stage(placed(stage, candidate, settled), self._place, self._store, must_stop, name)

        return run

    def _knows(self, stage: Stage) -> bool:
        return self._store.get(stage.key) is not None

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: what a candidate has finished is in the store."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing."""


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
