import dataclasses
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from fake_controller import BUG, DIE, ENTRY, ENVIRONMENT, LEAVE, REFUSE, STUBBORN, UNTIL_STOPPED, WELL

from autoopt.errors import BudgetError, JobError, SpaceError, TaskError, UserError
from autoopt.jobfolder import JobFolder, JobStatus, ProcessMark, Progress, write_json
from autoopt.jobs import Job, go_on, job, jobs, resume, search, submit
from autoopt.jobs.execute import Extras
from autoopt.records import to_json
from autoopt.task import Task

SOON_S = 20.0


def wait_until_running(running: Job) -> None:
    ends = time.monotonic() + SOON_S
    while running.progress().phase != "searching":
        assert time.monotonic() < ends, list(running.logs())
        time.sleep(0.02)


def as_if_asked_for(changed: Job, seed: int) -> None:
    """The seed says what the small controller does."""
    write_json(changed.folder.spec_path, to_json(dataclasses.replace(changed.spec, seed=seed)))


def test_a_submitted_job_runs_in_the_background_and_leaves_its_result(task: str) -> None:
    submitted = submit(task, name="a", seed=WELL)
    assert submitted.status() in {JobStatus.SUBMITTED, JobStatus.RUNNING, JobStatus.DONE}
    result = submitted.result(SOON_S)
    assert (result.status, result.progress.measured) == (JobStatus.DONE, 2)
    assert result.report_path == submitted.path / "report.html"
    assert result.bundle_path is None
    assert list(submitted.logs())[-1] == "decided 2"


def test_a_background_job_has_its_own_session_and_no_terminal(task: str) -> None:
    submitted = submit(task, name="a", seed=ENVIRONMENT)
    assert list(submitted.logs(follow=True)) == ["session True stdin /dev/null"]


def test_a_search_in_this_process_tells_its_progress(task: str) -> None:
    told: list[Progress] = []
    begun: list[Job] = []
    result = search(task, name="a", seed=WELL, on_progress=told.append, on_start=begun.append)
    assert result.status is JobStatus.DONE
    assert [progress.measured for progress in told] == [0, 1, 2]
    assert told[-1].best == ENTRY
    assert begun[0].id == "a"


def test_callbacks_reach_a_background_job(task: str, tmp_path: Path) -> None:
    mark = tmp_path / "called"
    submit(task, name="a", seed=WELL, callbacks=[lambda folder: mark.write_text(folder.name)]).wait(SOON_S)
    assert mark.read_text() == "a"


def test_a_task_without_a_file_is_handed_over(tmp_path: Path) -> None:
    split = (np.zeros((4, 2)), np.zeros(4))
    made = submit(Task(network="net.onnx", validation=split, test=split, name="my net"), "cpu", "3", seed=WELL)
    assert made.wait(SOON_S) is JobStatus.DONE
    assert made.spec.task == "task.pkl"
    assert made.folder.task_pickle.exists()
    assert "folders" in made.spec.options["imports"]
    assert made.id.startswith("my-net-cpu-")


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"task": "nowhere.py:task"}, TaskError, "nowhere.py is not a Python file"),
        ({"space": "quik"}, SpaceError, "quick"),
        ({"budget": "0m"}, BudgetError, "cannot be used"),
        ({"budget": "soon"}, BudgetError, "cannot be used"),
        ({"name": "../escape"}, JobError, "a job's name is"),
        ({"scenario": "multi_stream"}, SpaceError, "scenario"),
    ],
)
@pytest.mark.parametrize("begin", [submit, search])
def test_what_cannot_be_used_is_refused_before_there_is_a_folder(
    task: str, change: dict[str, str], kind: type[Exception], message: str, begin: object, tmp_path: Path
) -> None:
    asked = {"task": task, "space": "quick", "budget": "10m", "name": "a"} | change
    with pytest.raises(kind, match=message):
        begin(**asked)  # type: ignore[operator]  # either
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: {prunning: {}}\ndeployment: {engine: {onnxruntime: }}", 'no technique "prunning"'),
        ("deployment: {engine: {onnxruntme: }}", 'no engine "onnxruntme"; did you mean "onnxruntime"'),
        ("model: {structured_pruning: {ratoi: [0.1]}}\ndeployment: {engine: {onnxruntime: }}", 'no parameter "ratoi"'),
    ],
)
def test_unknown_names_in_a_space_are_refused_with_the_allowed_ones(
    task: str, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(SpaceError, match=message):
        submit(task, tmp_path / "mine.yaml")


def test_a_task_file_that_does_not_import_is_refused_by_submit(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import numpy\n1 / 0\n")
    with pytest.raises(TaskError, match=r"line 2.*ZeroDivisionError"):
        submit(f"{tmp_path / 'broken.py'}:task", name="a")
    assert not (tmp_path / "results").exists()


def test_a_search_that_is_refused_later_leaves_its_name_free(task: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="no good"):
        search(task, name="a", seed=REFUSE)
    assert not (tmp_path / "results" / "a").exists()
    assert search(task, name="a", seed=WELL).status is JobStatus.DONE


def test_a_name_that_is_taken_is_an_error_that_names_the_ways_out(task: str) -> None:
    search(task, name="a", seed=WELL)
    with pytest.raises(JobError, match=r"autoopt resume .*results/a.*--name"):
        search(task, name="a", seed=WELL)


def test_a_failed_background_job_says_why_and_where_its_log_is(task: str) -> None:
    failed = submit(task, name="a", seed=REFUSE)
    with pytest.raises(JobError, match=r"(?s)TaskError: the task is no good; mend it.*job\.log"):
        failed.result(SOON_S)
    assert "Traceback" in "\n".join(failed.logs())


def test_a_bug_ends_a_job_as_failed(task: str) -> None:
    failed = submit(task, name="a", seed=BUG)
    assert failed.wait(SOON_S) is JobStatus.FAILED
    assert failed.state().message.startswith("AttributeError")


def test_a_process_that_cannot_be_started_is_said(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/no/such/python")
    with pytest.raises(JobError, match=r"could not be started.*autoopt resume"):
        submit(task, name="a", seed=WELL)
    assert job("a").status() is JobStatus.FAILED


def test_a_killed_job_was_interrupted(task: str) -> None:
    killed = submit(task, name="a", seed=DIE)
    assert killed.wait(SOON_S) is JobStatus.INTERRUPTED
    assert "is gone" in killed.state().message


def test_what_a_killed_job_has_left_running_is_ended_when_it_is_resumed(task: str) -> None:
    killed = submit(task, name="a", seed=LEAVE)
    assert killed.wait(SOON_S) is JobStatus.INTERRUPTED
    left = ProcessMark.of(int((killed.path / "left").read_text()))
    assert left is not None
    as_if_asked_for(killed, WELL)
    killed.resume().wait(SOON_S)
    assert left.alive() is False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_job_in_good_order_and_it_can_be_resumed(task: str, number: int) -> None:
    running = submit(task, name="a", seed=UNTIL_STOPPED)
    wait_until_running(running)
    mark = running.state().process
    assert mark is not None
    os.kill(mark.pid, number)
    assert running.result(SOON_S).report_path is not None
    assert running.status() is JobStatus.INTERRUPTED
    as_if_asked_for(running, WELL)
    assert resume("a").result(SOON_S).status is JobStatus.DONE


def test_cancelling_leaves_the_best_so_far(task: str) -> None:
    running = submit(task, name="a", seed=UNTIL_STOPPED)
    wait_until_running(running)
    assert running.cancel() is JobStatus.CANCELLED
    assert running.status() is JobStatus.CANCELLED
    assert (running.path / "report.html").read_text() == "<html>so far</html>"


def test_cancelling_ends_a_stubborn_job_within_ten_seconds(task: str) -> None:
    running = submit(task, name="a", seed=STUBBORN)
    wait_until_running(running)
    mark = running.state().process
    assert mark is not None
    begun = time.monotonic()
    assert running.cancel() is JobStatus.CANCELLED
    assert time.monotonic() - begun < 10
    assert mark.alive() is False


def test_cancelling_an_ended_job_changes_nothing(task: str) -> None:
    search(task, name="a", seed=WELL)
    assert job("a").cancel() is JobStatus.DONE


def test_a_running_job_is_run_by_nobody_else(task: str) -> None:
    running = submit(task, name="a", seed=UNTIL_STOPPED)
    wait_until_running(running)
    with pytest.raises(JobError, match="running already"):
        resume("a")
    running.cancel()


def test_a_job_that_is_done_goes_on_only_with_a_larger_budget(task: str) -> None:
    search(task, name="a", budget="1m", seed=WELL)
    with pytest.raises(JobError, match=r"used its budget \(1m\)"):
        resume("a")
    assert go_on("a", budget="2m").status is JobStatus.DONE
    assert job("a").spec.budget == "2m"
    assert job("a").progress().seconds_used == 4, "a resumed job goes on counting"


def test_waiting_has_an_end_and_the_job_goes_on(task: str) -> None:
    running = submit(task, name="a", seed=UNTIL_STOPPED)
    with pytest.raises(TimeoutError, match=r"still .* after 0\.1 s"):
        running.wait(0.1)
    assert not running.status().ended
    running.cancel()


def test_jobs_are_listed_and_found_by_name_and_by_folder(task: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        search(task, name=name, seed=WELL)
    assert [each.id for each in jobs()] == ["a", "b"]
    assert job("b").path == job(tmp_path / "results" / "b").path
    with pytest.raises(JobError, match=r"no job 'c'.*a, b"):
        job("c")


def test_a_job_knows_what_was_asked_after_its_space_has_changed(task: str, tmp_path: Path) -> None:
    space = tmp_path / "mine.yaml"
    space.write_text("deployment: {engine: {onnxruntime: }}\n")
    made = search(task, space, "5 candidates", name="a", scenario="offline", store="cache", seed=WELL)
    space.unlink()
    spec = JobFolder(made.folder).spec()
    assert "onnxruntime" in spec.space_text
    assert "offline" in spec.space_text
    assert (spec.budget, spec.store) == ("5 candidates", str(tmp_path / "cache"))


def test_a_search_in_another_thread_leaves_signals_alone(task: str) -> None:
    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=search, args=(task,), kwargs={"name": "a", "seed": WELL})
    thread.start()
    thread.join()
    assert job("a").status() is JobStatus.DONE
    assert signal.getsignal(signal.SIGINT) is before


def test_what_is_passed_through_is_what_the_controller_takes() -> None:
    from autoopt.search.controller import Options

    assert {field.name for field in dataclasses.fields(Extras)} == {field.name for field in dataclasses.fields(Options)}


@pytest.mark.parametrize(
    ("store", "told"),
    [
        ("nonsense://bucket/p", "a protocol that is not known"),
        (Path("s3://bucket/p"), "has lost a slash"),
        (
            "ftp://user:secret1@127.0.0.1:1/p",
            r"store ftp://user:\*\*\*@127.0.0.1:1/p cannot be reached: .*Connection refused",
        ),
    ],
)
def test_a_store_that_cannot_be_used_is_told_before_there_is_a_job(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str | Path, told: str
) -> None:
    monkeypatch.setenv("AUTOOPT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match=told):
        submit(task, name="a", store=store)
    monkeypatch.setenv("AUTOOPT_STORE", str(store))
    with pytest.raises(UserError, match=told):
        submit(task, name="a")
    assert not (tmp_path / "results" / "a").exists()
