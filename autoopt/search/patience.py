"""A storage that outlives its server's restart: what fails because nobody answers is tried again until somebody does.

Trying again is safe, though a connection that breaks may leave open whether the call took place:

* reading changes nothing;
* setting an attribute or a parameter twice sets it once;
* a trial is made under a nonce, and found by it (`autoopt.search.database.OnceStorage`);
* a trial that was begun or ended is in that state already: Optuna refuses the second call, and the state tells that the first one
  was ours, since a study has one writer;
* a study of that name exists already.

And nothing can come in between: a transaction that was cut off holds its locks until the server has given it up, and whoever
tries again waits for them.
"""

from __future__ import annotations

import copy
import gc
import logging
import time
import weakref
from collections.abc import Callable, Collection, Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from uuid import uuid4

from optuna.distributions import BaseDistribution
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState, create_trial

from autoopt.errors import StudyError
from autoopt.search.database import NONCE, OnceStorage, is_databases, refused, trouble
from autoopt.search.study_url import StudyUrl

T = TypeVar("T")
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
SAY_EVERY_S = 30.0
_LOOK_S = 0.2

logger = logging.getLogger(__name__)


class Patience:
    """How long one waits for a database that does not answer, all calls together: once it is at its end, nobody waits any more."""

    def __init__(self, url: StudyUrl, limit_s: float, must_stop: Callable[[], bool] = lambda: False) -> None:
        """Wait for so many seconds at most, and not at all when the job must stop."""
        self._url = url
        self._limit_s = limit_s
        self._must_stop = must_stop
        self._spent = False

    def keep_trying(self, act: Callable[[bool], T]) -> T:
        """The result of ``act``; its argument says whether it may have taken place before.

        Raises:
            StudyError: the database refuses, or has not answered for too long.
        """
        began, said_at, pause_s, again = time.monotonic(), None, FIRST_PAUSE_S, False
        while True:
            try:
                result = act(again)
            except Exception as error:
                if not is_databases(error):
                    raise
                found = trouble(error, self._url)
                if not found.passing or not self._limit_s:
                    raise refused(error, self._url) from None
                waited_s = time.monotonic() - began
                if self._spent or waited_s >= self._limit_s or self._must_stop():
                    raise self._given_up(found.said, waited_s) from None
                if said_at is None or time.monotonic() - said_at >= SAY_EVERY_S:
                    said_at = time.monotonic()
                    logger.warning(
                        "the study's database %s does not answer (%s); waiting for it, up to %.0f s more",
                        self._url,
                        found.said,
                        self._limit_s - waited_s,
                    )
                self._pause(min(pause_s, self._limit_s - waited_s))
                pause_s, again = min(2 * pause_s, LONGEST_PAUSE_S), True
            else:
                if said_at is not None:
                    logger.warning(
                        "the study's database %s answers again, after %.1f s", self._url, time.monotonic() - began
                    )
                self._spent = False
                return result

    def _pause(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0 and not self._must_stop():
            time.sleep(min(left, _LOOK_S))

    def _given_up(self, said: str, waited_s: float) -> StudyError:
        self._spent = True
        message = (
            f"the study's database {self._url} has not answered for {waited_s:.0f} s ({said}); the job stops. What was told "
            "is safe, and `autoopt resume` goes on as soon as the database answers again"
        )
        return StudyError(message)


class PatientStorage(BaseStorage):
    """Optuna's storage in a database, with patience."""

    def __init__(self, storage: OnceStorage, patience: Patience) -> None:
        self._storage = storage
        self._patience = patience
        self._numbers: dict[int, int] = {}
        self._end_connections = weakref.finalize(self, storage.engine.dispose)

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        """Optuna's; one that was made by a call whose answer was lost is that study."""

        def create(again: bool) -> int:  # noqa: FBT001 (Patience's)
            try:
                return self._storage.create_new_study(directions, study_name)
            except DuplicatedStudyError:
                if not again or study_name is None:
                    raise
                return self._storage.get_study_id_from_name(study_name)

        return self._patience.keep_trying(create)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Optuna's; once, however often it is tried."""
        nonce = uuid4().hex
        template = copy.copy(template_trial) if template_trial else create_trial(state=TrialState.RUNNING)
        template.system_attrs = {**template.system_attrs, NONCE: nonce}
        made = self._patience.keep_trying(lambda _: self._storage._create_new_trial(study_id, template))  # noqa: SLF001 (returns the number, too)
        self._storage.forget(nonce)
        self._numbers[made._trial_id] = made.number  # noqa: SLF001 (Optuna's own way)
        return made._trial_id  # noqa: SLF001 (likewise)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Optuna's; a state that a call set whose answer was lost is set."""

        def change(again: bool) -> bool:  # noqa: FBT001 (Patience's)
            try:
                changed = self._storage.set_trial_state_values(trial_id, state, values)
            except UpdateFinishedTrialError:
                if not again or not self._is_so(trial_id, state, values):
                    raise
                return True
            return changed or (again and self._is_so(trial_id, state, values))

        return self._patience.keep_trying(change)

    def _is_so(self, trial_id: int, state: TrialState, values: Sequence[float] | None) -> bool:
        trial = self._storage.get_trial(trial_id)
        return trial.state is state and (values is None or trial.values == list(values))

    def delete_study(self, study_id: int) -> None:
        """Optuna's."""

        def delete(again: bool) -> None:  # noqa: FBT001 (Patience's)
            try:
                self._storage.delete_study(study_id)
            except KeyError:
                if not again:
                    raise

        self._patience.keep_trying(delete)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Optuna's."""
        self._patience.keep_trying(lambda _: self._storage.set_study_user_attr(study_id, key, value))

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Optuna's."""
        self._patience.keep_trying(lambda _: self._storage.set_study_system_attr(study_id, key, value))

    def get_study_id_from_name(self, study_name: str) -> int:
        """Optuna's."""
        return self._patience.keep_trying(lambda _: self._storage.get_study_id_from_name(study_name))

    def get_study_name_from_id(self, study_id: int) -> str:
        """Optuna's."""
        return self._patience.keep_trying(lambda _: self._storage.get_study_name_from_id(study_id))

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Optuna's."""
        return self._patience.keep_trying(lambda _: self._storage.get_study_directions(study_id))

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Optuna's."""
        return self._patience.keep_trying(lambda _: self._storage.get_study_user_attrs(study_id))

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Optuna's."""
        return self._patience.keep_trying(lambda _: self._storage.get_study_system_attrs(study_id))

    def get_all_studies(self) -> list[FrozenStudy]:
        """Optuna's."""
        return self._patience.keep_trying(lambda _: self._storage.get_all_studies())

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """Optuna's."""
        self._patience.keep_trying(
            lambda _: self._storage.set_trial_param(trial_id, param_name, param_value_internal, distribution)
        )

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """Optuna's."""
        self._patience.keep_trying(
            lambda _: self._storage.set_trial_intermediate_value(trial_id, step, intermediate_value)
        )

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Optuna's."""
        self._patience.keep_trying(lambda _: self._storage.set_trial_user_attr(trial_id, key, value))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Optuna's."""
        self._patience.keep_trying(lambda _: self._storage.set_trial_system_attr(trial_id, key, value))

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Optuna's."""
        return self._patience.keep_trying(lambda _: self._storage.get_trial(trial_id))

    def get_trial_number_from_id(self, trial_id: int) -> int:
        """Optuna's; known without asking of what was made here."""
        if trial_id not in self._numbers:
            self._numbers[trial_id] = self.get_trial(trial_id).number
        return self._numbers[trial_id]

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        """Optuna's."""
        return self._patience.keep_trying(
            lambda _: self._storage.get_trial_id_from_study_id_trial_number(study_id, trial_number)
        )

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,  # noqa: FBT001, FBT002 (Optuna's)
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """Optuna's."""
        return self._patience.keep_trying(lambda _: self._storage.get_all_trials(study_id, deepcopy, states))

    def read_trials(self, study_id: int, states: Collection[TrialState] | None = None) -> list[FrozenTrial]:
        """See `OnceStorage.read_trials`."""
        with _uncollected():
            return self._patience.keep_trying(lambda _: self._storage.read_trials(study_id, states))

    def remove_session(self) -> None:
        """Give this thread's connection back."""
        self._storage.remove_session()

    def close(self) -> None:
        """End all connections."""
        self._storage.remove_session()
        self._end_connections()


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the search for garbage: nothing that is read is any, and half of the time went there."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
