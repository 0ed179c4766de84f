"""What every candidate needs, made in the background: the reference, the first builds, the teacher's outputs.

All of it are ordinary stages in the store: whoever needs one before it is there computes it, and nobody computes it twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

from autoopt.errors import AutooptError, StageError
from autoopt.records import Candidate, StageRun
from autoopt.search.preparation import Prepared
from autoopt.search.proposals import practitioners_list
from autoopt.workers import process
from autoopt.workers.node import Node
from autoopt.workers.stages import plan
from autoopt.workers.stages.execute import Result, execute, note
from autoopt.workers.stages.stage import Role, Stage
from autoopt.workers.store.base import Store

Runner: TypeAlias = Callable[[Stage, Candidate | None, Callable[[], bool]], Result]
"""Runs a stage, of a candidate or of all; ends it within seconds once the function says so."""

# Of the practitioner's list: so many are built while the reference is measured, and measured before the search begins.
BUILT_AHEAD, MEASURED_AHEAD = 4, 2
_POLL_S = 0.5


class Groundwork:
    """``stop`` ends it between stages, and the stage at hand within seconds.

    Args:
        prepared: the job.
        node: this machine, where the cluster is the job's own: what comes first runs in processes of this one's, for those of
            the cluster take ten seconds to start. None where the cluster is there, and somebody else may be at its lane.
        store: the job's.
        logs: the job's.
        stop: see above.
        confirms_by_all: whether the reference will be confirmed by the whole test split.
        ran: hears of each stage that ran in this process.
    """

    def __init__(
        self,
        prepared: Prepared,
        node: Node | None,
        store: Store,
        logs: Path,
        stop: threading.Event,
        *,
        confirms_by_all: bool,
        ran: Callable[[Stage, StageRun], None] = lambda _stage, _run: None,
    ) -> None:
        self._node = node
        self._ran = ran
        self._confirms_by_all = confirms_by_all
        self._prepared = prepared
        self._setup = prepared.setup
        self._store = store
        self._logs = logs
        self._stop = stop
        self._over = threading.Event()
        self._runner: Runner | None = None
        self._reference: Future[None] = Future()

    def start(self) -> None:
        """Measure the reference in a thread: every measurement is paired with it, so it comes before everything else.

        On this machine before there is a cluster: this process's own have been warmed by preparing.
        """
        if self._node is not None:
            threading.Thread(target=self._lay, args=[self._run_here], name="reference", daemon=True).start()

    def _lay(self, run: Callable[[Stage, Candidate], None]) -> None:
        try:
            self._lay_reference(run)
        except Exception as error:  # noqa: BLE001 (a thread's boundary: who waits for the reference raises it)
            self._reference.set_exception(error)
        else:
            self._reference.set_result(None)

    def reference(self) -> None:
        """Wait until it has been measured, or until the job stops. On a shared cluster only what `beside` has begun is waited for.

        Raises:
            AutooptError: it could not be measured.
        """
        if self._node is not None or self._runner is not None:
            self._reference.result()

    def _lay_reference(self, run: Callable[[Stage, Candidate], None]) -> None:
        setup = self._setup
        try:
            for stage in self._unchanged(setup.reference):
                run(self._first_of_all(stage), setup.reference)
        except StageError as error:
            if error.kind.transient and self._stopping():
                return
            message = (
                f"the reference ({setup.reference.describe()}) could not be measured: {error.message} "
                f"The logs are in {self._logs}"
            )
            raise AutooptError(message) from error

    def _first_of_all(self, stage: Stage) -> Stage:
        """A stage of the reference, which everybody waits for: it is no builder, who gets what others leave over."""
        if self._node:
            return replace(stage, role=Role.LANE)
        return replace(stage, role=Role.FINISHER) if stage.role is Role.BUILDER else stage

    def _run_here(self, stage: Stage, _candidate: Candidate | None = None) -> None:
        """In a process of this one's."""
        assert self._node is not None, "it is this machine that works"
        with self._store.lock(stage.key), ThreadPoolExecutor(1) as pool:
            pending = pool.submit(execute, stage, self._setup, self._store, self._logs, self._node)
            while not wait([pending], _POLL_S).done:
                if self._stopping():
                    process.shutdown()
            run = pending.result().run
            note(run, self._logs)
            self._ran(stage, run)

    @contextmanager
    def beside(
        self,
        run: Runner,
        ready: Callable[[], None],
        failed: Callable[[Exception], None],
        trains: Callable[[], bool],
        settled: Callable[[], bool],
        *,
        new: bool = True,
    ) -> Iterator[None]:
        """All the rest in a thread, as long as the context lasts.

        Args:
            run: runs a stage on the cluster.
            ready: called when the reference has been measured.
            failed: called where it could not be, or the store fails.
            trains: whether a candidate trains.
            settled: whether builders can be spared.
            new: whether no earlier job is known. Else there may be nothing to train, and what that job built and did not measure it has
                eliminated: nobody measures it ahead of its turn.
        """
        self._runner = run

        def work() -> None:
            # Whoever uses the cluster must have ended before it does: else Ray ends the process without a word.
            with ThreadPoolExecutor(2) as pool:
                try:
                    if self._node is None and self._alone:
                        self._lay(self._run_there)  # what is built meanwhile would keep it from the node
                    built = self._build_meanwhile(pool)
                    if self._node is None and not self._alone:
                        self._lay(self._run_there)
                    self.reference()
                    if new:
                        self._measure_first(built)
                    ready()
                    if not new:
                        self._await(trains)
                    self._foresee(trains)
                    self._await(settled)
                    self._prepare_the_end()
                except Exception as error:  # noqa: BLE001 (a thread's boundary: the search raises it again, or it would wait forever)
                    failed(error)

        thread = threading.Thread(target=work, name="groundwork", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    @property
    def _alone(self) -> bool:
        """Whether the reference can only be measured while nothing else runs on its node."""
        return self._setup.hardware_of(self._setup.reference.deployment).exclusive

    def _build_meanwhile(self, pool: ThreadPoolExecutor) -> list[Future[None]]:
        """While the reference is measured; what is measured next is then only to be measured."""
        built = [pool.submit(self._try, partial(self._built, candidate), candidate) for candidate in self._first()]
        pool.submit(self._try, lambda: self._taught()[:1], None)  # the first training waits for them
        return built

    def _first(self) -> list[Candidate]:
        return [proposal.candidate for proposal in practitioners_list(self._prepared.space)][:BUILT_AHEAD]

    def _measure_first(self, built: list[Future[None]]) -> None:
        """The first configs, as soon as they are built: their coordinators are still starting, and the lane's own worker, too.

        Only the first one is waited for: quantizing a text encoder takes a minute, in which everybody else would wait, too.
        """
        for index, (candidate, done) in enumerate(zip(self._first()[:MEASURED_AHEAD], built, strict=False)):
            if index and not done.done():
                return
            done.result()
            self._try(partial(self._last_of, candidate), candidate, self._run_here if self._node else self._run_there)

    def _last_of(self, candidate: Candidate) -> tuple[Stage, ...]:
        return self._unchanged(candidate)[-1:]

    def _foresee(self, trains: Callable[[], bool]) -> None:
        """The teacher's outputs that a training reads.

        As soon as somebody trains, they are left to the training, which computes them at its own priority; before, they only take
        what the first networks' builders leave over.
        """
        for stage in self._taught():
            if trains():
                break
            with suppress(StageError):
                self._run_there(stage, None)

    def _prepare_the_end(self) -> None:
        """The original's outputs on the test split, and the reference there.

        The reference is the slowest of all that is confirmed, and the only one of which it is known from the beginning that it will
        be; the lane is idle half of the time in the middle of a search and never at its end.
        """
        self._try(partial(self._originals, "test"), None)
        if self._confirms_by_all and not self._over.is_set():
            self._try(partial(self._unchanged, self._setup.reference, "test"), self._setup.reference)

    def _await(self, true: Callable[[], bool]) -> None:
        while not true() and not self._over.wait(1.0):
            pass

    def _taught(self) -> list[Stage]:
        epochs = min(1.0, max(self._setup.rungs, default=0.0))
        return [replace(stage, role=Role.BUILDER) for stage in plan.teachers(epochs, self._setup)]

    def _originals(self, split: str) -> list[Stage]:
        # Not as a builder: the reference waits for them, and without it there the whole test split is not judged in time.
        return [replace(plan.original_outputs(split, self._setup), role=Role.FINISHER)]

    def _unchanged(self, candidate: Candidate, split: str = "validation") -> tuple[Stage, ...]:
        return plan.measurement(candidate, plan.original(self._setup), self._setup, split).stages

    def _built(self, candidate: Candidate) -> tuple[Stage, ...]:
        return tuple(replace(stage, role=Role.FINISHER) for stage in self._unchanged(candidate)[:-1])

    def _try(
        self,
        stages: Callable[[], Iterable[Stage]],
        candidate: Candidate | None,
        run: Callable[[Stage, Candidate | None], None] | None = None,
    ) -> None:
        """What cannot be planned or fails here fails again where it is needed, as that candidate's own outcome."""
        with suppress(StageError):
            for stage in stages():
                (run or self._run_there)(stage, candidate)

    def _run_there(self, stage: Stage, candidate: Candidate | None) -> None:
        """On the cluster."""
        assert self._runner is not None, "it is set before anything runs there"
        self._runner(stage, candidate, self._stopping)

    def _stopping(self) -> bool:
        return self._over.is_set() or self._stop.is_set()
