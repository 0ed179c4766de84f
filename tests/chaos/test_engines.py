"""An engine may go wrong in every way: that is its candidate's failure, and nothing else's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from autoopt.workers.process.supervised import LOG_BYTES, TAIL_BYTES

if TYPE_CHECKING:
    from conftest import NewJob, NewRow
    from hosts import Hosts

CLASSES = {
    "segfaulting": "crashed",
    "hanging": "timed out",
    "hungry": "out of memory",
    "flooding": "out of space",
    "babbling": "timed out",
}


def test_an_engine_that_goes_wrong_costs_its_candidate_only(
    row: NewRow, new_job: NewJob, hosts: Hosts, tmp_path: Path
) -> None:
    told = row("an engine segfaults, hangs, eats memory, fills the disk, prints garbage")
    job = new_job("planted").submit("planted", "20 candidates")
    job.await_end("done")
    candidates = job.candidates.set_index("engine")
    failed = candidates[candidates["outcome"] == "failed"]
    told.injected, told.doubled, told.lost = len(failed), job.doubled(), job.lost(job.keys)
    assert dict(failed["failure"]) == CLASSES
    assert "SIGSEGV" in failed["message"]["segfaulting"]
    assert "SIGSEGV" in failed["log"]["segfaulting"]
    for engine in ("hanging", "hungry", "flooding"):
        assert f"{engine}: about to" in failed["log"][engine], "the log's end is with the outcome"
    assert failed["log"]["babbling"]
    logs = list((job.folder / "logs").iterdir())
    assert max(log.stat().st_size for log in logs) < LOG_BYTES + 2 * TAIL_BYTES
    assert {"pytorch", "onnxruntime"} <= set(candidates[candidates["outcome"] == "measured"].index)
    assert not list((job.store / "scratch").iterdir()), "what was written is gone"

    # The nodes and their lanes serve the next one: both of them, and nothing is left of the last.
    for node in (hosts.head, hosts.worker):
        assert node is not None
        assert not job.at_work(node)
    following = new_job("afterwards", tmp_path / "another store").submit("plain", "20 candidates")
    following.await_end("done")
    assert set(following.candidates["outcome"]) == {"measured"}
    assert (told.lost, told.doubled) == (0, 0)
