"""A call in a fresh process: results, failures, limits."""

import os
import tempfile
import threading
import time
from pathlib import Path

import pytest

from autoopt.errors import FailureKind, StageError
from autoopt.records.job import ProcessMark
from autoopt.workers.process import Limits, Preload, call, share, shutdown

LIMITS = Limits(timeout_s=60)
NOTHING = Preload()
ENGINES = Preload(("numpy", "onnx", "onnxruntime", "openvino", "torch"))


def called(name: str, request: object, log: Path, limits: Limits = LIMITS, preload: Preload = NOTHING) -> object:
    return call(f"called_functions:{name}", request, limits, preload, log)


def failure(name: str, request: object, log: Path, limits: Limits = LIMITS) -> StageError:
    with pytest.raises(StageError) as caught:
        called(name, request, log, limits)
    return caught.value


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "call.log"


def gone_within(pids: list[int], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while any(map(ProcessMark.of, pids)) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(map(ProcessMark.of, pids))


def test_a_request_of_ten_megabytes_comes_back_unchanged(log: Path) -> None:
    request = {"text": "ü" * 5_000_000, "numbers": [1, 2.5, None, True]}
    assert called("echo", request, log) == request


def test_every_call_has_a_process_of_its_own_with_the_callers_surroundings(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOLD", "so")
    first, second = called("where", None, log), called("where", None, log)
    assert first["pid"] != second["pid"] != os.getpid()
    assert first["parent"] == second["parent"]
    assert (first["folder"], first["variable"]) == (str(tmp_path), "so")


@pytest.mark.parametrize("shared", [False, True])
def test_what_a_killed_call_left_in_its_temporary_folder_is_gone(*, shared: bool, log: Path, tmp_path: Path) -> None:
    note, meeting = tmp_path / "note", tmp_path / "meeting"
    share(meeting if shared else None)
    try:
        failure("litter", str(note), log)
    finally:
        shutdown()
        share(None)
    left = Path(note.read_text())
    assert left.parent.parent == (meeting if shared else Path(tempfile.gettempdir()))
    assert not left.parent.exists()


def test_cores_and_threads_are_as_limited(log: Path) -> None:
    core = max(os.sched_getaffinity(0))
    found = called("surroundings", None, log, Limits(60, cores=(core,), threads=3), Preload(("torch",)))
    assert found == {"cores": [core], "omp": "3", "torch": 3}


def test_an_exception_is_an_error_in_one_line_with_its_traceback_in_the_log(log: Path) -> None:
    error = failure("fail", None, log)
    assert (error.kind, error.message) == (FailureKind.ERROR, "ValueError: first line second line")
    assert "called_functions.py" in error.log
    assert error.log.rstrip().endswith("second line")
    assert log.read_text() == error.log


def test_a_stage_error_arrives_as_itself(log: Path) -> None:
    error = failure("diverge", None, log)
    assert (error.kind, error.message) == (FailureKind.DIVERGED, "NaN in epoch 3")


@pytest.mark.parametrize(("function", "name"), [("segfault", "SIGSEGV"), ("kill_itself", "SIGKILL")])
def test_a_signal_is_a_crash_with_its_name(function: str, name: str, log: Path) -> None:
    error = failure(function, None, log)
    assert error.kind is FailureKind.CRASHED
    assert name in error.message


def test_what_was_printed_before_a_crash_is_in_the_log(log: Path) -> None:
    error = failure("segfault", None, log)
    assert "before the end" in error.log
    assert "Segmentation fault" in error.log


@pytest.mark.parametrize(
    ("function", "says"), [("leave", "without a result"), ("not_json", "is not JSON"), ("missing", "missing")]
)
def test_a_call_without_a_result_says_why(function: str, says: str, log: Path) -> None:
    error = failure(function, None, log)
    assert error.kind is FailureKind.ERROR
    assert says in error.message


def test_a_hanging_call_is_killed_in_time_with_everything_it_started(log: Path, tmp_path: Path) -> None:
    note = tmp_path / "pids"
    start = time.monotonic()
    error = failure("sleep_with_child", {"note": str(note), "seconds": 300}, log, Limits(timeout_s=1.5))
    assert error.kind is FailureKind.TIMED_OUT
    assert "1.5 s" in error.message
    assert time.monotonic() - start < 5
    assert gone_within([int(pid) for pid in note.read_text().split()], 2)


def test_what_a_finished_call_leaves_behind_is_killed(log: Path, tmp_path: Path) -> None:
    pids = called("sleep_with_child", {"note": str(tmp_path / "pids"), "seconds": 0}, log)
    assert gone_within(pids, 2)


def test_a_call_beyond_its_memory_is_killed(log: Path) -> None:
    error = failure("allocate", None, log, Limits(60, memory_bytes=300_000_000))
    assert error.kind is FailureKind.OUT_OF_MEMORY
    assert "300 MB" in error.message


def test_a_call_within_its_memory_is_not_killed(log: Path) -> None:
    assert called("echo", 1, log, Limits(60, memory_bytes=300_000_000)) == 1


@pytest.mark.parametrize("where", ["a folder that is watched", "its temporary files"])
def test_a_call_that_writes_more_than_it_may_is_killed(where: str, log: Path, tmp_path: Path) -> None:
    watched = tmp_path / "out"
    watched.mkdir()
    limits = Limits(60, disk_bytes=50_000_000, folders=(str(watched),))
    error = failure("fill_disk", str(watched) if where.startswith("a folder") else None, log, limits)
    assert error.kind is FailureKind.OUT_OF_SPACE
    assert "50 MB" in error.message


def test_a_log_that_cannot_be_written_costs_no_call(log: Path, small_disk: Path) -> None:
    (small_disk / "rest").write_bytes(bytes(2_000_000))
    full = small_disk / "log"
    assert failure("print_much", 5_000_000, full).message == "RuntimeError: at the very end"
    assert "at the very end" in failure("print_much", 5_000_000, full).log
    assert failure("fail", None, small_disk).log, "a folder is no file"
    assert called("echo", 1, log) == 1


def test_a_failed_allocation_is_out_of_memory(log: Path) -> None:
    assert failure("raise_memory_error", None, log).kind is FailureKind.OUT_OF_MEMORY


def test_endless_output_does_not_fill_the_disk_and_its_end_is_kept(log: Path) -> None:
    error = failure("print_much", 100_000_000, log)
    assert error.message == "RuntimeError: at the very end"
    assert "at the very end" in error.log
    assert log.stat().st_size < 10_100_000
    assert log.read_text().rstrip().endswith("RuntimeError: at the very end")


def test_a_call_may_close_its_output(log: Path) -> None:
    assert called("close_output", None, log) < 0.2


def test_calls_from_several_threads_run_at_once(log: Path, tmp_path: Path) -> None:
    results: dict[int, object] = {}

    def one(number: int) -> None:
        results[number] = called("sleep_with_child", {"note": str(tmp_path / f"{number}"), "seconds": 1}, log)

    start = time.monotonic()
    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({tuple(pids) for pids in results.values()}) == 4
    assert time.monotonic() - start < 3.5


def test_runtimes_work_with_several_threads_after_the_fork(log: Path) -> None:
    differences = called("run_engines", None, log, Limits(60, threads=2), ENGINES)
    assert max(differences) < 1e-2


def test_a_warm_call_costs_little(log: Path) -> None:
    called("echo", None, log, preload=ENGINES)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        called("echo", None, log, preload=ENGINES)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.1


def test_a_module_that_is_not_installed_is_left_out_of_preloading(log: Path) -> None:
    assert called("echo", 1, log, preload=Preload(("no_such_module_at_all",))) == 1


def test_a_preloaded_module_that_starts_a_thread_makes_the_child_spawned_afresh(log: Path, tmp_path: Path) -> None:
    (tmp_path / "thread_starter.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(300,), daemon=True).start()\n"
    )
    import sys

    sys.path.insert(0, str(tmp_path))
    try:
        assert called("threads", None, log, preload=Preload(("thread_starter",))) == 1
        with pytest.raises(StageError, match="ValueError: first line"):
            called("fail", None, log, preload=Preload(("thread_starter",)))
    finally:
        sys.path.remove(str(tmp_path))


def test_a_killed_parent_is_an_interruption_and_the_next_call_starts_another(log: Path, tmp_path: Path) -> None:
    parent = called("where", None, log)["parent"]
    note = tmp_path / "pids"
    threading.Timer(1.0, os.kill, (parent, 9)).start()
    error = failure("sleep_with_child", {"note": str(note), "seconds": 300}, log)
    assert error.kind is FailureKind.INTERRUPTED
    assert gone_within([int(pid) for pid in note.read_text().split()][:2], 2)
    assert called("where", None, log)["parent"] != parent


def test_after_shutdown_nothing_runs(log: Path) -> None:
    parent = called("where", None, log)["parent"]
    shutdown()
    assert ProcessMark.of(parent) is None
