"""Run a job in this process, and leave its final state on disk however it ends."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from types import FrameType
from typing import TYPE_CHECKING, Any

from autoopt.jobfolder import JobFolder, JobStatus, ProcessMark, Progress

if TYPE_CHECKING:
    from autoopt.front import Front
    from autoopt.search.study_url import StudyUrl

CONTROLLER = "autoopt.search.controller:run_job"
"""What runs a job: ``f(folder, options) -> Front | None``. A name, so that tests can put a small one in its place."""

_STOPPING = b"\nstopping in good order, with the best so far on disk; once more (Ctrl-C) stops at once\n"
_INTERRUPTED = "stopped before its budget was used; it can be resumed"


@dataclass(frozen=True)
class Extras:
    """What a caller passes through to the search, and no file can hold: the fields of the controller's ``Options``.

    Our own, because importing the controller loads Optuna, which `autoopt.submit` can do without.
    """

    callbacks: Sequence[Any] = ()
    """Ray Tune's: TensorBoard, MLflow, W&B, …"""
    stopper: Any = None
    """One of Ray Tune's stoppers."""
    on_progress: Callable[[Progress], None] | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    """Set it to end the job in good order."""
    study: StudyUrl | None = None
    """The study's database, with the password that the job's files do not hold; None: what is known here."""


def execute(
    folder: JobFolder,
    extras: Extras,
    controller: str = CONTROLLER,
    *,
    when_stopped: JobStatus = JobStatus.INTERRUPTED,
) -> Front | None:
    """Run a job, new or interrupted, to its end.

    The first Ctrl-C (or SIGTERM) ends it in good order: what runs is told as interrupted, and the best so far is
    written. The second one ends it at once.

    Args:
        folder: the job's.
        extras: what no file can hold.
        controller: what runs it.
        when_stopped: what a job is that was stopped in good order. On a cluster nobody but who cancels it sends signals to its
            driver.

    Returns:
        The front; None where the job was stopped before there was one.

    Raises:
        JobError: another process runs it.
        AutooptError: whatever ended the search; the state says it too.
    """
    with folder.claimed(), _signals_to(extras.stop):
        folder.update(status=JobStatus.RUNNING, process=ProcessMark.of(os.getpid()), message="")
        status, message = when_stopped, _INTERRUPTED
        try:
            front = _named(controller)(folder, extras)
            if not extras.stop.is_set():
                status, message = JobStatus.DONE, ""
        except Exception as error:
            status, message = JobStatus.FAILED, f"{type(error).__name__}: {error}"
            raise
        finally:
            # Also for KeyboardInterrupt.
            folder.update(status=status, message=message)
    return front


def _named(controller: str) -> Callable[[JobFolder, Any], Front | None]:
    module, _, name = controller.partition(":")
    found: Callable[[JobFolder, Any], Front | None] = getattr(import_module(module), name)
    return found


@contextmanager
def _signals_to(stop: threading.Event) -> Iterator[None]:
    """While this lasts, SIGINT and SIGTERM set the event; a second one raises KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals; the caller has the event
        return

    def handle(number: int, frame: FrameType | None) -> None:
        del number, frame
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        os.write(2, _STOPPING)  # print is not safe in a signal's handler

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
