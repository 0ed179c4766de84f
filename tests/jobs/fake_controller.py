"""A search of a few milliseconds: what it does is said by the job's seed."""

import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from autoopt.errors import TaskError
from autoopt.jobfolder import FrontEntry, JobFolder, Progress

WELL, REFUSE, UNTIL_STOPPED, STUBBORN, DIE, BUG, ENVIRONMENT, LEAVE, STUDY = range(9)
ENTRY = FrontEntry("0123456789ab", "network unchanged", speedup=9.25, latency_ms=0.5, score=0.93, score_drop=0.001)


def run_job(folder: JobFolder, options: Any) -> None:
    _ACTIONS[folder.spec().seed](folder, options)


def _tell(folder: JobFolder, options: Any, progress: Progress) -> None:
    folder.update(progress=progress)
    if options.on_progress:
        options.on_progress(progress)


def _well(folder: JobFolder, options: Any) -> None:
    used = folder.state().progress.seconds_used
    for callback in options.callbacks:
        callback(folder.path)
    for decided in range(3):
        progress = Progress("searching", measured=decided, front=(ENTRY,), best=ENTRY, metric="accuracy")
        print(f"decided {decided}")
        _tell(folder, options, replace(progress, seconds_used=used + decided, dashboard="http://127.0.0.1:8265"))
    folder.report_path.write_text("<html></html>")


def _refuse(folder: JobFolder, options: Any) -> None:
    message = "the task is no good; mend it"
    raise TaskError(message)


def _until_stopped(folder: JobFolder, options: Any) -> None:
    folder.study_path.touch()
    _tell(folder, options, Progress("searching", measured=1, best=ENTRY, front=(ENTRY,)))
    while not options.stop.wait(0.02):
        pass
    folder.report_path.write_text("<html>so far</html>")


def _stubborn(folder: JobFolder, options: Any) -> None:
    _tell(folder, options, Progress("searching"))
    while True:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            continue


def _die(folder: JobFolder, options: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _leave(folder: JobFolder, options: Any) -> None:
    child = subprocess.Popen(["sleep", "60"])
    (folder.path / "left").write_text(str(child.pid))
    os.kill(os.getpid(), signal.SIGKILL)


def _bug(folder: JobFolder, options: Any) -> None:
    return SimpleNamespace().nothing  # type: ignore[no-any-return]  # an AttributeError, as bugs are


def _environment(folder: JobFolder, options: Any) -> None:
    print(f"session {os.getsid(0) == os.getpid()}", f"stdin {Path('/proc/self/fd/0').readlink()}")


def _study(folder: JobFolder, options: Any) -> None:
    """Leave a trial in the study, and say what others could see of its URL."""
    from optuna.trial import TrialState, create_trial

    from autoopt.search.storage import open_storage, study_name
    from autoopt.search.study_url import VARIABLE, known_study

    where = options.study or known_study(folder.spec().study)
    storage = open_storage(where, folder.study_path)
    study = storage.get_study_id_from_name(study_name(where, folder.spec().name))
    storage.create_new_trial(study, create_trial(state=TrialState.FAIL))
    print(f"study {where}; variable {VARIABLE in os.environ}; options {options}")
    for process in (os.getpid(), os.getppid()):
        print(Path(f"/proc/{process}/cmdline").read_text().replace("\0", " "))


_ACTIONS = [_well, _refuse, _until_stopped, _stubborn, _die, _bug, _environment, _leave, _study]
