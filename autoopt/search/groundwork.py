"""What every candidate needs, made in the background while Tune starts: the reference, the first builds, the teacher's outputs.

All of it are ordinary stages in the store: whoever needs one before it is there computes it, and nobody computes it twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial

from autoopt.errors import AutooptError, StageError
from autoopt.records import Candidate
from autoopt.search.preparation import Prepared
from autoopt.search.proposals import practitioners_list
from autoopt.search.remote import Place, run_stage
from autoopt.workers.stages import plan
from autoopt.workers.stages.stage import Role, Stage
from autoopt.workers.store.local import LocalStore

# Of the practitioner's list, while the reference is measured.
BUILT_MEANWHILE, MEASURED_AHEAD = 4, 4


class Groundwork:
    """``stop`` ends it between stages, and the stage at hand within seconds."""

    def __init__(self, prepared: Prepared, place: Place, store: LocalStore, stop: threading.Event) -> None:
        self._prepared = prepared
        self._setup = prepared.setup
        self._place = place
        self._store = store
        self._stop = stop
        self._over = threading.Event()

    def lay_reference(self) -> None:
        """Measure the reference: every measurement is paired with it, so it comes before everything else.

        Raises:
            AutooptError: it could not be measured.
        """
        setup = self._setup
        beside = ThreadPoolExecutor(2)
        # Builders have nothing to do meanwhile; what is measured next is then only to be measured.
        beside.submit(self._try, partial(self._originals, "validation"))
        for proposal in practitioners_list(self._prepared.space)[:BUILT_MEANWHILE]:
            beside.submit(self._try, partial(self._built, proposal.candidate))
        beside.submit(self._try, lambda: self._taught()[:1])  # the first training waits for them
        try:
            self._run(self._unchanged(setup.reference))
        except StageError as error:
            if error.kind.transient and self._stopping():
                return
            message = (
                f"the reference ({setup.reference.describe()}) could not be measured: {error.message} "
                f"The logs are in {self._place.logs}"
            )
            raise AutooptError(message) from error
        finally:
            beside.shutdown(wait=False)

    @contextmanager
    def beside(
        self, ready: Callable[[], None], failed: Callable[[Exception], None], trains: Callable[[], bool]
    ) -> Iterator[None]:
        """All of it in a thread, as long as the context lasts.

        Args:
            ready: called when the reference has been measured.
            trains: whether a candidate trains.
            failed: called where it could not be, or the store fails.
        """

        def work() -> None:
            try:
                self.lay_reference()
                ready()
                self._measure_first()
                self._foresee(trains)
            except Exception as error:  # noqa: BLE001 (a thread's boundary: the search raises it again, or it would wait forever)
                failed(error)

        thread = threading.Thread(target=work, name="groundwork", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _measure_first(self) -> None:
        """The first configs, whose coordinators may still be starting: the lane would wait for them."""
        for proposal in practitioners_list(self._prepared.space)[:MEASURED_AHEAD]:
            self._try(partial(self._unchanged, proposal.candidate))

    def _foresee(self, trains: Callable[[], bool]) -> None:
        """The teacher's outputs that a training reads, then the original's on the test split, for the end.

        By a builder, whose processes get what is left over, and when the first candidates have been built, which everybody
        waits for.
        """
        while not trains() and not self._over.wait(1.0):
            pass
        self._try(self._taught)
        self._try(partial(self._originals, "test"))

    def _taught(self) -> list[Stage]:
        epochs = min(1.0, max(self._setup.rungs, default=0.0))
        return [replace(stage, role=Role.BUILDER) for stage in plan.teachers(epochs, self._setup)]

    def _originals(self, split: str) -> list[Stage]:
        return [plan.original_outputs(split, self._setup)]

    def _unchanged(self, candidate: Candidate) -> tuple[Stage, ...]:
        return plan.measurement(candidate, plan.original(self._setup), self._setup, "validation").stages

    def _built(self, candidate: Candidate) -> tuple[Stage, ...]:
        return self._unchanged(candidate)[:-1]

    def _try(self, stages: Callable[[], Iterable[Stage]]) -> None:
        """What cannot be planned or fails here fails again where it is needed, as that candidate's own outcome."""
        with suppress(StageError):
            self._run(stages())

    def _run(self, stages: Iterable[Stage]) -> None:
        for stage in stages:
            run_stage(stage, self._place, self._store, self._stopping)

    def _stopping(self) -> bool:
        return self._over.is_set() or self._stop.is_set()
