"""The processes of a node call through one warmed parent."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autoopt.errors import StageError
from autoopt.records.job import ProcessMark
from autoopt.workers import process
from autoopt.workers.process import Limits, Preload, call

PRELOAD = Preload(("json",), ("colorsys",))
CALLER = """
import sys
from pathlib import Path
from autoopt.workers.process import Limits, Preload, call, share
share(Path(sys.argv[2]))
sys.path.insert(0, sys.argv[1])
preload = Preload(("json",), ("colorsys",))
print(call("called_functions:where", None, Limits(60), preload, Path(sys.argv[3]))["parent"], flush=True)
call("called_functions:sleep_with_child", {"note": sys.argv[4], "seconds": 300}, Limits(300), preload, Path(sys.argv[3]))
"""


@pytest.fixture
def meeting(tmp_path: Path) -> Iterator[Path]:
    process.shutdown()
    process.share(tmp_path / "meeting")
    yield tmp_path / "meeting"
    process.shutdown()
    process.share(None)


def other(meeting: Path, folder: Path, name: str) -> tuple[subprocess.Popen[str], int]:
    """A process that shares the parent and has a call running; with the parent's number."""
    here, note = Path(__file__).parent, folder / f"{name}.note"
    command = [sys.executable, "-c", CALLER, str(here), str(meeting), str(folder / f"{name}.log"), str(note)]
    caller = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert caller.stdout is not None
    with caller.stdout as told:
        parent = int(told.readline())
    wait_until(lambda: note.exists() and bool(note.read_text()))
    return caller, parent


def wait_until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    assert true()


def calling(folder: Path, name: str) -> list[int]:
    return [int(pid) for pid in (folder / f"{name}.note").read_text().split()]


def test_who_started_the_parent_may_go_and_the_others_calls_go_on(meeting: Path, tmp_path: Path) -> None:
    first, parent = other(meeting, tmp_path, "first")
    second, same = other(meeting, tmp_path, "second")
    assert parent == same
    assert call("called_functions:where", None, Limits(60), PRELOAD, tmp_path / "log")["parent"] == parent
    first.kill()
    first.wait()
    wait_until(lambda: not any(map(ProcessMark.of, calling(tmp_path, "first"))))
    assert ProcessMark.of(calling(tmp_path, "second")[0])
    assert call("called_functions:where", None, Limits(60), PRELOAD, tmp_path / "log")["parent"] == parent
    second.kill()
    second.wait()
    process.shutdown()
    wait_until(lambda: ProcessMark.of(parent) is None)
    assert not any(map(ProcessMark.of, calling(tmp_path, "second")))


def test_a_killed_parent_is_started_again(meeting: Path, tmp_path: Path) -> None:
    def parent() -> int:
        return int(call("called_functions:where", None, Limits(60), PRELOAD, tmp_path / "log")["parent"])

    before = parent()
    os.kill(before, 9)
    wait_until(lambda: ProcessMark.of(before) is None)
    assert parent() not in {before, os.getpid()}
    assert {path.suffix for path in meeting.iterdir()} == {"", ".log"}


def test_what_is_imported_later_is_there_after_a_while(meeting: Path, tmp_path: Path) -> None:
    assert meeting.parent == tmp_path
    end = time.monotonic() + 20
    while not call("called_functions:imported", "colorsys", Limits(60), PRELOAD, tmp_path / "log"):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_meeting_place_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    process.share(tmp_path / "file" / "meeting")
    try:
        with pytest.raises(StageError, match="set TMPDIR"):
            call("called_functions:where", None, Limits(60), Preload(("string",)), tmp_path / "log")
    finally:
        process.share(None)


def test_a_meeting_place_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir(mode=0o777)
    open_to_all.chmod(0o777)
    process.share(open_to_all)
    try:
        with pytest.raises(StageError, match="open to other users"):
            call("called_functions:where", None, Limits(60), Preload(("string",)), tmp_path / "log")
    finally:
        process.share(None)


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that keeps the node's parents, with an environment of its own."""
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(Path(process.__file__).parents[3])]))
    started = subprocess.Popen(
        ["sleep", "600"], env={"PYTHONPATH": path, "PATH": os.environ["PATH"], "LD_PRELOAD": "libm.so.6"}
    )
    yield started
    started.kill()
    started.wait()


def test_a_parent_with_a_keeper_waits_for_the_next_caller_and_ends_with_its_keeper(
    keeper: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    def parent() -> int:
        process.share(tmp_path / "meeting", keeper.pid)
        return int(call("called_functions:where", None, Limits(60), PRELOAD, tmp_path / "log")["parent"])

    try:
        before = parent()
        process.shutdown()
        time.sleep(1.5)
        assert ProcessMark.of(before), "nobody calls, and it waits"
        assert parent() == before
        process.shutdown()
        keeper.kill()
        keeper.wait()
        wait_until(lambda: ProcessMark.of(before) is None)
    finally:
        process.shutdown()
        process.share(None)


def test_a_parent_that_is_kept_has_nothing_of_who_came_first(
    keeper: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next caller may be another job: it meets no code and no password of this one's, which the calls get all the same."""
    monkeypatch.setenv("TOLD", "a password")
    monkeypatch.chdir(tmp_path)
    process.share(tmp_path / "meeting", keeper.pid)
    try:
        told = call("called_functions:where", None, Limits(60), PRELOAD, tmp_path / "log")
        assert told["variable"] == "a password"
        assert told["folder"] == str(tmp_path)
        kept = Path("/proc", str(told["parent"]))
        assert b"a password" not in (kept / "environ").read_bytes()
        assert b"LD_PRELOAD" not in (kept / "environ").read_bytes(), (
            "what it calls is measured with this process's allocator"
        )
        assert (kept / "cwd").resolve() == Path("/")
    finally:
        process.shutdown()
        process.share(None)
