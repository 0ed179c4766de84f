"""Tune asks us, not the other way round: a Tune searcher that passes on what the conductor says."""

from __future__ import annotations

import json
import pickle
from typing import Any

from ray.tune.search import Searcher

from autoopt.errors import AutooptError, FailureKind
from autoopt.records import Failed, Outcome, from_json, outcome_from_json, to_json
from autoopt.search.conductor import Conductor
from autoopt.workers.entry import Postponed


class ConductorSearcher(Searcher):  # type: ignore[misc]  # Ray has no types
    """Keeps no state of its own: the study is the only truth, so Tune's own saving and restoring does nothing."""

    def __init__(self, conductor: Conductor) -> None:
        super().__init__()
        self._conductor = conductor
        self._running: dict[str, int] = {}

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:  # noqa: ARG002 (Tune's)
        """Objectives and space are the conductor's."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next candidate's config, None where there is none at the moment, FINISHED where there will be none."""
        if self._conductor.finished:
            finished: str = Searcher.FINISHED
            return finished
        asked = self._conductor.next()
        if asked is None:
            return None
        number, candidate = asked
        self._running[trial_id] = number
        return {"number": number, "candidate": to_json(candidate)}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:  # noqa: FBT001, FBT002, ARG002 (Tune's)
        """Tell the conductor. A trial without a result died with its process: nobody's fault, tried again."""
        number = self._running.pop(trial_id)
        postponed = (result or {}).get("postponed")
        if postponed is not None:
            self._conductor.postpone(number, from_json(Postponed, json.loads(postponed)))
            return
        told = (result or {}).get("outcome")
        if told is None:
            stopped_by = (result or {}).get("stopped_by")
            message = "the candidate's coordinating process died"
            if stopped_by is not None:
                cause: AutooptError = pickle.loads(bytes.fromhex(stopped_by))
                self._conductor.abort(cause)
                message = str(cause)
            outcome: Outcome = Failed("trial", FailureKind.INTERRUPTED, message)
        else:
            outcome = outcome_from_json(json.loads(told))
        self._conductor.tell(number, outcome)

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its configuration for a restoration that we never ask for: the conductor stays behind."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: a resumed job is a new Tuner on the same study."""
