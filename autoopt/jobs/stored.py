"""A job's front from what is on disk, while the job runs or long after."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from autoopt.errors import JobError
from autoopt.jobfolder import JobFolder
from autoopt.records import from_json

if TYPE_CHECKING:
    from autoopt.front import Front
    from autoopt.search.results import Row
    from autoopt.task import PreparedTask
    from autoopt.workers.stages.setup import Setup
    from autoopt.workers.store import Store


def stored_front(folder: JobFolder) -> Front | None:
    """The best so far; None until the reference has been measured. Exports as long as the store has the artifacts."""
    setup = setup_of(folder)
    if setup is None:
        return None
    from autoopt.search.bundling import Exporter
    from autoopt.search.results import front_of, name_of, read_confirmed

    task = open_task(folder)
    name = name_of(setup.reference)
    exporter = None if task is None else Exporter(folder.path.name, task, _store(folder), name)
    rows, confirmed = stored_rows(folder), read_confirmed(folder)
    return front_of(rows, setup.reference, confirmed, folder.state().progress.metric, exporter)


def stored_rows(folder: JobFolder) -> list[Row]:
    """Every candidate that has ended: number, candidate, outcome. Reads the study and changes nothing.

    Raises:
        JobError: the study cannot be read.
    """
    if not folder.study_path.exists():
        return []
    import optuna
    from optuna.trial import TrialState

    from autoopt.search.journal import open_journal
    from autoopt.search.study import NAME
    from autoopt.search.telling import decided_of

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.load_study(study_name=NAME, storage=open_journal(folder.study_path, writable=False))
    except KeyError:
        return []  # the journal is there, the study not yet
    except ValueError as error:
        message = (
            f"the study {folder.study_path} cannot be read: {error}. `autoopt resume {folder.path}` mends a half line"
        )
        raise JobError(message) from error
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    decided = [decided_of(trial) for trial in ended]
    return [(entry.number, entry.candidate, entry.outcome) for entry in decided]


def setup_of(folder: JobFolder) -> Setup | None:
    """What all candidates share; None where the job never came so far."""
    from autoopt.workers.stages.setup import Setup

    if not folder.setup_path.exists():
        return None
    return from_json(Setup, json.loads(folder.setup_path.read_text()))


def open_task(folder: JobFolder) -> PreparedTask | None:
    """The prepared task; None where there is none, or the store no longer has it."""
    from autoopt.task.prepared import PreparedTask

    setup = setup_of(folder)
    place = None if setup is None else _store(folder).get(setup.task_key)
    return None if place is None else PreparedTask.open(place)


def _store(folder: JobFolder) -> Store:
    from autoopt.workers.store import default_store, open_store

    return open_store(folder.spec().store or default_store())
