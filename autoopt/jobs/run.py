"""The entry of a background job's process: ``main([folder, controller])``."""

from __future__ import annotations

import os
import pickle
import traceback
from pathlib import Path
from typing import Any

from autoopt.errors import AutooptError
from autoopt.jobfolder import JobFolder
from autoopt.jobs.execute import CONTROLLER, Extras, execute
from autoopt.search.study_url import VARIABLE, parse_study

CALLBACKS = "callbacks.pkl"


def main(arguments: list[str]) -> None:
    """Run the job of a folder to its end; what is printed is the job's log."""
    path, *controller = arguments
    folder = JobFolder(Path(path))
    # By the environment, for the process list shows command lines; and out of it, for this process starts others.
    given = os.environ.pop(VARIABLE, None)
    study = None if given is None else parse_study(given)
    try:
        execute(folder, Extras(**saved_callbacks(folder.path), study=study), *(controller or [CONTROLLER]))
    except AutooptError:
        traceback.print_exc()  # into the log; the state says it in words
        raise SystemExit(1) from None


def save_callbacks(folder: Path, callbacks: tuple[Any, ...], stopper: Any) -> None:
    """Keep what only Python objects can say for the job's own process."""
    import cloudpickle

    (folder / CALLBACKS).write_bytes(cloudpickle.dumps({"callbacks": callbacks, "stopper": stopper}))


def saved_callbacks(folder: Path) -> dict[str, Any]:
    """The fields of `Extras` that `save_callbacks` has kept."""
    path = folder / CALLBACKS
    found: dict[str, Any] = pickle.loads(path.read_bytes()) if path.exists() else {}
    return found
