"""The time line of a job, a line a stage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autoopt.errors import StoreError
from autoopt.records import StageRun
from autoopt.workers.stages.execute import TIMELINE, note

RUN = StageRun("build", "onnxruntime", "0" * 64, False, 0.0, 1.0)


def test_a_line_is_written_whole_or_not_at_all(small_disk: Path) -> None:
    note(RUN, small_disk)
    with (small_disk / "ballast").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(1024))
    with pytest.raises(StoreError, match="No space left on device.*resume the job"):
        for _ in range(100):  # the last page has some room
            note(RUN, small_disk)
    (small_disk / "ballast").unlink()
    note(RUN, small_disk)
    lines = (small_disk / TIMELINE).read_text().splitlines()
    assert len(lines) >= 2
    assert {json.loads(line)["name"] for line in lines} == {"onnxruntime"}
