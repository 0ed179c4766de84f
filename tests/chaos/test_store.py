"""A store that is full, read-only or damaged."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hosts import Hosts, wait_until
from running import ENDED

from autoopt.bundle import manifest
from autoopt.workers.store import LocalStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import NewJob, NewRow
    from running import RunningJob


def fill(disk: Path) -> None:
    with (disk / "ballast").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


def empty(disk: Path) -> None:
    (disk / "ballast").unlink()


def protect(disk: Path) -> None:
    """What is open may still be written; nothing else."""
    store = str(disk / "store")
    subprocess.run(["mount", "--bind", store, store], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", store], check=True)


def release(disk: Path) -> None:
    subprocess.run(["umount", "-l", str(disk / "store")], check=True)


FAULTS: dict[str, tuple[Callable[[Path], None], Callable[[Path], None], str]] = {
    "full": (fill, empty, "No space left on device"),
    "read-only": (protect, release, "Read-only file system"),
}


@pytest.mark.parametrize("small_disk", ["400m"], indirect=True)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_store_that_cannot_be_written_stops_the_job_which_goes_on_afterwards(
    fault: str, row: NewRow, new_job: NewJob, small_disk: Path, hosts: Hosts
) -> None:
    told = row(f"the store {fault}")
    harm, mend, said = FAULTS[fault]
    job = new_job("hindered", small_disk / "store").submit("small", "40 candidates")
    wait_until(lambda: len(job.keys) >= 5, 300, "a few stages", lambda: job.log)
    harm(small_disk)
    told.injected += 1
    state = wait_until(lambda: _ended(job), 150, "the job to stop", lambda: job.log)
    assert said in state["message"], state
    assert "resume" in state["message"]
    assert "Traceback" not in state["message"]
    assert len(state["message"].splitlines()) == 1
    mend(small_disk)
    before = job.keys
    assert len(before) >= 5
    job.resume()
    job.await_end("done")
    assert job.keys[: len(before)] == before
    told.lost, told.doubled = job.lost(job.keys), job.doubled()
    assert (told.lost, told.doubled) == (0, 0)


def _ended(job: RunningJob) -> dict[str, object] | None:
    state = job.status()
    return state if state["status"] in ENDED else None


def test_artifacts_that_were_truncated_are_computed_again(row: NewRow, new_job: NewJob, tmp_path: Path) -> None:
    told = row("artifacts truncated")
    job = new_job("whole").submit("plain", "20 candidates")
    job.await_end("done")
    store = LocalStore(job.store)

    # The bundle's own artifact alone: what was measured stands, and what is to be deployed must be whole all the same.
    chosen = manifest.read(job.folder / "bundle").candidate
    artifact = job.candidates.set_index("id")["artifact_key"][chosen.id]
    _truncate(store, artifact)
    told.injected += 1
    second = new_job("second", job.store).submit("plain", "20 candidates")
    second.await_end("done")
    assert artifact in second.keys
    told.doubled += len(set(second.keys) - {artifact})
    assert (second.folder / "bundle" / "bundle.json").exists()

    for key in job.keys:
        _truncate(store, key)
    told.injected += len(job.keys)
    shutil.rmtree(store.root / "notes")
    third = new_job("third", job.store).submit("plain", "20 candidates")
    third.await_end("done")
    assert sorted(third.keys) == sorted(job.keys), "each again, and once"
    told.lost = third.lost(third.keys)
    assert (told.lost, told.doubled) == (0, 0)
    assert set(third.candidates["outcome"]) == {"measured"}


def _truncate(store: LocalStore, key: str) -> None:
    """Cut its largest file in half, as a disk that was full when it was copied does."""
    folder = store.root / key[:2] / key
    largest = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    with largest.open("r+b") as file:
        file.truncate(largest.stat().st_size // 2)
