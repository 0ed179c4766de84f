"""What earlier jobs on the same store have measured is told at once: nobody is asked, and no process is started for it."""

from __future__ import annotations

from collections.abc import Iterable

from autoopt.errors import FailureKind, StageError
from autoopt.records import Measured
from autoopt.search.budget import BudgetClock
from autoopt.search.study import CandidateStudy
from autoopt.search.telling import Proposal
from autoopt.workers.entry import OpenGate, evaluate
from autoopt.workers.stages.execute import Result, find
from autoopt.workers.stages.setup import Setup
from autoopt.workers.stages.stage import Stage
from autoopt.workers.store.base import Store


def recall(
    study: CandidateStudy, proposals: Iterable[Proposal], setup: Setup, store: Store, clock: BudgetClock
) -> None:
    """Tell a new study all measurements that the store has of these, as far as the budget's candidates go.

    Who was eliminated is not told but asked again: the front that he meets may be another one.
    """
    if study.waits or study.outcomes():
        return  # it goes on: what waits comes first, and knows what was decided

    def run(stage: Stage) -> Result:
        found = find(stage, store)
        if found is None:
            raise StageError(FailureKind.INTERRUPTED, "the store has lost it")
        return found

    def known(stage: Stage) -> bool:
        return store.get(stage.key) is not None

    count = 0
    for proposal in proposals:
        if clock.left(count) == 0:
            return
        outcome = evaluate(proposal.candidate, setup, run, OpenGate(), known)
        if isinstance(outcome, Measured):
            study.record(proposal, outcome)
            count += 1
