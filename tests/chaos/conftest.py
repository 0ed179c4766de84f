"""A cluster of two hosts for the faults, and the table of what they did."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.append(str(HERE))

from hosts import Hosts, marked, two_hosts  # noqa: E402 (they stand beside this file)
from ledger import RESULTS, Ledger, Row  # noqa: E402
from running import RunningJob  # noqa: E402

LEDGER = pytest.StashKey[Ledger]()
ROW = pytest.StashKey[Row]()

NewRow = Callable[[str], Row]
NewJob = Callable[..., RunningJob]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.chaos)
            item.add_marker(pytest.mark.timeout(2400))


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LEDGER] = Ledger()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    row = item.stash.get(ROW, None)
    if row is not None and report.when == "call":
        row.passed, row.seconds = report.passed, report.duration
    return report  # type: ignore[return-value]  # pytest's way of a wrapper


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    ledger = config.stash[LEDGER]
    if not ledger.rows:
        return
    terminalreporter.section("what survived")
    for line in ledger.shown():
        terminalreporter.write_line(line)
    if wanted := os.environ.get(RESULTS):
        ledger.write(Path(wanted))


@pytest.fixture
def row(request: pytest.FixtureRequest) -> NewRow:
    """Begin the fault's line in the table."""

    def begin(fault: str) -> Row:
        row = Row(fault)
        request.node.stash[ROW] = row
        request.config.stash[LEDGER].rows.append(row)
        return row

    return begin


@pytest.fixture(scope="session")
def running_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    first, *others = sorted(os.sched_getaffinity(0))
    if not others:
        pytest.skip("two hosts need two cores")
    with two_hosts(tmp_path_factory.mktemp("chaos"), (first, others[0])) as hosts:
        yield hosts
    assert not marked(hosts.mark), "processes were left"


@pytest.fixture
def hosts(running_hosts: Hosts) -> Iterator[Hosts]:
    """The cluster, whole; the jobs of a test end with it."""
    running_hosts.start()
    running_hosts.told.clear()
    yield running_hosts
    running_hosts.end_jobs()


@pytest.fixture
def new_job(hosts: Hosts, tmp_path: Path) -> NewJob:
    """A job that has not been submitted, with a store of the test's own."""

    def make(name: str, store: Path | None = None) -> RunningJob:
        return RunningJob(hosts, f"{name}-{int(time.time()) % 100000}", store or tmp_path / "store")

    return make
