"""The time line of a job, a line a stage."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest

from autoopt.errors import StoreError
from autoopt.records import StageRun
from autoopt.workers.stages.execute import TIMELINE, note

RUN = StageRun("build", "onnxruntime", "0" * 64, cached=False, started_at=0.0, seconds=1.0)


def test_a_line_is_written_whole_or_not_at_all(small_disk: Path) -> None:
    note(RUN, small_disk)
    fill(small_disk / "ballast")
    with pytest.raises(StoreError, match=r"No space left on device.*resume the job"):
        until_full(small_disk)
    (small_disk / "ballast").unlink()
    note(RUN, small_disk)
    lines = (small_disk / TIMELINE).read_text().splitlines()
    assert len(lines) >= 2
    assert {json.loads(line)["name"] for line in lines} == {"onnxruntime"}


def fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1024))


def until_full(folder: Path) -> None:
    """The file's last page has some room yet."""
    for _ in range(100):
        note(RUN, folder)
