"""A job's front from what is on disk, while the job runs or long after."""

from __future__ import annotations

import json
from collections.abc import Sequence
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


def stored_front(folder: JobFolder, study: str | None = None, rows: Sequence[Row] | None = None) -> Front | None:
    """The best so far; None until the reference has been measured. Exports as long as the store has the artifacts.

    Args:
        folder: the job's.
        study: see `stored_rows`.
        rows: what `stored_rows` has read already.
    """
    setup = setup_of(folder)
    if setup is None:
        return None
    from autoopt.search.bundling import Exporter
    from autoopt.search.results import front_of, name_of, read_confirmed

    task = open_task(folder)
    name = name_of(setup.reference)
    exporter = None if task is None else Exporter(folder.path.name, task, _store(folder), name)
    found = stored_rows(folder, study) if rows is None else rows
    return front_of(found, setup.reference, read_confirmed(folder), folder.state().progress.metric, exporter)


def stored_rows(folder: JobFolder, study: str | None = None) -> list[Row]:
    """Every candidate that has ended: number, candidate, outcome. Reads the study and changes nothing.

    Args:
        folder: the job's.
        study: the URL of its study, where its files hold it without the password; see `autoopt.job`.

    Raises:
        JobError: the journal cannot be read.
        UserError, StudyError: the database cannot be read.
    """
    from autoopt.search.storage import read_ended, study_name
    from autoopt.search.study_url import known_study
    from autoopt.search.telling import decided_of

    spec = folder.spec()
    where = known_study(spec.study, study)
    try:
        ended = read_ended(where, folder.study_path, study_name(where, spec.name))
    except ValueError as error:
        message = (
            f"the study {folder.study_path} cannot be read: {error}. `autoopt resume {folder.path}` mends a half line"
        )
        raise JobError(message) from error
    decided = [decided_of(trial) for trial in ended]
    return [(entry.number, entry.candidate, entry.outcome) for entry in decided]


def setup_of(folder: JobFolder) -> Setup | None:
    """What all candidates share; None where the job never came so far."""
    from autoopt.workers.stages.setup import Setup

    if not folder.setup_path.exists():
        return None
    return from_json(Setup, json.loads(folder.setup_path.read_text()))


def open_task(folder: JobFolder) -> PreparedTask | None:
    """The prepared task, of which no code is run here; None where there is none, or the store no longer has it."""
    from autoopt.task.prepared import PreparedTask

    setup = setup_of(folder)
    place = None if setup is None else _store(folder).get(setup.task_key)
    return None if place is None else PreparedTask.open(place, code=False)


def _store(folder: JobFolder) -> Store:
    from autoopt.workers.store import address_of, open_store

    return open_store(address_of(folder.spec().store))
