"""Idle processors are lent, and taken back before an exclusive call begins."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from autoopt.errors import FailureKind, StageError
from autoopt.workers.process import Limits, Preload, call

PRELOAD = Preload()
CORES = sorted(os.sched_getaffinity(0))
LANE, WORK = (CORES[0],), (CORES[-1],)
needs_two = pytest.mark.skipif(len(CORES) < 2, reason="a single processor has none to lend")


class Borrower(threading.Thread):
    """A call that may also run on the lane, until it is told to end."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.end, self.note = folder / "end", folder / "note"
        self.seen: list[list[list[int]]] = []
        self._log = folder / "borrower.log"

    def run(self) -> None:
        limits = Limits(60, cores=WORK, spare=LANE)
        request = {"until": str(self.end), "note": str(self.note)}
        self.seen = call("called_functions:watch_cores", request, limits, PRELOAD, self._log)

    def wait_for(self, changes: int) -> None:
        end = time.monotonic() + 20
        while (not self.note.exists() or int(self.note.read_text() or 0) < changes) and time.monotonic() < end:
            time.sleep(0.01)


@needs_two
def test_a_call_leaves_lent_cores_for_an_exclusive_one_with_all_its_threads(tmp_path: Path) -> None:
    borrower = Borrower(tmp_path)
    borrower.start()
    borrower.wait_for(1)
    assert call("called_functions:cores", 0.3, Limits(60, cores=LANE, exclusive=True), PRELOAD, tmp_path / "log") == [
        *LANE
    ]
    borrower.wait_for(3)
    borrower.end.touch()
    borrower.join()
    both, alone = [sorted({*LANE, *WORK})] * 2, [[*WORK]] * 2
    settled = [threads for threads in borrower.seen if threads in (both, alone)]  # not those caught in the middle
    assert settled == [both, alone, both]


@needs_two
def test_a_call_that_begins_beside_an_exclusive_one_is_lent_nothing(tmp_path: Path) -> None:
    limits = Limits(60, cores=LANE, exclusive=True)
    arguments = ("called_functions:cores", 2.0, limits, PRELOAD, tmp_path / "exclusive.log")
    exclusive = threading.Thread(target=call, args=arguments)
    exclusive.start()
    time.sleep(0.7)
    late = Limits(60, cores=WORK, spare=LANE)
    assert call("called_functions:cores", 0.0, late, PRELOAD, tmp_path / "late.log") == [*WORK]
    exclusive.join()
    assert call("called_functions:cores", 0.0, late, PRELOAD, tmp_path / "later.log") == sorted({*LANE, *WORK})


def test_a_processor_that_does_not_exist_is_the_calls_own_failure(tmp_path: Path) -> None:
    with pytest.raises(StageError) as caught:
        call("called_functions:cores", 0.0, Limits(60, cores=(4096,)), PRELOAD, tmp_path / "log")
    assert caught.value.kind is FailureKind.ERROR
    assert call("called_functions:cores", 0.0, Limits(60), PRELOAD, tmp_path / "log") == CORES
