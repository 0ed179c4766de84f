"""What earlier jobs on the same store found out about the same task and space: asked for again before anything new.

Their stages lie in the store, so it costs next to nothing: a job that is run again stands where the last one ended, and
goes on from there. The measured ones come first; those that were eliminated meet a front that eliminates them at once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from autoopt.records import Candidate, Eliminated, Failed, Measured, canonical_json, digest, from_json
from autoopt.search.conductor import Row
from autoopt.search.telling import Proposal
from autoopt.space import Space
from autoopt.workers.stages.setup import Setup
from autoopt.workers.store.base import Store

WHY = "an earlier job on this store tried it"
_ORDER = {Measured.__name__: 0, Eliminated.__name__: 1, Failed.__name__: 2}


class History:
    """The memory of one task and space in a store."""

    def __init__(self, store: Store, space: Space, setup: Setup) -> None:
        self._store = store
        self._topic = digest({"history": setup.task_key, "space": space.fingerprint, "reference": setup.reference})
        self._read = {candidate.id: (candidate, kind) for candidate, kind in self._lines()}
        self._known = set(self._read)

    def proposals(self) -> list[Proposal]:
        """What was decided before, the measured first, each group in the order in which it was decided."""
        ordered = sorted(self._read.values(), key=lambda entry: _ORDER.get(entry[1], len(_ORDER)))
        return [Proposal(candidate, WHY) for candidate, _ in ordered]

    def learn(self, rows: Sequence[Row]) -> None:
        """Remember what has been decided since."""
        for _, candidate, outcome in rows:
            if candidate.id not in self._known:
                self._known.add(candidate.id)
                line = {"candidate": candidate, "outcome": type(outcome).__name__}
                self._store.note(self._topic, canonical_json(line))

    def _lines(self) -> list[tuple[Candidate, str]]:
        decoded = [json.loads(line) for line in self._store.notes(self._topic)]
        return [(from_json(Candidate, line["candidate"]), line["outcome"]) for line in decoded]
