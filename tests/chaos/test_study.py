"""The study's database may be restarted, or not be reached for a while."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hosts import wait_until

from autoopt.testing.postgres import MissingServerError, PostgresServer, postgres_server

if TYPE_CHECKING:
    from conftest import NewJob, NewRow
    from running import RunningJob

GONE_S = 30.0


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    try:
        with postgres_server() as running:
            yield running
    except MissingServerError as missing:
        pytest.skip(str(missing))


def test_a_job_waits_for_its_database_and_goes_on(row: NewRow, new_job: NewJob, server: PostgresServer) -> None:
    told = row(f"PostgreSQL restarted, crashed, and gone for {GONE_S:.0f} s")
    url = server.new_database()
    job = new_job("stored").submit("small", "40 candidates", "--study", url)
    for mode, stages in (("fast", 4), ("immediate", 3)):
        _await(job, stages)
        server.restart(mode)
        told.injected += 1
    _await(job, 3)
    began = time.monotonic()
    server.stop()
    # Nothing to wait for but the time: that is the fault.
    time.sleep(GONE_S - (time.monotonic() - began))
    assert job.drivers(), "it waits"
    server.start()
    told.injected += 1
    job.await_end("done")
    told.lost, told.doubled = job.lost(job.keys), job.doubled()
    assert (told.lost, told.doubled) == (0, 0)
    states = dict(server.execute("SELECT state, count(*) FROM trials GROUP BY state", database=url.rpartition("/")[2]))
    assert "RUNNING" not in states
    assert "WAITING" not in states
    assert set(job.candidates["outcome"]) <= {"measured", "eliminated"}
    written = [path for path in job.folder.rglob("*") if path.is_file()]
    assert not [path for path in written if server.password.encode() in path.read_bytes()]


def _await(job: RunningJob, more: int) -> None:
    """So many more stages."""
    seen = len(job.keys)
    wait_until(lambda: len(job.keys) >= seen + more, 300, f"{more} more stages", lambda: job.log)
