import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from autoopt.errors import JobError
from autoopt.jobfolder import FrontEntry, JobFolder, JobSpec, JobStatus, ProcessMark, Progress, create
from autoopt.records import from_json, to_json

SPEC = JobSpec(name="a", task="/t.py:task", space="quick", space_text="x: 1\n", budget="10m", options={"trials": 3})
ENTRY = FrontEntry("0123456789ab", "network unchanged", speedup=2.0, latency_ms=0.5, score=0.93, score_drop=0.001)


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    return create(tmp_path / "results" / "a", SPEC)


def test_a_spec_comes_back_as_it_was_written(folder: JobFolder) -> None:
    assert JobFolder(folder.path).spec() == SPEC


def test_a_progress_survives_the_disk(folder: JobFolder) -> None:
    progress = Progress("searching", 3, 2, 1, (ENTRY,), ENTRY, "accuracy", 4.5, 10.0, "http://127.0.0.1:8265")
    folder.update(status=JobStatus.RUNNING, progress=progress)
    assert folder.state().progress == progress
    assert progress.decided == 6


def test_an_update_leaves_the_other_fields_alone(folder: JobFolder) -> None:
    folder.update(message="hello")
    assert folder.update(status=JobStatus.DONE).message == "hello"


def test_an_existing_folder_is_refused_and_the_way_out_is_named(folder: JobFolder) -> None:
    with pytest.raises(JobError, match=r"autoopt resume .*/a.*--name"):
        create(folder.path, SPEC)


def test_a_running_job_whose_process_is_gone_was_interrupted(folder: JobFolder) -> None:
    child = subprocess.Popen(["sleep", "60"])
    folder.update(status=JobStatus.RUNNING, process=ProcessMark.of(child.pid))
    assert folder.state().status is JobStatus.RUNNING
    child.kill()
    child.wait()
    assert folder.state().status is JobStatus.INTERRUPTED


def test_a_zombie_is_gone(folder: JobFolder) -> None:
    child = subprocess.Popen(["true"])
    while ProcessMark.of(child.pid):
        pass  # it ends at once, and is not waited for
    assert ProcessMark.of(child.pid) is None
    child.wait()


def test_a_number_taken_again_is_another_process(folder: JobFolder) -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        mark = ProcessMark.of(child.pid)
        assert mark is not None
        folder.update(status=JobStatus.RUNNING, process=replace(mark, started_ticks=mark.started_ticks - 1))
        assert folder.state().status is JobStatus.INTERRUPTED
        child.kill()


def test_a_process_of_another_machine_is_not_called_gone(folder: JobFolder) -> None:
    folder.update(status=JobStatus.RUNNING, process=ProcessMark(1, 1, "boot", "another-machine"))
    assert folder.state().status is JobStatus.RUNNING


def test_the_right_to_run_a_job_has_one_holder_until_that_dies(folder: JobFolder) -> None:
    hold = (
        "import sys,time; from pathlib import Path; from autoopt.jobfolder import JobFolder\n"
        "with JobFolder(Path(sys.argv[1])).claimed(): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", hold, str(folder.path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        with pytest.raises(JobError, match="being run by"), folder.claimed():
            pass
        child.kill()
    with folder.claimed():
        pass


def test_a_folder_without_a_job_says_where_to_look(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="autoopt jobs"):
        JobFolder(tmp_path).spec()


def test_a_damaged_state_is_an_error_that_names_the_file(folder: JobFolder) -> None:
    folder.state_path.write_text('{"status": "runn')
    with pytest.raises(JobError, match=r"state\.json is damaged"):
        folder.state()


def test_a_state_of_a_newer_writer_can_be_read(folder: JobFolder) -> None:
    data = json.loads(folder.state_path.read_text()) | {"news": 1}
    folder.state_path.write_text(json.dumps(data))
    assert folder.state().status is JobStatus.SUBMITTED


def test_records_of_a_job_survive_json() -> None:
    assert from_json(JobSpec, json.loads(json.dumps(to_json(SPEC)))) == SPEC
